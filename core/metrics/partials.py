"""How clearly the partials of a sound stand out from one another and from noise.

In: power spectra of a waveform at 16 kHz, window 2048 samples (128 ms), hop 1024, with no cell at
zero. Out: figures of `core.metrics.quality`, whose docstring defines them, and features of
`core.metrics.timbre`. All functions return None or empty tensors for no frames.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch.nn import functional as F

from core.metrics.spectra import ANALYSIS_RATE

WINDOW, HOP = 2048, 1024  # samples; partials 30 Hz apart stay apart
BIN_HZ = ANALYSIS_RATE / WINDOW
FLATNESS_HZ = (100, 7_000)
OCTAVES_HZ = (100, 200, 400, 800, 1_600, 3_200, 6_400)
CONTRAST_SHARE = 0.2  # of an octave's bins, for its peaks and for its valleys
HARMONIC_BELOW_HZ = 6_000
MEDIAN_FRAMES, MEDIAN_BINS = 9, 17  # 0.6 s along time, 130 Hz along frequency


def _bins(low_hz: float, high_hz: float) -> slice:
    return slice(round(low_hz / BIN_HZ), round(high_hz / BIN_HZ))


def spectral_flatness(power: torch.Tensor) -> float | None:
    """Return the flatness of power spectra [L, 1025]; None where L is 0."""
    band = power[:, _bins(*FLATNESS_HZ)]
    return float((band.log().mean(dim=1).exp() / band.mean(dim=1)).mean()) if len(band) else None


def spectral_contrast_db(power: torch.Tensor) -> float | None:
    """Return the mean contrast of power spectra [L, 1025] in dB; None where L is 0."""
    return float(octave_contrasts_db(power).mean()) if len(power) else None


def octave_contrasts_db(power: torch.Tensor) -> torch.Tensor:
    """Return the contrast [L, 6] in dB of each octave of power spectra [L, 1025]."""
    contrasts = []
    for octave in pairwise(OCTAVES_HZ):
        ordered = power[:, _bins(*octave)].sort(dim=1).values
        count = max(1, round(CONTRAST_SHARE * ordered.shape[1]))
        peaks, valleys = ordered[:, -count:].mean(dim=1), ordered[:, :count].mean(dim=1)
        contrasts.append(10 * (peaks / valleys).log10())
    return torch.stack(contrasts, dim=1)


def octave_flatness_db(power: torch.Tensor) -> torch.Tensor:
    """Return geometric over arithmetic mean [L, 6] in dB of each octave of spectra [L, 1025]."""
    octaves = [power[:, _bins(*octave)] for octave in pairwise(OCTAVES_HZ)]
    means = [octave.log().mean(dim=1).exp() / octave.mean(dim=1) for octave in octaves]
    return 10 * torch.stack(means, dim=1).log10()


def octave_harmonic_shares(power: torch.Tensor) -> torch.Tensor:
    """Return the share of steady partials [L, 6] in each octave of spectra [L, 1025]."""
    band, harmonic = harmonic_power(power)
    shares = [
        harmonic[:, _bins(*octave)].sum(dim=1) / band[:, _bins(*octave)].sum(dim=1)
        for octave in pairwise(OCTAVES_HZ)
    ]
    return torch.stack(shares, dim=1)


def harmonic_share(power: torch.Tensor) -> float | None:
    """Return the share of steady partials in power spectra [L, 1025]; None where L is 0."""
    band, harmonic = harmonic_power(power)
    return float(harmonic.sum() / band.sum()) if len(band) else None


def harmonic_power(power: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Separate the steady partials in power spectra [L, 1025].

    Returns:
        Their part below 6 kHz [L, 768], and the harmonic power in each cell of it.
    """
    band = power[:, _bins(0, HARMONIC_BELOW_HZ)]
    magnitude = band.sqrt()
    steady = _median(magnitude.T, MEDIAN_FRAMES).T.square()
    stroke = _median(magnitude, MEDIAN_BINS).square()
    return band, band * steady / (steady + stroke).clamp_min(1e-20)


def _median(rows: torch.Tensor, width: int) -> torch.Tensor:
    """Return the running median of each row [R, N]; the ends are repeated outwards."""
    if rows.numel() == 0:
        return rows
    padded = F.pad(rows[None], (width // 2, width // 2), mode="replicate")[0]
    return padded.unfold(1, width, 1).median(dim=-1).values
