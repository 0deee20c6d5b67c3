"""Pitch in the spectral family: a log-frequency spectrogram, and the piano's keys on it.

On a log-frequency axis a note looks the same wherever it lies, so one small network can
look for notes at all 88 keys alike (harmonic stacking: Bittner et al. 2017, "Deep salience
representations for f0 estimation in polyphonic music"). Without that a network has to learn
each key by itself, and in the first hour on a laptop it learns none.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.spectral.spectrogram import spectrogram

LOWEST_KEY = 21  # MIDI number of A0
N_KEYS = 88
TOP_KEY = 132  # the grid goes on above the keys, for their harmonics
BINS_PER_KEY = 3
BINS_PER_OCTAVE = 12 * BINS_PER_KEY
HARMONICS = (1, 2, 3, 4, 5, 6, 1 / 2, 1 / 3)  # seen together when looking for a note
# A long window tells neighbouring keys apart in the bass; short ones hear changes above.
# Window in seconds, and up to which frequency in Hz it is used.
WINDOWS = ((8192 / 44100, 330.0), (4096 / 44100, 1000.0), (2048 / 44100, math.inf))
FLOOR = 1e-4  # magnitudes are compressed above -80 dB of full scale


def key_to_hz(key: Tensor) -> Tensor:
    """Return the equally tempered frequency of MIDI numbers, in Hz."""
    return 440.0 * 2 ** ((key - 69) / 12)


def fft_length(seconds: float, sample_rate: int, frame_length: int) -> int:
    """Return the power of two nearest to a duration, at least two frames long, in samples."""
    nearest: int = 2 ** round(math.log2(seconds * sample_rate))
    return max(nearest, 2 * frame_length)


class PitchGrid(nn.Module):
    """Log magnitudes on a log-frequency grid of three bins a key; nothing is learnt."""

    def __init__(self, sample_rate: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        n_bins = (TOP_KEY - LOWEST_KEY + 1) * BINS_PER_KEY
        keys = LOWEST_KEY + (torch.arange(n_bins) - BINS_PER_KEY // 2) / BINS_PER_KEY
        hertz = key_to_hz(keys)
        self.n_ffts: list[int] = []
        lowest = 0.0
        for index, (seconds, highest) in enumerate(WINDOWS):
            n_fft = fft_length(seconds, sample_rate, hop_length)
            own = (lowest <= hertz) & (hertz < min(highest, sample_rate / 2))
            filters = _log_frequency_filters(hertz, n_fft, sample_rate) * own
            n_heard = int((filters.sum(1) > 1e-6).nonzero().max()) + 1
            self.register_buffer(
                f"filters{index}", filters[:n_heard].contiguous(), persistent=False
            )
            self.n_ffts.append(n_fft)
            lowest = highest

    def forward(self, waveform: Tensor) -> Tensor:
        """Map float [B, T] to float [B, L, bins], about -1 (-80 dB) to 1 (full scale)."""
        power = torch.stack(
            [
                spectrogram(waveform, n_fft, self.hop_length, len(filters)).square() @ filters
                for n_fft, filters in zip(self.n_ffts, self.buffers(), strict=True)
            ]
        ).sum(0)
        # A full-scale sine has magnitude 0.5 in `spectrogram`.
        # Clamped, because the root of the bins above half the rate has no gradient at zero.
        return (2 * power.clamp(min=1e-12).sqrt() + FLOOR).log10() / 2 + 1


def _log_frequency_filters(hertz: Tensor, n_fft: int, sample_rate: int) -> Tensor:
    """Return weights [FFT bins, grid bins]: Gaussians as wide as the grid or the FFT's bins."""
    spacing = sample_rate / n_fft
    distance = torch.arange(n_fft // 2 + 1).unsqueeze(1) * spacing - hertz
    width = (hertz * (2 ** (0.5 / BINS_PER_OCTAVE) - 1)).clamp(min=0.6 * spacing)
    weights = torch.exp(-0.5 * (distance / width).square())
    return weights / weights.sum(0).clamp(min=1e-6)


class Salience(nn.Module):
    """How present each key is, looked for in the same way at all keys.

    Begins as the level at the key's own frequency; what is learnt is a correction from the
    levels at its harmonics and subharmonics, and at its neighbours in time and pitch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stack = nn.Linear(BINS_PER_KEY * len(HARMONICS), channels)
        self.around = nn.Conv2d(channels, channels, (3, 5), padding=(1, 2))
        self.mix = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.context_frames = 1

    def forward(self, grid: Tensor) -> Tensor:
        """Map a pitch grid float [B, L, bins] to saliences float [B, L, keys]."""
        batch, n_frames, _ = grid.shape
        shifts = [round(BINS_PER_OCTAVE * math.log2(harmonic)) for harmonic in HARMONICS]
        n_bins = N_KEYS * BINS_PER_KEY
        below = -min(shifts)
        above = max(0, n_bins + max(shifts) - grid.shape[2])
        padded = F.pad(grid, (below, above), value=-1.0)
        stacked = [padded[..., below + shift : below + shift + n_bins] for shift in shifts]
        shape = (batch, n_frames, N_KEYS, BINS_PER_KEY * len(HARMONICS))
        x = F.gelu(self.stack(torch.stack(stacked, dim=-1).reshape(shape)))
        x = x + F.gelu(self.around(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        correction = self.output(F.gelu(self.mix(x))).squeeze(-1)
        own = grid[..., :n_bins].reshape(batch, n_frames, N_KEYS, BINS_PER_KEY).amax(-1)
        result: Tensor = own + correction
        return result


def harmonic_combs(n_partials: int, n_fft: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Return where each key's harmonics fall among the oscillators of a synthesizer.

    Args:
        n_partials: Oscillators; number i belongs to FFT bin i + 1.
        n_fft: FFT length that the bins are of.
        sample_rate: Hz.

    Returns:
        Logarithm of the amplitude of each oscillator in a note, float [keys, S]: falling as
        1 / harmonic, and next to nothing between harmonics. And how far the harmonic lies
        from the oscillator's bin, in bins, float [keys, S].
    """
    fundamental = key_to_hz(LOWEST_KEY + torch.arange(N_KEYS)) * n_fft / sample_rate
    bins = torch.arange(1, n_partials + 1)
    harmonic = (bins / fundamental.unsqueeze(1)).round().clamp(min=1)
    offset = harmonic * fundamental.unsqueeze(1) - bins
    is_near = offset.abs() <= 0.5
    between = torch.full_like(offset, -9.0)
    return torch.where(is_near, -harmonic.log(), between), torch.where(is_near, offset, 0.0)
