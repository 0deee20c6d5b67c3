"""Pitch in the spectral family: a log-frequency spectrogram, and the salience of the piano's keys.

On a log-frequency axis a note looks the same at every pitch, so one small network can detect
notes at all 88 keys with the same weights (harmonic stacking: Bittner et al. 2017, "Deep salience
representations for f0 estimation in polyphonic music"). Without that a network has to learn
each key separately, and in the first hour on a laptop it learns none.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.spectral.stft import ALL, frame_spectrum, power_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LOWEST_KEY = 21  # MIDI number of A0
N_KEYS = 88
TOP_KEY = 132  # the grid goes on above the keys, for their harmonics
BINS_PER_KEY = 3
BINS_PER_OCTAVE = 12 * BINS_PER_KEY
N_BINS = (TOP_KEY - LOWEST_KEY + 1) * BINS_PER_KEY
HARMONICS = (1, 2, 3, 4, 5, 6, 1 / 2, 1 / 3)  # stacked as the channels of a key
# Where notes would lie of which a key is an overtone: 2nd to 16th harmonic, in semitones.
BELOW = tuple(-round(12 * math.log2(harmonic)) for harmonic in range(2, 17))
OVERTONE_CHANNELS = 8
# Window in seconds, and up to which frequency in Hz it is used: a long one resolves neighbouring
# keys in the bass, shorter ones resolve changes in time above.
WINDOWS = ((8192 / 44100, 330.0), (4096 / 44100, 1000.0), (2048 / 44100, math.inf))
# For onsets, one short window at all frequencies: a bass note's onset shows in its upper harmonics.
SHARP_WINDOWS = ((2048 / 44100, math.inf),)
FLOOR = 1e-4  # magnitudes are compressed above -80 dB of full scale
SILENT_LEVEL = -0.95  # on the compressed scale: no sinusoid above -92 dB of full scale
SILENT_PRESENCE = -0.98  # no key is more present than this where the input is silent
PRETRAINED_FILE = "salience.safetensors"  # of `core.pretrained`


def key_to_hz(key: Tensor) -> Tensor:
    """Return the equally tempered frequency of MIDI numbers, in Hz."""
    return 440.0 * 2 ** ((key - 69) / 12)


def fft_length(seconds: float, sample_rate: int, frame_length: int) -> int:
    """Return the power of two nearest to a duration, at least two frames long, in samples."""
    nearest: int = 2 ** round(math.log2(seconds * sample_rate))
    return max(nearest, 2 * frame_length)


class PitchGrid(nn.Module):
    """Log magnitudes on a log-frequency grid of three bins a key; nothing is learnt."""

    def __init__(
        self,
        sample_rate: int,
        hop_length: int,
        windows: Sequence[tuple[float, float]] = WINDOWS,
    ) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.n_bins = N_BINS
        self.n_ffts: list[int] = []
        lowest = 0.0
        for index, (seconds, highest) in enumerate(windows):
            n_fft = fft_length(seconds, sample_rate, hop_length)
            filters = _log_frequency_filters(n_fft, sample_rate, lowest, highest)
            self.register_buffer(f"filters{index}", filters.clone(), persistent=False)
            self.n_ffts.append(n_fft)
            lowest = highest

    def forward(self, waveform: Tensor) -> Tensor:
        """Map float [B, T] to float [B, L, bins], about -1 (-80 dB) to 1 (full scale)."""
        return compress(self.power(self.spectra(waveform)))

    def spectra(self, waveform: Tensor, kept: slice = ALL) -> list[Tensor]:
        """Map float [B, T] to spectra by window, complex [B, L, FFT bins] of kept frames."""
        return [frame_spectrum(waveform, n_fft, self.hop_length, kept) for n_fft in self.n_ffts]

    def power(self, spectra: Sequence[Tensor], *, are_channels: bool = False) -> Tensor:
        """Map spectra by window to power before it is compressed, float [B, L, bins].

        Of channels it is the mean's, [1, L, bins].
        """
        found = []
        for spectrum, filters in zip(spectra, self.buffers(), strict=True):
            power = power_of(spectrum, len(filters))
            found.append((power.mean(0, keepdim=True) if are_channels else power) @ filters)
        n_above = self.n_bins - sum(part.shape[2] for part in found)  # half the rate
        return F.pad(torch.cat(found, dim=2), (0, n_above))


def compress(power: Tensor) -> Tensor:
    """Return logarithms of power, about -1 (-80 dB) to 1 (full scale)."""
    # A full-scale sine has magnitude 0.5 in spectra.
    # Clamped, because the root of the bins above half the rate has no gradient at zero.
    return (2 * power.clamp(min=1e-12).sqrt() + FLOOR).log10() / 2 + 1


# Remembered, because loading a model builds its networks twice, and this took most of the time.
@lru_cache(maxsize=16)
def _log_frequency_filters(n_fft: int, sample_rate: int, lowest: float, highest: float) -> Tensor:
    """Return weights [FFT bins, grid bins]: Gaussians as wide as the grid or the FFT's bins.

    The grid's bins are those from `lowest` up to `highest` Hz, which are this window's own; FFT
    bins above the last that serves one are left out.
    """
    # On the CPU also where networks are built without data to look at their shapes.
    keys = LOWEST_KEY + (torch.arange(N_BINS, device="cpu") - BINS_PER_KEY // 2) / BINS_PER_KEY
    hertz = key_to_hz(keys)
    spacing = sample_rate / n_fft
    bins = torch.arange(n_fft // 2 + 1, device="cpu")
    distance = bins.unsqueeze(1) * spacing - hertz
    width = (hertz * (2 ** (0.5 / BINS_PER_OCTAVE) - 1)).clamp(min=0.6 * spacing)
    weights = torch.exp(-0.5 * (distance / width).square())
    weights = weights / weights.sum(0).clamp(min=1e-6)
    weights = weights[:, (lowest <= hertz) & (hertz < min(highest, sample_rate / 2))]
    n_used = int((weights.sum(1) > 1e-6).nonzero().max()) + 1
    return weights[:n_used].clone()


class Salience(nn.Module):
    """The presence and the onset of each key, from a network that all keys share.

    Before training, presence is the level at the key's fundamental and onset is its rise. The
    network learns a correction from levels and rises at harmonics and subharmonics, and at
    neighbours in time and pitch.

    Args:
        channels: Width of the network.
        frames_per_latent: Frames of the sharp grid per latent frame.
        explains_overtones: Whether a second look tells a note from the overtone of a lower one.

    Attributes:
        context_frames: Latent frames to either side that the network sees; rises need one more
            before.
    """

    def __init__(
        self, channels: int, frames_per_latent: int, *, explains_overtones: bool = False
    ) -> None:
        super().__init__()
        self.frames_per_latent = frames_per_latent
        self.stack = nn.Linear((BINS_PER_KEY + 2 * frames_per_latent) * len(HARMONICS), channels)
        self.around = nn.Conv2d(channels, channels, (5, 5), padding=(2, 2))
        self.mix = nn.Linear(channels, channels)
        self.explains_overtones = explains_overtones
        if explains_overtones:
            self.found = nn.Linear(channels, OVERTONE_CHANNELS)
            self.explained = nn.Linear(OVERTONE_CHANNELS * len(BELOW), channels)
            nn.init.zeros_(self.explained.weight)
            nn.init.zeros_(self.explained.bias)
        self.output = nn.Linear(channels, 2)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.context_frames = 2

    def load_pretrained(self) -> None:
        """Load the weights that `recipes/starter/pretrain.py` made, and freeze them.

        Trained on together with decoders they let overtones back in: of recorded single notes 58 %
        instead of 75 % had every other key 25 dB below their own, after 640 updates.
        """
        path = files("core.pretrained") / PRETRAINED_FILE
        stored = safetensors.torch.load(path.read_bytes())
        self.requires_grad_(requires_grad=False)
        for name, own in self.named_parameters():
            own.copy_(stored[name])  # also without data, as on the meta device

    def forward(self, grid: Tensor, sharp: Tensor, kept: slice = ALL) -> tuple[Tensor, Tensor]:
        """Estimate presences and onsets.

        Args:
            grid: Pitch grid of latent frames, float [B, L, bins].
            sharp: Pitch grid of short windows, float [B, N, bins], N = L * frames_per_latent.
            kept: The latent frames to return.

        Returns:
            Presence and onset of the keys, float [B, L, keys] each.
        """
        batch, n_frames, _ = grid.shape
        sharp = sharp.view(batch, n_frames * self.frames_per_latent, -1, BINS_PER_KEY).amax(3)
        # Against a latent frame earlier, which is as far as the window reaches: a slower rise is
        # a soft onset and counts less.
        earlier = F.pad(sharp, (0, 0, self.frames_per_latent, 0), mode="replicate")
        rise = (sharp - earlier[:, : sharp.shape[1]]).clamp(min=0)
        both = torch.stack([sharp, 2 * rise], dim=3)
        both = both.view(batch, n_frames, self.frames_per_latent, -1, 2)
        both = both.permute(0, 1, 3, 2, 4).flatten(3)  # [B, L, keys, 2 * frames_per_latent]
        levels = grid.view(batch, n_frames, -1, BINS_PER_KEY)
        x = F.gelu(self.stack(_stacked(torch.cat([levels, both], dim=3))))
        x = (x + F.gelu(self.around(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))[:, kept]
        x = F.gelu(self.mix(x))
        if self.explains_overtones:
            x = x + F.gelu(self.explained(_gathered(self.found(x), BELOW, 0.0)))
        correction = self.output(x)
        presence = at_fundamentals(grid[:, kept]) + correction[..., 0]
        rises = rise[..., :N_KEYS].reshape(batch, n_frames, self.frames_per_latent, N_KEYS)
        onset = 4 * rises[:, kept].amax(2) - 1
        return presence, onset + correction[..., 1]


def silenced(presence: Tensor, grid: Tensor) -> Tensor:
    """Return presences, float [B, L, keys], of which none is above the floor in silence.

    The network's biases would else be taken for faint notes.

    Args:
        presence: float [B, L, keys].
        grid: Pitch grid, float [B, L, bins].
    """
    is_silent = grid.amax(2, keepdim=True) < SILENT_LEVEL
    return torch.where(is_silent, presence.clamp(max=-1.0), presence)


def at_fundamentals(grid: Tensor) -> Tensor:
    """Return the highest value at each key's fundamental: float [B, L, bins] to [B, L, keys]."""
    return grid.view(*grid.shape[:2], -1, BINS_PER_KEY)[:, :, :N_KEYS].amax(3)


def _stacked(features: Tensor) -> Tensor:
    """Stack the features at each key's harmonics, [B, L, keys, harmonics * features]."""
    return _gathered(features, [round(12 * math.log2(harmonic)) for harmonic in HARMONICS], -1.0)


def _gathered(features: Tensor, shifts: Sequence[int], padding: float) -> Tensor:
    """Stack the features at some distances from each key, [B, L, keys, shifts * features]."""
    below = max(0, -min(shifts))
    above = max(0, N_KEYS + max(shifts) - features.shape[2])
    padded = F.pad(features, (0, 0, below, above), value=padding)
    return torch.cat(
        [padded[:, :, below + shift : below + shift + N_KEYS] for shift in shifts], dim=3
    )


def harmonics_of(fundamentals: Tensor, n_partials: int) -> tuple[Tensor, Tensor]:
    """Return where the harmonics of notes fall among the oscillators of a synthesizer.

    Args:
        fundamentals: Frequencies of the notes, in FFT bins, float [R].
        n_partials: Oscillators; number i belongs to FFT bin i + 1.

    Returns:
        Number of the harmonic nearest to each oscillator, 0 below half the fundamental, and that
        harmonic's distance from the oscillator's bin, in bins, float [R, S] each.
    """
    bins = torch.arange(1, n_partials + 1, device=fundamentals.device)
    harmonic = (bins / fundamentals.unsqueeze(1)).round()
    return harmonic, harmonic * fundamentals.unsqueeze(1) - bins
