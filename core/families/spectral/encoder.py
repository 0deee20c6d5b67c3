"""The spectral family's encoder: waveform to latents through spectrogram frames."""

from __future__ import annotations

import math
from itertools import tee
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from core.blocks import regroup, side_by_side
from core.families.base import Encoder
from core.families.noise import normal_like
from core.families.spectral.layers import ConvNeXtBlock
from core.families.spectral.losses import score_loss
from core.families.spectral.pitch import KeyPitch, deviation_of
from core.families.spectral.salience import (
    FLOOR,
    N_KEYS,
    SHARP_WINDOWS,
    PitchGrid,
    Salience,
    at_fundamentals,
    compress,
    fft_length,
    silenced,
)
from core.families.spectral.stereo import to_channels
from core.families.spectral.stft import ALL, frame_spectrum, power_of, reach_of
from core.families.windows import run_in_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.config import SpectralConfig

# A long window resolves neighbouring harmonics, a short one resolves onsets.
LONG_WINDOW_SECONDS = 4096 / 44100
SHORT_WINDOW_SECONDS = 1024 / 44100
LONG_WINDOW_CEILING_HZ = 5500.0


class Measured(NamedTuple):
    """What is measured in a waveform, before any network.

    Attributes:
        grid: Pitch grid of latent frames, float [B, L, bins].
        sharp: Pitch grid of short windows, float [B, N, bins].
        features: The blocks' input, float [B, L, features].
        deviation: Of keys, in semitones, float [B, L, keys]; [B, L, 0] for models without.
        power: Of keys, in each channel where B = 1 is the mean of C, float [B or C, L, keys].
    """

    grid: Tensor
    sharp: Tensor
    features: Tensor
    deviation: Tensor
    power: Tensor


class SpectralEncoder(Encoder):
    """Presences, onsets and pitches of the piano's keys, and a few channels for everything else.

    The first 88 latent channels are the presences of the keys A0 to C8, the next 88 their onsets,
    both from `salience`; the next 88 are the keys' deviations from equal temperament in semitones
    (`KeyPitch`; not in models from before they existed). The others come from ConvNeXt blocks over
    log magnitudes at two window lengths. A tanh bounds all but the pitches: without it the encoder
    could make the noise that training adds (`SpectralConfig.latent_noise`) negligible by scaling
    its latents up. Pitches are measured and not learnt, and get no noise.

    Args:
        config: The family's configuration.
    """

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        self.hop_length = config.hop_length
        self.grid = PitchGrid(config.sample_rate, config.hop_length)
        self.sharp_grid = PitchGrid(config.sample_rate, config.frame_length, SHARP_WINDOWS)
        self.salience = Salience(
            config.salience_channels,
            config.downsampling,
            explains_overtones=config.explains_overtones,
        )
        if config.pretrained_salience:
            self.salience.load_pretrained()
        self.score_weight = config.score_weight
        self.pitch = (
            KeyPitch(config.sample_rate, config.hop_length) if config.pitch_latents else None
        )
        self.long_fft = fft_length(LONG_WINDOW_SECONDS, config.sample_rate, config.frame_length)
        self.short_fft = fft_length(SHORT_WINDOW_SECONDS, config.sample_rate, config.frame_length)
        ceiling = LONG_WINDOW_CEILING_HZ / config.sample_rate * self.long_fft
        self.n_low = min(int(ceiling), self.long_fft // 2 + 1)  # at low rates there is no more
        n_features = self.n_low + self.short_fft // 2 + 1
        channels = config.encoder_channels
        self.input = nn.Linear(n_features * config.downsampling, channels)
        blocks = [
            ConvNeXtBlock(
                channels, config.encoder_hidden, config.kernel_size, is_causal=config.causal
            )
            for _ in range(config.encoder_layers)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, config.latent_dim - config.key_channels)
        hop, frame_length = config.hop_length, config.frame_length
        context = self.salience.context_frames
        # Each window in samples, the samples between its frames, and latent frames to either side
        # of what it measures that a network sees.
        before, after = (sum(block.padding[side] for block in blocks) for side in (0, 1))
        windows = [(n_fft, hop, context, context) for n_fft in self.grid.n_ffts]
        windows += [(n_fft, frame_length, context + 1, context) for n_fft in self.sharp_grid.n_ffts]
        windows += [
            (n_fft, frame_length, before, after) for n_fft in (self.long_fft, self.short_fft)
        ]
        windows += [(n_fft, hop, 0, 0) for n_fft in (self.pitch.n_ffts if self.pitch else ())]
        reaches = [reach_of(n_fft, length) for n_fft, length, *_ in windows]
        self.samples_before, self.samples_after = map(max, zip(*reaches, strict=True))
        self.frames_before, self.frames_after = (
            max(
                math.ceil(reach[side] / hop) + sees[side]
                for reach, (_, _, *sees) in zip(reaches, windows, strict=True)
            )
            for side in (0, 1)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode float [B, T] to latents float [B, L, D]; see `Encoder.forward`."""
        own = self._measure(waveform, ALL)
        presence, onset = self._find_notes(own.grid, own.sharp)
        x = self.input(own.features)
        return self._join(presence, onset, self.blocks(x), own.deviation)

    def stream(self, samples: Iterator[Tensor], *, window: int) -> Iterator[Tensor]:
        """Encode as samples arrive; see `Encoder.stream`.

        Two channels are encoded as one, and differ in presences alone; see `stereo`.
        """
        hop = self.config.hop_length
        n_channels = 1

        def measure(own: Tensor, kept: slice) -> Measured:
            """Measure float [t] or [t, C]."""
            nonlocal n_channels
            if own.dim() == 1:
                return self._measure(own.unsqueeze(0), kept)
            n_channels = own.shape[1]
            if (own == own[:, :1]).all():  # computed once, with the same result
                return self._measure(own[:, :1].T, kept)
            return self._measure(own.T, kept, are_channels=True)

        def find_notes(both: Tensor, kept: slice) -> Tensor:
            grid, sharp = torch.split(both, [n_bins, both.shape[1] - n_bins], dim=1)
            sharp = sharp.reshape(1, len(both) * self.config.downsampling, -1)
            return torch.cat(self._find_notes(grid.unsqueeze(0), sharp, kept), dim=2)[0]

        # One frame fewer at first: a decoder that looks one frame ahead then has it with the last
        # of a window, and need not wait for the next window.
        first = (window - 1) * hop + self.samples_after
        measured = run_in_context(
            regroup(samples, window * hop, join=torch.cat, first=first),
            measure,
            before=math.ceil(self.samples_before / hop) * hop,
            after=self.samples_after,
            ratio=hop,
        )
        grids, features, others = tee(measured, 3)
        n_bins = self.grid.n_bins
        notes = run_in_context(
            (
                torch.cat([own.grid[0], own.sharp[0].view(own.grid.shape[1], -1)], 1)
                for own in grids
            ),
            find_notes,
            before=self.salience.context_frames + 1,
            after=self.salience.context_frames,
        )
        hidden: Iterator[Tensor] = (self.input(own.features[0]) for own in features)
        for block in self.blocks:
            assert isinstance(block, ConvNeXtBlock)
            hidden = block.stream(hidden)
        beside = (torch.cat([own.deviation[0], _levels(own.power)], dim=1) for own in others)
        for found, x, rest in side_by_side(notes, hidden, beside):
            presence, onset = found.unsqueeze(0).chunk(2, dim=2)
            n_pitches = 0 if self.pitch is None else N_KEYS
            deviation, power = torch.split(rest, [n_pitches, rest.shape[1] - n_pitches], dim=1)
            latents = self._join(presence, onset, x.unsqueeze(0), deviation.unsqueeze(0))
            sides = power.view(len(rest), -1, N_KEYS).transpose(0, 1)
            if n_channels == 1:
                yield latents[0]
            elif (sides == sides[:1]).all():
                yield latents.transpose(0, 1).expand(-1, n_channels, -1)
            else:
                yield to_channels(latents, sides).transpose(0, 1)

    def _measure(self, waveform: Tensor, kept: slice, *, are_channels: bool = False) -> Measured:
        """Measure kept frames of float [B, T]: of each item, or of the mean of channels."""
        halves = kept
        if kept != ALL:
            halves = slice(*(place * self.config.downsampling for place in (kept.start, kept.stop)))
        spectra = self.grid.spectra(waveform, kept)
        mean = power = self.grid.power(spectra)
        sharp = self.sharp_grid.power(
            self.sharp_grid.spectra(waveform, halves), are_channels=are_channels
        )
        long, short = self.spectra(waveform, halves)
        # Both measure in the same windows.
        moments = None if self.pitch is None else self.pitch.moments(spectra)
        if are_channels:
            mean = power.mean(0, keepdim=True)
            long, short = (own.square().mean(0, keepdim=True).sqrt() for own in (long, short))
            if moments is not None:
                total, weighted = moments
                moments = total.mean(0, keepdim=True), weighted.mean(0, keepdim=True)
        features = self.features(long, short)
        batch, n_frames, _ = features.shape
        return Measured(
            grid=compress(mean),
            sharp=compress(sharp),
            features=features.reshape(batch, n_frames // self.config.downsampling, -1),
            deviation=deviation_of(*moments) if moments else features.new_zeros(*mean.shape[:2], 0),
            power=at_fundamentals(power),
        )

    def _find_notes(self, grid: Tensor, sharp: Tensor, kept: slice = ALL) -> tuple[Tensor, Tensor]:
        presence, onset = self.salience(grid, sharp, kept)
        return silenced(presence, grid[:, kept]), onset

    def _join(self, presence: Tensor, onset: Tensor, hidden: Tensor, deviation: Tensor) -> Tensor:
        """Make latents of what the networks found, and of the blocks' output."""
        others = self.output(self.norm(hidden))
        learnt = torch.cat([presence, onset, others], dim=2).tanh()
        if self.training and self.config.latent_noise:
            learnt = learnt + self.config.latent_noise * normal_like(learnt)
        if self.pitch is None:
            return learnt
        keys, others = learnt[..., : 2 * N_KEYS], learnt[..., 2 * N_KEYS :]
        return torch.cat([keys, deviation.to(learnt.dtype), others], dim=2)

    def score_loss(self, latents: Tensor, score: Tensor) -> Tensor:
        """Return the distance of presences and onsets from a score; see `Encoder.score_loss`."""
        return score_loss(latents[..., :N_KEYS], latents[..., N_KEYS : 2 * N_KEYS], score)

    def spectra(self, waveform: Tensor, kept: slice = ALL) -> tuple[Tensor, Tensor]:
        """Return magnitudes of kept frames at two window lengths, float [B, N, bins] each."""
        frame_length = self.config.frame_length
        long = frame_spectrum(waveform, self.long_fft, frame_length, kept)
        short = frame_spectrum(waveform, self.short_fft, frame_length, kept)
        return power_of(long, self.n_low).sqrt(), power_of(short, short.shape[2]).sqrt()

    def features(self, long: Tensor, short: Tensor) -> Tensor:
        """Return the blocks' input, float [B, N, features], roughly -1..1."""
        log = (torch.cat([long, short], dim=2) + FLOOR).log10()
        return log / 2 + 1


def _levels(power: Tensor) -> Tensor:
    """Put the powers of keys in channels, float [C, L, keys], side by side: [L, C * keys]."""
    return power.transpose(0, 1).flatten(1)
