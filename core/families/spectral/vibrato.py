"""Vibrato: the depth with which the notes of a domain vary in pitch.

The phase of a vibrato cannot be inferred from the source, and an output of the wrong phase is
further from the original than a steady one, so a reconstruction loss would teach steady notes. The
decoder therefore learns steady notes, and vibrato of random phase is added in generation only. Its
depth is learnt by measurement: recordings of the domain and the decoder's own notes with vibrato
are measured alike, key by key, until both measure the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.spectral.partial_finder import PartialFinder
from core.families.spectral.salience import N_KEYS

# Vibrato has rates of 4 to 7 Hz (Prame 1994, "Measurements of the vibrato rate of ten singers", J.
# Acoust. Soc. Am. 96). These are spaced as closely as a window of a second resolves; where several
# have depth they beat, as a player's vibrato comes and goes.
RATES_HZ = (3.25, 4.75, 6.25, 7.75)
WINDOW_SECONDS = 1.0
# Relative to the frequency, 30 cents. Adam moves all weights by steps of one size: with a larger
# unit a single step from zero would be audible, with a smaller one a vibrato of 10 cents would take
# more than a hundred steps.
UNIT = 30 / 1200 * math.log(2)
MIN_SHARE = 0.6  # of a window in which a harmonic's frequency has to be clear
AUDIBLE = 0.01  # of the loudest key's weight: fainter keys are not learnt from
SMOOTHING = 13  # keys over which a measurement is averaged: a single key is seldom played


class Vibrato(nn.Module):
    """The vibrato depth of each key at each rate.

    Args:
        sample_rate: Hz.
        n_fft: FFT length in which frequencies are measured, in samples.
        frame_length: Samples between frames.
    """

    def __init__(self, sample_rate: int, n_fft: int, frame_length: int) -> None:
        super().__init__()
        self.sample_rate, self.frame_length = sample_rate, frame_length
        self.partials = PartialFinder(sample_rate, n_fft, frame_length)
        self.n_window = round(WINDOW_SECONDS * sample_rate / frame_length)  # frames
        # Squared depths in units: a mean of squares is not widened by what varies between notes.
        self.power = nn.Parameter(torch.zeros(len(RATES_HZ), N_KEYS))

    def draw(self, seed: int) -> Tensor:
        """Return the phases at frame 0, a function of the seed, in cycles, float [rates, keys]."""
        generator = np.random.Generator(np.random.Philox(seed % 2**64))
        return torch.from_numpy(generator.random(self.power.shape)).to(self.power)

    def forward(self, phases: Tensor, first: int, n_frames: int) -> Tensor:
        """Return each key's deviation, relative to its frequency, float [..., N, keys].

        Args:
            phases: At frame 0, in cycles, float [..., rates, keys].
            first: Number of the first frame.
            n_frames: N.
        """
        turns = self._turns(torch.arange(first, first + n_frames), phases)
        depth = UNIT * self.power.clamp(min=0).sqrt()
        return ((2 * math.pi * (turns + phases.unsqueeze(-3))).sin() * depth).sum(-2)

    def loss(self, output: Tensor, waveform: Tensor) -> Tensor:
        """Return a term whose gradient is the excess of the output's depth over the recording's.

        A measurement captures a share of the vibrato that depends on the music, because partials
        mask each other's: of 8 cents it captures 0.81 of the power in single synthetic notes and
        0.27 in chords of four. Both sides lose the same share, so the comparison holds.

        Args:
            output: Of the decoder, with vibrato, float [B, T].
            waveform: The same music in a recording, float [B, T]. Each item is measured by
                itself, so that a batch may be divided among processes.

        Returns:
            Scalar whose value has no meaning of its own.
        """
        with torch.no_grad():
            ours, is_audible = self._depth_of_keys(output)
            theirs, is_audible_there = self._depth_of_keys(waveform)
            excess = (ours - theirs) * (is_audible & is_audible_there)
            # The depth of a steady note cannot be reduced further.
            excess = excess * ((self.power > 0) | (excess < 0))
        return (self.power * excess).mean()

    def _depth_of_keys(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared depths, [B, rates, keys], and which keys sound, bool [B, 1, keys]."""
        total, weight = (_smoothed(one) for one in self.measure(waveform))
        return total / weight.clamp(min=1e-12), weight > AUDIBLE * weight.amax(2, keepdim=True)

    def measure(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Measure the vibrato of keys from the deviation that their harmonics have in common.

        Vibrato moves all harmonics of a note alike, while noise and neighbouring notes disturb each
        in its own way, so the mean product of two harmonics' deviations contains vibrato only.

        Args:
            waveform: float [B, T].

        Returns:
            Squared depth in units, times its weight, float [B, rates, keys]; weights, float
            [B, 1, keys].
        """
        power, deviation, is_clear = self.partials.find(waveform)
        clarity = power * is_clear
        n_window = self.n_window
        window = torch.hann_window(n_window, periodic=False).to(waveform).view(-1, 1, 1)
        total = waveform.new_zeros(len(waveform), len(RATES_HZ), N_KEYS)
        weight = waveform.new_zeros(len(waveform), 1, N_KEYS)
        angles = 2 * math.pi * self._turns(torch.arange(n_window), waveform)[..., 0].T
        waves = torch.stack([angles.cos(), angles.sin()])  # [2, rates, window]
        for start in range(0, deviation.shape[1] - n_window + 1, n_window):
            ours = slice(start, start + n_window)
            weighted = clarity[:, ours] * window
            size = weighted.sum(1).clamp(min=1e-12)  # [B, keys, harmonics]
            mean = (deviation[:, ours] * weighted).sum(1) / size
            swing = (deviation[:, ours] - mean.unsqueeze(1)) * weighted
            amplitude = torch.einsum("prn,bnkh->prbkh", waves, swing) / size
            share = ((clarity[:, ours] > 0) * window).sum(1) / window.sum()
            trust = size.sqrt() * (share > MIN_SHARE)
            both = (trust * amplitude).sum(4).square() - (trust * amplitude).square().sum(4)
            # The cosine's product and the sine's; a vibrato of depth 1 has amplitude 1/2 here.
            total += 4 * both.sum(0).transpose(0, 1) / UNIT**2
            weight[:, 0] += trust.sum(2).square() - trust.square().sum(2)
        return total, weight

    def _turns(self, frames: Tensor, like: Tensor) -> Tensor:
        """Return the phases of the rates at frames, in cycles, float [N, rates, 1]."""
        rates = torch.tensor(RATES_HZ, dtype=torch.float64)
        seconds = frames.double() * self.frame_length / self.sample_rate
        return (torch.outer(seconds, rates) % 1).to(like).unsqueeze(2)


def _smoothed(measured: Tensor) -> Tensor:
    """Average measurements, float [B, n, keys], over neighbouring keys."""
    return F.avg_pool1d(measured, SMOOTHING, stride=1, padding=SMOOTHING // 2)
