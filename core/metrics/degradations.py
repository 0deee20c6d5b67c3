"""Ways to spoil a clean rendering, for yardsticks and for the calibration of metrics.

In: a waveform float [T]. Out: float32 [T], spoilt in one way that a listener hears at once. A
metric is worth showing if it hears it too (`core.metrics.catalogue` says which should).

- `noise`: white noise as loud as the rendering; nothing of the music is left.
- `smeared`: magnitudes blurred over 9 bins and 5 frames, phases random: notes melt together and
  attacks are gone, as in the output of an untrained spectral model.
- `hissing`: with white noise 14 dB below.
- `clipped`: raised until its peak would stand at four times full scale.
- `interrupted`: with a gap of 250 ms in every second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy.typing as npt

    Waveform = npt.NDArray[np.float32]

WINDOW, HOP = 2048, 512  # samples, of the blurred spectrogram
BLUR_BINS, BLUR_FRAMES = 9, 5
HISS_DB = -14.0
OVERDRIVE = 4.0
GAP_SECONDS = 0.25


def noise(waveform: npt.NDArray[np.floating], *, seed: int = 0) -> Waveform:
    """Return white noise [T] of the waveform's length and level."""
    values = np.random.default_rng(seed).standard_normal(len(waveform))
    return np.asarray(values * _level(waveform), dtype=np.float32)


def smeared(waveform: npt.NDArray[np.floating], *, seed: int = 0) -> Waveform:
    """Return a waveform [T] with blurred magnitudes and random phases, as loud as before."""
    samples = torch.from_numpy(np.asarray(waveform, dtype=np.float32))
    if len(samples) < WINDOW:
        samples = F.pad(samples, (0, WINDOW - len(samples)))
    window = torch.hann_window(WINDOW)
    magnitudes = torch.stft(samples, WINDOW, HOP, window=window, return_complex=True).abs()
    blurred = F.avg_pool2d(
        magnitudes[None, None], (BLUR_BINS, BLUR_FRAMES), 1, (BLUR_BINS // 2, BLUR_FRAMES // 2)
    )[0, 0]
    generator = torch.Generator().manual_seed(seed)
    phases = 2 * np.pi * torch.rand(blurred.shape, generator=generator)
    spoilt = torch.istft(
        torch.polar(blurred, phases), WINDOW, HOP, window=window, length=len(samples)
    ).numpy()[: len(waveform)]
    return np.asarray(spoilt * _level(waveform) / max(_level(spoilt), 1e-9), dtype=np.float32)


def hissing(waveform: npt.NDArray[np.floating], *, seed: int = 0) -> Waveform:
    """Return a waveform [T] with noise 14 dB below it."""
    hiss = noise(waveform, seed=seed) * 10 ** (HISS_DB / 20)
    return np.asarray(waveform + hiss, dtype=np.float32)


def clipped(waveform: npt.NDArray[np.floating]) -> Waveform:
    """Return a waveform [T] driven into full scale."""
    peak = max(float(np.abs(waveform).max()), 1e-9)
    return np.clip(np.asarray(waveform * (OVERDRIVE / peak), dtype=np.float32), -1, 1)


def interrupted(waveform: npt.NDArray[np.floating], sample_rate: int) -> Waveform:
    """Return a waveform [T] that is silent for the first quarter of every second."""
    spoilt = np.array(waveform, dtype=np.float32)
    spoilt[np.arange(len(spoilt)) % sample_rate < GAP_SECONDS * sample_rate] = 0
    return spoilt


def _level(waveform: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
