"""Partials of the piano's keys in a waveform: how strong each is, and how far from its place.

Vibrato and shimmer are learnt by measuring them alike in recordings and in what a decoder plays.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from core.families.spectral.salience import LOWEST_KEY, N_KEYS, key_to_hz

N_HARMONICS = 8  # of a key, which are measured
LARGEST_DEVIATION = 0.03  # of the frequency, half a key: beyond it lies another note
AGREEMENT = 0.5  # bins by which the frequencies measured in neighbouring bins may differ


class Partials(NamedTuple):
    """What was measured of each key's harmonics, [B, N, keys, harmonics] each.

    Attributes:
        power: Products of magnitudes in neighbouring frames, float.
        deviation: From the key's harmonic, relative to its frequency, float.
        is_clear: Whether one partial dominates there, bool.
    """

    power: Tensor
    deviation: Tensor
    is_clear: Tensor


class PartialFinder:
    """Measures partials by the phases of neighbouring frames.

    Args:
        sample_rate: Hz.
        n_fft: FFT length in which frequencies are measured, in samples.
        frame_length: Samples between frames.
    """

    def __init__(self, sample_rate: int, n_fft: int, frame_length: int) -> None:
        self.sample_rate, self.n_fft, self.frame_length = sample_rate, n_fft, frame_length

    def hertz(self, like: Tensor) -> Tensor:
        """Return the frequencies of the harmonics, float [keys, harmonics], on a device."""
        keys = LOWEST_KEY + torch.arange(N_KEYS, device=like.device)
        return key_to_hz(keys).unsqueeze(1) * torch.arange(1, N_HARMONICS + 1).to(keys)

    def find(self, waveform: Tensor) -> Partials:
        """Measure float [B, T]; there is one frame less than the spectrogram has."""
        place = self.hertz(waveform) * self.n_fft / self.sample_rate
        window = torch.hann_window(self.n_fft).to(waveform)
        spectrum = torch.stft(
            waveform,
            self.n_fft,
            self.frame_length,
            window=window,
            pad_mode="constant",
            return_complex=True,
        ).transpose(1, 2)
        # The phase advance from frame to frame gives the frequency (Flanagan & Golden 1966).
        advance = spectrum[:, 1:] * spectrum[:, :-1].conj()
        bins = torch.arange(spectrum.shape[2], device=waveform.device)
        turns = advance.angle() / (2 * math.pi) - bins * self.frame_length / self.n_fft
        frequency = bins + (turns - turns.round()) * self.n_fft / self.frame_length
        # A bin dominated by one partial agrees with its neighbours (Charpentier 1986).
        step = frequency.diff(dim=2).abs() < AGREEMENT
        agrees = F.pad(step[..., 1:] & step[..., :-1], (1, 1))
        nearest = place.round().long().clamp(max=len(bins) - 1)
        deviation = (frequency[..., nearest] - place) / place
        is_clear = agrees[..., nearest] & (deviation.abs() < LARGEST_DEVIATION)
        return Partials(advance.abs()[..., nearest], deviation, is_clear)
