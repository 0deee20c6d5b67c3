"""The spectral family's encoder: waveform to latents through spectrogram frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.families.base import Encoder
from core.families.noise import normal_like
from core.families.spectral.blocks import ConvNeXtBlock, spectrogram
from core.families.spectral.pitch import FLOOR, N_KEYS, PitchGrid, Salience, fft_length

if TYPE_CHECKING:
    from core.config import SpectralConfig

# A long window tells neighbouring harmonics apart, a short one tells when a note begins.
LONG_WINDOW_SECONDS = 4096 / 44100
SHORT_WINDOW_SECONDS = 1024 / 44100
LONG_WINDOW_CEILING_HZ = 5500.0


class SpectralEncoder(Encoder):
    """Saliences of the piano's keys, and a few channels for everything else.

    The first 88 latent channels are the keys A0 to C8, from `pitch`; the others come from
    ConvNeXt blocks over log magnitudes at two window lengths. All are bounded by a tanh, so
    that the noise added to them in training (`SpectralConfig.latent_noise`) has a meaning
    that the encoder cannot scale away.
    """

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        assert config.latent_dim > N_KEYS, "the keys take the first channels"
        self.config = config
        self.grid = PitchGrid(config.sample_rate, config.frame_length)
        self.salience = Salience(config.salience_channels)
        self.long_fft = fft_length(LONG_WINDOW_SECONDS, config.sample_rate, config.frame_length)
        self.short_fft = fft_length(SHORT_WINDOW_SECONDS, config.sample_rate, config.frame_length)
        ceiling = LONG_WINDOW_CEILING_HZ / config.sample_rate * self.long_fft
        self.n_low = min(int(ceiling), self.long_fft // 2 + 1)  # at low rates there is no more
        n_features = self.n_low + self.short_fft // 2 + 1
        channels = config.encoder_channels
        self.input = nn.Linear(n_features, channels)
        self.blocks = nn.Sequential(
            *(
                ConvNeXtBlock(channels, config.encoder_hidden, config.kernel_size)
                for _ in range(config.encoder_layers)
            )
        )
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels * config.downsampling, config.latent_dim - N_KEYS)
        self.context_frames = max(
            self._latent_frames(self.long_fft, config.encoder_layers * (config.kernel_size // 2)),
            self._latent_frames(max(self.grid.n_ffts), self.salience.context_frames),
        )

    def _latent_frames(self, n_fft: int, n_frames: int) -> int:
        """Return how many latent frames away a window and some frames beside it can see."""
        beyond = (n_fft - self.config.frame_length) / 2 / self.config.frame_length
        return math.ceil((beyond + n_frames) / self.config.downsampling)

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode float [B, T] to latents float [B, L, D]; see `Encoder.forward`."""
        keys = self._lower_rate(self.salience(self.grid(waveform))).mean(2)
        x = self.norm(self.blocks(self.input(self.features(waveform))))
        latents = torch.cat([keys, self.output(self._lower_rate(x).flatten(2))], dim=2).tanh()
        if self.training and self.config.latent_noise:
            latents = latents + self.config.latent_noise * normal_like(latents)
        return latents

    def _lower_rate(self, x: Tensor) -> Tensor:
        """Group frames float [B, N, C] into [B, L, N / L, C]."""
        batch, n_frames, channels = x.shape
        factor = self.config.downsampling
        return x.reshape(batch, n_frames // factor, factor, channels)

    def features(self, waveform: Tensor) -> Tensor:
        """Return what the blocks see, float [B, N, features], roughly -1..1."""
        frame_length = self.config.frame_length
        long = spectrogram(waveform, self.long_fft, frame_length)[..., : self.n_low]
        short = spectrogram(waveform, self.short_fft, frame_length)
        log = (torch.cat([long, short], dim=2) + FLOOR).log10()
        return log / 2 + 1
