"""Pitch classes and onsets of a waveform, frame by frame: what `core.metrics.content` compares.

In: a waveform at 16 kHz. Out: chroma vectors at 10 and an onset envelope at 100 frames a second,
neither of which depends on the file's level.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from core.metrics.spectra import ANALYSIS_RATE, Waveform, mel_filters, power_blocks, sounding

Frames = npt.NDArray[np.float64]

CHROMA_RATE = 10  # frames a second
CHROMA_HOP = ANALYSIS_RATE // CHROMA_RATE
CHROMA_WINDOW = 8192  # samples; 0.5 s, which tells semitones apart from C3 upwards
LOWEST_PITCH, HIGHEST_PITCH = 36, 108  # MIDI numbers of C2 and C8
PITCH_WIDTH = 0.3  # semitones; standard deviation of a pitch's filter

ONSET_RATE = 100  # frames a second
ONSET_HOP = ANALYSIS_RATE // ONSET_RATE
ONSET_WINDOW = 1024  # samples
ONSET_MELS = 80
ONSET_RISE = ONSET_RATE // 10  # frames over which the rise of a band is measured
ONSET_SMOOTHING = 8.0  # frames; standard deviation of the kernel on the envelope
ONSET_TREND = 50.0  # frames; what is slower than this is no onset
ONSET_FLOOR = 1e-4  # of the mean band power; rises below it are inaudible


@cache
def _pitch_filters() -> torch.Tensor:
    """Return [bins, 12]: Gaussians on the log-frequency axis, folded into pitch classes."""
    hertz = torch.arange(1, CHROMA_WINDOW // 2 + 1) * (ANALYSIS_RATE / CHROMA_WINDOW)
    pitches = 69 + 12 * torch.log2(hertz / 440)
    centres = torch.arange(LOWEST_PITCH, HIGHEST_PITCH + 1)
    filters = torch.exp(-0.5 * ((pitches[:, None] - centres) / PITCH_WIDTH).square())
    # Equal weight for each pitch: else the many bins of the high ones would drown the rest.
    filters = filters / filters.sum(dim=0)
    classes = F.one_hot(centres % 12, 12).to(filters.dtype)
    return torch.cat([torch.zeros(1, 12), filters @ classes])


def chroma_frames(waveform: Waveform) -> Frames:
    """Return unit chroma vectors [L, 12] at 10 frames a second, all zero where it is silent.

    Args:
        waveform: float32 [T] at 16 kHz.
    """
    vectors, power = [], []
    for block in power_blocks(waveform, CHROMA_WINDOW, CHROMA_HOP):
        vectors.append(block.sqrt() @ _pitch_filters())
        power.append(block.sum(dim=1))
    frames = torch.cat(vectors).double()
    frames /= frames.norm(dim=1, keepdim=True).clamp_min(1e-12)
    frames[~sounding(torch.cat(power), CHROMA_WINDOW)] = 0
    return frames.numpy()


def onset_envelope(waveform: Waveform) -> Frames:
    """Return how much sound sets in [L] at 100 frames a second, zero on average.

    Args:
        waveform: float32 [T] at 16 kHz.
    """
    filters = mel_filters(ONSET_WINDOW, ONSET_MELS, 60.0, 7_500.0)
    blocks = power_blocks(waveform, ONSET_WINDOW, ONSET_HOP)
    bands = torch.cat([block @ filters for block in blocks])
    # Windows that reach beyond the ends would report attacks that nobody played.
    cut = min(ONSET_WINDOW // 2 // ONSET_HOP + 1, (len(bands) - 1) // 2)
    bands[:cut] = bands[cut]
    bands[len(bands) - cut :] = bands[len(bands) - cut - 1]
    loudness = torch.log(bands / bands.mean().clamp_min(1e-12) + ONSET_FLOOR)
    rises = torch.zeros(len(bands))
    rises[ONSET_RISE:] = (loudness[ONSET_RISE:] - loudness[:-ONSET_RISE]).relu().mean(dim=1)
    envelope = _smooth(rises, ONSET_SMOOTHING)
    return (envelope - _smooth(envelope, ONSET_TREND)).double().numpy()


def _smooth(values: torch.Tensor, deviation: float) -> torch.Tensor:
    reach = int(3 * deviation)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    padded = F.pad(values[None, None], (reach, reach), mode="replicate")
    return F.conv1d(padded, kernel[None, None] / kernel.sum())[0, 0]
