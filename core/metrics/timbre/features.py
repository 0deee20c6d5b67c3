"""Features of two seconds of audio, the input of the timbre classifier.

In: a waveform at 16 kHz. Out: 165 features for each window of two seconds, `FEATURES_VERSION` 1:

- mel cepstrum: mean of coefficients 1 to 19, spread of 0 to 11 (colour, and how it moves);
- in four bands of eight mel filters each: quantiles of the level's slope over 20 ms and over
  200 ms, skewness and log kurtosis of the former (attack and decay: a plucked string rises at once
  and falls slowly, a bowed one does neither);
- in the same bands: log power of the level's modulation in eight ranges from 0.5 to 50 Hz
  (vibrato, tremolo, note rate);
- in six octaves from 100 Hz to 6.4 kHz: contrast (mean and spread), flatness, and the share of
  steady partials (mean and spread).

Levels are relative to the window's own mean power, so loudness plays no part. Windows that are
more silence than sound are left out. A clip shorter than a window is repeated to fill one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch

from core.metrics import partials
from core.metrics.spectra import ANALYSIS_RATE, Waveform, mel_filters, power_blocks, sounding

FEATURES_VERSION = 1
N_FEATURES = 165

WINDOW_SECONDS = 2
MIN_SAMPLES = ANALYSIS_RATE // 4  # of the shortest clip that has features

FRAME, HOP = 512, ANALYSIS_RATE // 100  # samples; short, to see attacks
FRAME_RATE = ANALYSIS_RATE // HOP
N_FRAMES = WINDOW_SECONDS * FRAME_RATE
N_MELS, N_BANDS = 32, 4
MEL_HZ = (60.0, 7_000.0)
LEVEL_FLOOR = 1e-5  # of the window's mean power in a mel filter

PARTIAL_RATE = ANALYSIS_RATE / partials.HOP
N_PARTIAL_FRAMES = int(WINDOW_SECONDS * PARTIAL_RATE)
N_OCTAVES = len(partials.OCTAVES_HZ) - 1
SPECTRAL_FLOOR = 1e-7  # of the mean power of a bin

MEAN_CEPSTRA, SPREAD_CEPSTRA = 20, 12
SLOPE_FRAMES = (2, 20)
SLOPE_QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
MODULATION_EDGES = (1, 3, 5, 8, 12, 18, 30, 60, 101)  # in units of 0.5 Hz


@dataclass(frozen=True)
class WindowSpectra:
    """The windows of one or more waveforms, before any statistic is computed.

    Attributes:
        mels: float32 [N, 200, 32], mel power every 10 ms.
        octaves: float32 [N, 31, 18], every 64 ms: contrast in dB, flatness in dB and harmonic
            share of each of six octaves.
    """

    mels: torch.Tensor
    octaves: torch.Tensor

    def __len__(self) -> int:
        return len(self.mels)


def window_spectra(waveform: Waveform, *, hop_seconds: int = WINDOW_SECONDS) -> WindowSpectra:
    """Cut a waveform [T] at 16 kHz into windows of 2 s, one every `hop_seconds`, and analyse them.

    Returns:
        Spectra of the sounding windows, none for silence and for less than 0.25 s.
    """
    if len(waveform) < MIN_SAMPLES:
        return WindowSpectra(
            torch.zeros(0, N_FRAMES, N_MELS), torch.zeros(0, N_PARTIAL_FRAMES, 3 * N_OCTAVES)
        )
    if len(waveform) < WINDOW_SECONDS * ANALYSIS_RATE:
        waveform = np.resize(waveform, WINDOW_SECONDS * ANALYSIS_RATE)
    filters = mel_filters(FRAME, N_MELS, *MEL_HZ)
    blocks = list(power_blocks(waveform, FRAME, HOP))
    mels = torch.cat([block @ filters for block in blocks])
    is_sounding = sounding(torch.cat([block.sum(dim=1) for block in blocks]), FRAME)
    octaves = torch.cat(
        [_octave_figures(block) for block in power_blocks(waveform, partials.WINDOW, partials.HOP)]
    )
    last = len(waveform) // ANALYSIS_RATE - WINDOW_SECONDS
    starts = [
        second
        for second in range(0, last + 1, hop_seconds)
        if is_sounding[second * FRAME_RATE :][:N_FRAMES].float().mean() >= 0.5
    ]
    return WindowSpectra(
        _stack([mels[s * FRAME_RATE :][:N_FRAMES] for s in starts], N_FRAMES, N_MELS),
        _stack(
            [octaves[int(s * PARTIAL_RATE) :][:N_PARTIAL_FRAMES] for s in starts],
            N_PARTIAL_FRAMES,
            3 * N_OCTAVES,
        ),
    )


def _stack(windows: list[torch.Tensor], n_frames: int, n_columns: int) -> torch.Tensor:
    return torch.stack(windows) if windows else torch.zeros(0, n_frames, n_columns)


def join(parts: list[WindowSpectra]) -> WindowSpectra:
    """Concatenate the windows of several waveforms."""
    return WindowSpectra(
        torch.cat([part.mels for part in parts]), torch.cat([part.octaves for part in parts])
    )


def _octave_figures(power: torch.Tensor) -> torch.Tensor:
    """Return contrast, flatness and harmonic share [L, 18] of power spectra [L, 1025]."""
    floored = power + SPECTRAL_FLOOR * power.mean() + 1e-20
    return torch.cat(
        [
            partials.octave_contrasts_db(floored),
            partials.octave_flatness_db(floored),
            partials.octave_harmonic_shares(floored),
        ],
        dim=1,
    )


def features(spectra: WindowSpectra) -> torch.Tensor:
    """Return the features [N, 165] of N windows."""
    if not len(spectra):
        return torch.zeros(0, N_FEATURES)
    mean_power = spectra.mels.mean(dim=(1, 2), keepdim=True)
    levels = 10 * (spectra.mels / mean_power + LEVEL_FLOOR).log10()
    cepstra = levels @ _cosines()
    contrast, flatness, shares = torch.split(spectra.octaves, N_OCTAVES, dim=2)
    columns = [
        cepstra[:, :, 1:].mean(dim=1),
        cepstra[:, :, :SPREAD_CEPSTRA].std(dim=1),
        *_slopes(levels),
        _modulations(levels),
        contrast.mean(dim=1),
        contrast.std(dim=1),
        flatness.mean(dim=1),
        shares.mean(dim=1),
        shares.std(dim=1),
    ]
    return torch.cat(columns, dim=1)


@cache
def _cosines() -> torch.Tensor:
    """Return the discrete cosine transform [32, 20] that makes cepstra of mel levels."""
    places = torch.arange(N_MELS) + 0.5
    orders = torch.arange(MEAN_CEPSTRA)
    return torch.cos(torch.pi / N_MELS * places[:, None] * orders) * float(np.sqrt(2 / N_MELS))


def _slopes(levels: torch.Tensor) -> list[torch.Tensor]:
    """Return quantiles [N, 32] of the slopes over 20 and 200 ms, their skewness and kurtosis."""
    quantiles = []
    for step in SLOPE_FRAMES:
        slopes = _by_band(levels[:, step:] - levels[:, :-step])
        # Every second frame is enough, and sorting dominates the time.
        found = torch.quantile(slopes[:, :, ::2], torch.tensor(SLOPE_QUANTILES), dim=2)
        quantiles.append(found.permute(1, 2, 0).flatten(1))
    slopes = _by_band(levels[:, SLOPE_FRAMES[0] :] - levels[:, : -SLOPE_FRAMES[0]])
    slopes = slopes - slopes.mean(dim=2, keepdim=True)
    spread = slopes.std(dim=2).clamp_min(1e-3)
    skewness = slopes.pow(3).mean(dim=2) / spread.pow(3)
    kurtosis = slopes.pow(4).mean(dim=2) / spread.pow(4)
    return [*quantiles, skewness, (kurtosis + 1e-3).log()]


def _by_band(values: torch.Tensor) -> torch.Tensor:
    """Gather [N, L, 32] as [N, 4, 8 L], all that belongs to one band in one row."""
    bands = values.reshape(*values.shape[:2], N_BANDS, N_MELS // N_BANDS)
    return bands.permute(0, 2, 1, 3).flatten(2)


def _modulations(levels: torch.Tensor) -> torch.Tensor:
    """Return the log power [N, 32] of eight ranges of modulation in four bands."""
    bands = levels.reshape(*levels.shape[:2], N_BANDS, N_MELS // N_BANDS)
    centred = bands - bands.mean(dim=1, keepdim=True)
    window = torch.hann_window(N_FRAMES)[:, None, None]
    power = torch.fft.rfft(centred * window, dim=1).abs().square().mean(dim=3)
    ranges = [power[:, low:high].sum(dim=1) for low, high in pairwise(MODULATION_EDGES)]
    return (torch.stack(ranges, dim=2) + 1e-3).log10().flatten(1)
