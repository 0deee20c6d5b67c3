"""Degradations of a clean rendering, for baselines and for the calibration of metrics.

In: a waveform float [T]. Out: float32 [T], degraded in one way that is obvious to a listener. A
metric should respond to them; `core.metrics.catalogue` names the one that each has to detect.

- `noise`: white noise as loud as the rendering; no music is left.
- `smear`: magnitudes blurred over 9 bins and 5 frames, phases random: notes melt together and
  attacks are gone, as in the output of an untrained spectral model.
- `add_hiss`: with white noise 14 dB below.
- `clip`: amplified until its peak would be at four times full scale.
- `interrupt`: with a gap of 250 ms in every second.

Two more are what files go through every day; a classifier should not respond to them:

- `code_lossily`: encoded as Ogg Vorbis or MP3 and decoded again.
- `limit_band`: without what is above a frequency.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import soundfile
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
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz
BAND_EDGE_OCTAVES = 0.25  # over which `limit_band` falls


def noise(waveform: npt.NDArray[np.floating], *, seed: int = 0) -> Waveform:
    """Return white noise [T] of the waveform's length and level."""
    values = np.random.default_rng(seed).standard_normal(len(waveform))
    return np.asarray(values * _level(waveform), dtype=np.float32)


def smear(waveform: npt.NDArray[np.floating], *, seed: int = 0) -> Waveform:
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
    degraded = torch.istft(
        torch.polar(blurred, phases), WINDOW, HOP, window=window, length=len(samples)
    ).numpy()[: len(waveform)]
    return np.asarray(degraded * _level(waveform) / max(_level(degraded), 1e-9), dtype=np.float32)


def add_hiss(waveform: npt.NDArray[np.floating], *, seed: int = 0) -> Waveform:
    """Return a waveform [T] with noise 14 dB below it."""
    hiss = noise(waveform, seed=seed) * 10 ** (HISS_DB / 20)
    return np.asarray(waveform + hiss, dtype=np.float32)


def clip(waveform: npt.NDArray[np.floating]) -> Waveform:
    """Return a waveform [T] amplified far beyond full scale and clipped there."""
    peak = max(float(np.abs(waveform).max()), 1e-9)
    return np.clip(np.asarray(waveform * (OVERDRIVE / peak), dtype=np.float32), -1, 1)


def interrupt(waveform: npt.NDArray[np.floating], sample_rate: int) -> Waveform:
    """Return a waveform [T] that is silent for the first quarter of every second."""
    degraded = np.array(waveform, dtype=np.float32)
    degraded[np.arange(len(degraded)) % sample_rate < GAP_SECONDS * sample_rate] = 0
    return degraded


def code_lossily(
    waveform: npt.NDArray[np.floating], sample_rate: int, compression: float, *, as_mp3: bool
) -> Waveform:
    """Return a waveform [T] encoded and decoded again.

    Args:
        waveform: In [-1, 1].
        sample_rate: In Hz; one that MP3 lacks is encoded as Ogg Vorbis.
        compression: From 0 (best) to 0.99. At 44.1 kHz in mono 0.6 is 73 kbit/s of Vorbis or 140
            of MP3, 0.9 is 52 or 56, and 0.99 42 or 32.
        as_mp3: Whether to encode as MP3 and not as Ogg Vorbis.
    """
    file = io.BytesIO()
    samples = np.asarray(waveform, dtype=np.float32)
    if as_mp3 and sample_rate in MP3_RATES:
        container, subtype = "MP3", "MPEG_LAYER_III"
    else:
        container, subtype = "OGG", "VORBIS"
    soundfile.write(
        file, samples, sample_rate, format=container, subtype=subtype, compression_level=compression
    )
    file.seek(0)
    decoded: Waveform = soundfile.read(file, dtype="float32")[0]
    # Either may be a block longer or shorter.
    return np.pad(decoded, (0, max(0, len(samples) - len(decoded))))[: len(samples)]


def limit_band(waveform: npt.NDArray[np.floating], sample_rate: int, highest_hz: float) -> Waveform:
    """Return a waveform [T] that falls to nothing within a quarter of an octave above a limit."""
    spectrum = np.fft.rfft(waveform)
    hertz = np.fft.rfftfreq(len(waveform), 1 / sample_rate)
    above = np.log2(np.maximum(hertz, 1) / highest_hz) / BAND_EDGE_OCTAVES
    gains = 0.5 + 0.5 * np.cos(np.pi * np.clip(above, 0, 1))
    return np.fft.irfft(spectrum * gains, len(waveform)).astype(np.float32)


def _level(waveform: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
