"""The spectral family's encoder: waveform to latents through spectrogram frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

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
from core.families.spectral.stft import spectrogram

if TYPE_CHECKING:
    from core.config import SpectralConfig

# A long window resolves neighbouring harmonics, a short one resolves onsets.
LONG_WINDOW_SECONDS = 4096 / 44100
SHORT_WINDOW_SECONDS = 1024 / 44100
LONG_WINDOW_CEILING_HZ = 5500.0


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
        self.grid = PitchGrid(config.sample_rate, config.hop_length)
        self.sharp_grid = PitchGrid(config.sample_rate, config.frame_length, SHARP_WINDOWS)
        self.salience = Salience(
            config.salience_channels,
            config.downsampling,
            explains_overtones=config.explains_overtones,
        )
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
        around = max(
            self._reach(max(self.grid.n_ffts)) + self.salience.context_frames,
            self._reach(max(self.sharp_grid.n_ffts)) + self.salience.context_frames + 1,
        )
        before, after = (sum(block.padding[side] for block in blocks) for side in (0, 1))
        self.frames_before = max(around, self._reach(self.long_fft) + before)
        self.frames_after = max(around, self._reach(self.long_fft) + after)

    def _reach(self, n_fft: int) -> int:
        """Return how many latent frames beyond its own a window covers."""
        return math.ceil((n_fft - self.config.frame_length) / 2 / self.config.hop_length)

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode float [B, T] to latents float [B, L, D]; see `Encoder.forward`."""
        return self._encode(
            self.grid(waveform),
            self.sharp_grid(waveform),
            self.features(*self.spectra(waveform)),
            None if self.pitch is None else self.pitch.moments(waveform),
        )

    def encode_channels(self, waveform: Tensor) -> Tensor:
        """Encode float [C, T] to float [C, L, D], which differ in presences alone; see `stereo`."""
        power, sharp = self.grid.power(waveform), self.sharp_grid.power(waveform)
        spectra = (own.square().mean(0, keepdim=True).sqrt() for own in self.spectra(waveform))
        moments = None
        if self.pitch is not None:
            total, weighted = self.pitch.moments(waveform)
            moments = total.mean(0, keepdim=True), weighted.mean(0, keepdim=True)
        latents = self._encode(
            compress(power.mean(0, keepdim=True)),
            compress(sharp.mean(0, keepdim=True)),
            self.features(*spectra),
            moments,
        )
        return to_channels(latents, at_fundamentals(power))

    def _encode(
        self,
        grid: Tensor,
        sharp: Tensor,
        features: Tensor,
        moments: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        presence, onset = self.salience(grid, sharp)
        presence = silenced(presence, grid)
        batch, n_frames, _ = features.shape
        grouped = features.reshape(batch, n_frames // self.config.downsampling, -1)
        others = self.output(self.norm(self.blocks(self.input(grouped))))
        learnt = torch.cat([presence, onset, others], dim=2).tanh()
        if self.training and self.config.latent_noise:
            learnt = learnt + self.config.latent_noise * normal_like(learnt)
        if moments is None:
            return learnt
        keys, others = learnt[..., : 2 * N_KEYS], learnt[..., 2 * N_KEYS :]
        return torch.cat([keys, deviation_of(*moments).to(learnt.dtype), others], dim=2)

    def score_loss(self, latents: Tensor, score: Tensor) -> Tensor:
        """Return the distance of presences and onsets from a score; see `Encoder.score_loss`."""
        return score_loss(latents[..., :N_KEYS], latents[..., N_KEYS : 2 * N_KEYS], score)

    def spectra(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Return magnitudes at two window lengths, float [B, N, bins] each."""
        frame_length = self.config.frame_length
        return (
            spectrogram(waveform, self.long_fft, frame_length, self.n_low),
            spectrogram(waveform, self.short_fft, frame_length),
        )

    def features(self, long: Tensor, short: Tensor) -> Tensor:
        """Return the blocks' input, float [B, N, features], roughly -1..1."""
        log = (torch.cat([long, short], dim=2) + FLOOR).log10()
        return log / 2 + 1
