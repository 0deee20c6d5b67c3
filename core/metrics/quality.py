"""How clean audio sounds by itself, to be compared with recordings of the target domain.

`clipped_fraction`: fraction of samples at full scale, 0 to 1; clean audio has 0.
`silence_fraction`: fraction of 50 ms frames below -60 dBFS, 0 to 1.
`spectral_flatness`: geometric over arithmetic mean of the power spectrum from 100 Hz to 7 kHz, mean
    over frames; from 0 (a pure tone) to about 0.56 (white noise). Johnston 1988, "Transform coding
    of audio signals using perceptual noise criteria".
`spectral_contrast_db`: level of the strongest over the weakest fifth of the bins in each octave,
    mean over octaves and frames, in dB from 0. Clear partials score high, smeared and noisy sound
    low. Jiang et al. 2002, "Music type classification by spectral contrast feature".
`harmonic_share`: share of the energy below 6 kHz that median filtering assigns to steady partials
    and not to vertical strokes, 0 to 1. Sound whose partials waver and melt together scores low,
    and so do drums. Fitzgerald 2010, "Harmonic/percussive separation using median filtering".
`out_of_band_share`: share of the energy above the frequency below which 99 % of the target domain's
    energy lies; 0 to 1, and 0.01 in the domain itself.

Conventions: no samples are an error (AudioError). Silence has a silence_fraction of 1 and a
clipped_fraction of 0; all other figures are None. Spectra are of frames no more than 40 dB below
the file's loud ones; of a file longer than two minutes they are of 12 excerpts of 10 s, evenly
spread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from core.metrics.partials import (
    HOP,
    WINDOW,
    harmonic_share,
    spectral_contrast_db,
    spectral_flatness,
)
from core.metrics.spectra import (
    ANALYSIS_RATE,
    Waveform,
    at_analysis_rate,
    frame_blocks,
    power_blocks,
    sounding,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

FULL_SCALE = 32_766 / 32_768  # one 16-bit step below the top is clipped too
SILENCE_DBFS = -60.0
SILENCE_HOP = ANALYSIS_RATE // 20  # samples in 50 ms

EXCERPT = 10 * ANALYSIS_RATE
MAX_EXCERPTS = 12

SPECTRAL_FLOOR = 1e-7  # of the mean power of a bin

ROLLOFF_SHARE = 0.99

# Four drum kits and white noise have a lower share or more flatness, and of 40 pieces with some
# noise and drums beside them none has.
LEAST_HARMONIC_SHARE = 0.5
MOST_FLATNESS = 0.25


def is_unpitched(figures: Mapping[str, float | None]) -> bool:
    """Tell from `evaluate`'s figures whether audio is mostly drums or noise; silence is not."""
    share, flatness = figures.get("harmonic_share"), figures.get("spectral_flatness")
    if share is None or flatness is None:
        return False
    return share < LEAST_HARMONIC_SHARE or flatness > MOST_FLATNESS


def evaluate(waveform: npt.NDArray[np.floating], sample_rate: int) -> dict[str, float | None]:
    """Compute the figures that need the file alone: all but `out_of_band_share`.

    Args:
        waveform: float [T]; clipping is counted before any resampling.
        sample_rate: In Hz.

    Returns:
        The figures in the order of the module's docstring; None where undefined.

    Raises:
        AudioError: Not a mono waveform of finite floats with at least one sample.
    """
    resampled = at_analysis_rate(waveform, sample_rate, name="output")
    power = power_spectrogram(resampled)
    return {
        "clipped_fraction": clipped_fraction(waveform),
        "silence_fraction": silence_fraction(resampled),
        "spectral_flatness": spectral_flatness(power),
        "spectral_contrast_db": spectral_contrast_db(power),
        "harmonic_share": harmonic_share(power),
    }


def clipped_fraction(waveform: npt.NDArray[np.floating]) -> float:
    """Return the fraction of samples [T], at the file's own rate, that are at full scale."""
    return float(np.mean(np.abs(waveform) >= FULL_SCALE))


def silence_fraction(waveform: Waveform) -> float:
    """Return the fraction of 50 ms frames of a waveform [T] at 16 kHz that are below -60 dBFS."""
    blocks = frame_blocks(waveform, SILENCE_HOP, SILENCE_HOP, centred=False)
    energy = torch.cat([frames.square().sum(dim=1) for frames in blocks])
    lengths = torch.full_like(energy, SILENCE_HOP)
    lengths[-1] = len(waveform) - (len(energy) - 1) * SILENCE_HOP
    return float((energy / lengths < 10 ** (SILENCE_DBFS / 10)).float().mean())


def power_spectrogram(waveform: Waveform) -> torch.Tensor:
    """Return power spectra [L, 1025] of the sounding frames of a waveform [T] at 16 kHz.

    They are relative to their mean, on a floor of -70 dB: how far the bins between two partials
    fall below that depends on number formats and not on the sound.
    """
    spectra = [block for part in _excerpts(waveform) for block in power_blocks(part, WINDOW, HOP)]
    power = torch.cat(spectra)
    kept = power[sounding(power.sum(dim=1), WINDOW)]
    return kept / kept.mean() + SPECTRAL_FLOOR if len(kept) else kept


def _excerpts(waveform: Waveform) -> list[Waveform]:
    if len(waveform) <= MAX_EXCERPTS * EXCERPT:
        return [waveform]
    starts = np.linspace(0, len(waveform) - EXCERPT, MAX_EXCERPTS).astype(int)
    return [waveform[start : start + EXCERPT] for start in starts]


def long_term_spectrum(waveform: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the share of a waveform's energy in each bin [1025] up to half its own rate.

    Args:
        waveform: float [T].

    Returns:
        Shares that sum to 1, or zeros for silence; bin k is at k * sample_rate / 2048.
    """
    total = torch.zeros(1 + WINDOW // 2, dtype=torch.float64)
    for block in power_blocks(np.asarray(waveform, dtype=np.float32), WINDOW, HOP):
        total += block.double().sum(dim=0)
    return (total / total.sum().clamp_min(1e-12)).numpy()


def rolloff_hz(spectrum: npt.NDArray[np.float64], sample_rate: int) -> float:
    """Return the frequency below which 99 % of a `long_term_spectrum` [1025] lies."""
    below = np.cumsum(spectrum)
    return float(np.searchsorted(below, ROLLOFF_SHARE * below[-1]) * sample_rate / WINDOW)


def out_of_band_share(
    spectrum: npt.NDArray[np.float64], sample_rate: int, domain_rolloff_hz: float
) -> float | None:
    """Return the share of a `long_term_spectrum` [1025] above a frequency; None for silence."""
    hertz = np.arange(len(spectrum)) * sample_rate / WINDOW
    return float(spectrum[hertz > domain_rolloff_hz].sum()) if spectrum.any() else None
