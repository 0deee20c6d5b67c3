"""Shimmer: how far the levels of a domain's partials sway by themselves.

The players of a section are never quite in tune with one another: what sounds as one partial is
several that beat, and its level sways, each partial's in its own way. When it does so cannot be
inferred from the source, so a reconstruction loss teaches steady partials, and an ensemble sounds
like one synthetic player. As with `vibrato`, the swaying is added in generation only, and its depth
is learnt by measurement: recordings of the domain and the decoder's own notes are measured alike
until both measure the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.spectral.partial_finder import PartialFinder

BAND_EDGES_HZ = (500.0, 1000.0, 2000.0)  # a depth is learnt in each of four bands
# About half the power of the swaying lies below. Two partials of players ten cents apart beat at
# 2.5 Hz in the middle and at 12 Hz in the treble.
CORNER_HZ = 6.0
PERIOD_SECONDS = 24.0  # after which it repeats
# Levels sway alike within about this distance, so that a partial that glides does so smoothly.
SPACING_HZ = 130.0
GOLDEN_RATIO = (1 + math.sqrt(5)) / 2
LARGEST_DEPTH = 1.0  # nepers
WINDOW_SECONDS = 0.25  # in which the swaying is measured
MIN_SHARE = 0.9  # of a window in which a partial has to be clear
SILENT = math.log(1e-3)  # nepers, where a full-scale sine has 6: nothing sways below
AUDIBLE = 3.5  # nepers below the loudest partial of a window: fainter ones are noise
# Of the measurements of many partials the one that a fifth of them stay below: the others have a
# beginning, an end or another note within their window.
STEADY_SHARE = 0.2
MIN_PARTIALS = 10


class Shimmer(nn.Module):
    """The depth of the swaying in bands of frequency.

    Args:
        sample_rate: Hz.
        n_fft: FFT length that the oscillators are the bins of, in samples.
        frame_length: Samples between frames.
        n_partials: S, the number of oscillators; the first one belongs to bin 1.
    """

    def __init__(self, sample_rate: int, n_fft: int, frame_length: int, n_partials: int) -> None:
        super().__init__()
        self.partials = PartialFinder(sample_rate, n_fft, frame_length)
        self.bands: Tensor
        self.weights: Tensor
        self.frame_rate = sample_rate / frame_length
        self.n_period = round(PERIOD_SECONDS * self.frame_rate)  # frames
        # Squared depths in nepers: a mean of squares is not widened by what varies between notes.
        self.power = nn.Parameter(torch.zeros(len(BAND_EDGES_HZ) + 1))
        hertz = torch.arange(1, n_partials + 1) * (sample_rate / n_fft)
        self.register_buffer("bands", _bands(hertz), persistent=False)
        self.register_buffer("weights", _interpolation(hertz), persistent=False)

    def draw(self, seed: int) -> Tensor:
        """Return a period of the swaying, a function of the seed, mean square 1, float [P]."""
        # A stream beside that of the noise. As an array: a list with a number from 2**63 up would
        # become floats.
        key = np.array([seed % 2**64, 1], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        spectrum = np.fft.rfft(generator.standard_normal(self.n_period))
        hertz = np.arange(len(spectrum)) * self.frame_rate / self.n_period
        spectrum /= np.sqrt(1 + (hertz / CORNER_HZ) ** 2)
        spectrum[0] = 0
        period = np.fft.irfft(spectrum, self.n_period)
        return torch.from_numpy(period / np.sqrt(np.mean(period**2))).to(self.power)

    def forward(self, period: Tensor, first: int, n_frames: int) -> Tensor:
        """Return gains of the oscillators, float [N, S], mean square 1.

        Args:
            period: What `draw` returned, float [P].
            first: Number of the first frame.
            n_frames: N.
        """
        return self.gains(period, torch.arange(first, first + n_frames, device=period.device))

    def gains(self, period: Tensor, frames: Tensor) -> Tensor:
        """Return what `forward` does for frames by number, int64 [N]."""
        starts = torch.arange(len(self.weights), device=period.device).double() * GOLDEN_RATIO % 1
        places = (frames.unsqueeze(1) + (starts * self.n_period).long()) % self.n_period
        depth = self.power.clamp(0, LARGEST_DEPTH**2).sqrt()[self.bands]
        return (depth * (period[places] @ self.weights) - depth.square()).exp()

    def loss(self, output: Tensor, waveform: Tensor) -> Tensor:
        """Return a term whose gradient is the excess of the output's depth over the recording's.

        Args:
            output: Of the decoder, swaying, float [B, T].
            waveform: The same music in a recording, float [B, T].

        Returns:
            Scalar whose value has no meaning of its own.
        """
        with torch.no_grad():
            ours, theirs = (self.measure(own) for own in (output, waveform))
            is_known = ~(ours.isnan() | theirs.isnan())
            excess = (ours - theirs).nan_to_num() * is_known
            # A steady partial's cannot be reduced further.
            excess = excess * ((self.power > 0) | (excess < 0))
        return (self.power * excess).mean()

    def measure(self, waveform: Tensor) -> Tensor:
        """Measure how far the levels of steady partials sway around a straight line.

        Noise and vibrato make them sway, too, alike on both sides of the comparison.

        Args:
            waveform: float [B, T].

        Returns:
            Mean square in nepers in each band, float [B, bands]; NaN where too few partials are
            clear.
        """
        power, _, is_clear = (own.flatten(2) for own in self.partials.find(waveform))
        # A product of neighbouring frames is a square.
        level = 0.5 * power.clamp(min=1e-12).log()
        n_window = round(WINDOW_SECONDS * self.frame_rate)
        window = torch.hann_window(n_window, periodic=False).to(waveform).view(-1, 1)
        squares = []
        for start in range(0, level.shape[1] - n_window + 1, n_window // 2):
            own = level[:, start : start + n_window]
            trust = is_clear[:, start : start + n_window] * window
            size = trust.sum(1)
            mean = (trust * own).sum(1) / size.clamp(min=1e-6)
            square = (trust * _detrended(own, trust).square()).sum(1) / size.clamp(min=1e-6)
            is_known = size > MIN_SHARE * window.sum()
            loudest = mean.masked_fill(~is_known, -torch.inf).amax(1, keepdim=True)
            is_known &= mean > (loudest - AUDIBLE).clamp(min=SILENT)
            squares.append(square.masked_fill(~is_known, torch.nan))
        if not squares:
            return level.new_full((len(level), len(self.power)), torch.nan)
        every = torch.cat(squares, dim=1)
        bands = _bands(self.partials.hertz(waveform).flatten()).repeat(len(squares))
        found = [every[:, bands == band] for band in range(len(self.power))]
        return torch.stack([_steady(own) for own in found], dim=1)


def _steady(squares: Tensor) -> Tensor:
    """Return the measurement of steady partials, float [B, n] to [B]."""
    steady = squares.nanquantile(STEADY_SHARE, dim=1)
    return steady.masked_fill((~squares.isnan()).sum(1) < MIN_PARTIALS, torch.nan)


def _bands(hertz: Tensor) -> Tensor:
    """Return the band of each frequency, int64."""
    return torch.bucketize(hertz, torch.tensor(BAND_EDGES_HZ, device=hertz.device), right=True)


def _interpolation(hertz: Tensor) -> Tensor:
    """Return weights [sources, S] between sources `SPACING_HZ` apart, of norm 1."""
    sources = torch.arange(int(hertz[-1] / SPACING_HZ) + 2).unsqueeze(1)
    weights = (1 - (hertz / SPACING_HZ - sources).abs()).clamp(min=0)
    return F.normalize(weights, dim=0)


def _detrended(level: Tensor, trust: Tensor) -> Tensor:
    """Subtract the weighted least squares line over time, which is a note that dies away.

    Args:
        level: float [B, N, partials].
        trust: Weights, float [B, N, partials].
    """
    time = torch.linspace(-1, 1, level.shape[1]).to(level).view(-1, 1)
    size = trust.sum(1, keepdim=True).clamp(min=1e-6)
    centred = time - (trust * time).sum(1, keepdim=True) / size
    level = level - (trust * level).sum(1, keepdim=True) / size
    slope = (trust * centred * level).sum(1, keepdim=True)
    slope = slope / (trust * centred.square()).sum(1, keepdim=True).clamp(min=1e-6)
    return level - slope * centred
