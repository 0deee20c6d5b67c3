"""The spectral family's encoder: waveform to latents through spectrogram frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.families.base import Encoder
from core.families.spectral.blocks import ConvNeXtBlock, spectrogram

if TYPE_CHECKING:
    from core.config import SpectralConfig

# A long window tells neighbouring semitones apart down to the bass, a short one tells when
# a note begins. Lengths are at 44.1 kHz and scale with the sample rate.
LONG_WINDOW_SECONDS = 4096 / 44100
SHORT_WINDOW_SECONDS = 1024 / 44100
LONG_WINDOW_CEILING_HZ = 5500.0
FLOOR = 1e-4  # magnitudes are compressed above -80 dB of full scale


class SpectralEncoder(Encoder):
    """Log magnitudes at two window lengths, ConvNeXt blocks, then a lower frame rate.

    The latents are bounded by a tanh, so that the noise added to them in training
    (`SpectralConfig.latent_noise`) has a meaning that the encoder cannot scale away.
    """

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        self.long_fft = _fft_length(LONG_WINDOW_SECONDS, config)
        self.short_fft = _fft_length(SHORT_WINDOW_SECONDS, config)
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
        self.output = nn.Linear(channels * config.downsampling, config.latent_dim)
        reach = (self.long_fft - config.frame_length) / 2 / config.frame_length
        reach += config.encoder_layers * (config.kernel_size // 2)
        self.context_frames = math.ceil(reach / config.downsampling)

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode float [B, T] to latents float [B, L, D]; see `Encoder.forward`."""
        x = self.norm(self.blocks(self.input(self.features(waveform))))
        batch, n_frames, channels = x.shape
        factor = self.config.downsampling
        x = x.reshape(batch, n_frames // factor, channels * factor)
        latents = torch.tanh(self.output(x))
        if self.training and self.config.latent_noise:
            latents = latents + self.config.latent_noise * torch.randn_like(latents)
        return latents

    def features(self, waveform: Tensor) -> Tensor:
        """Return what the blocks see, float [B, N, features], roughly -1..1."""
        frame_length = self.config.frame_length
        long = spectrogram(waveform, self.long_fft, frame_length)[..., : self.n_low]
        short = spectrogram(waveform, self.short_fft, frame_length)
        log = (torch.cat([long, short], dim=2) + FLOOR).log10()
        return log / 2 + 1


def _fft_length(seconds: float, config: SpectralConfig) -> int:
    """Return the power of two nearest to a duration, at least two frames long."""
    nearest = 2 ** round(math.log2(seconds * config.sample_rate))
    return max(int(nearest), 2 * config.frame_length)
