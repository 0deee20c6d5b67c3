"""The spectral family's decoder: latents to the frames of an oscillator bank and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from core.families.base import Decoder, run_in_windows
from core.families.spectral.blocks import ConvNeXtBlock
from core.families.spectral.losses import multi_resolution_loss
from core.families.spectral.synthesis import Controls, Stream, Synthesizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.config import SpectralConfig

WINDOW_SECONDS = 5.0  # generated at a time; bounds the memory of a long piece
QUIETEST, LOUDEST = -12.0, 1.0  # natural logarithm of amplitudes
FIRST_AMPLITUDE = -7.0  # what an untrained decoder begins with


@dataclass(frozen=True)
class SpectralOptions:
    """Generation options of the spectral family: none."""


class SpectralDecoder(Decoder):
    """ConvNeXt blocks at the frame rate, then the controls of a synthesizer.

    The trunk is that of Vocos (Siuzdak 2023, arXiv 2306.00814); its head, which predicts
    phases, cannot hold a pitch that the latents do not spell out (see `synthesis`).
    """

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.decoder_channels
        self.n_partials = int(config.partials_ceiling_hz * config.n_fft / config.sample_rate)
        self.synthesizer = Synthesizer(config, self.n_partials)
        self.input = nn.Linear(config.latent_dim, channels * config.downsampling)
        self.blocks = nn.Sequential(
            *(
                ConvNeXtBlock(channels, config.decoder_hidden, config.kernel_size)
                for _ in range(config.decoder_layers)
            )
        )
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 2 * self.n_partials + config.noise_bands)
        nn.init.constant_(self.head.bias, FIRST_AMPLITUDE)
        nn.init.zeros_(self.head.bias[self.n_partials : 2 * self.n_partials])
        reach = config.decoder_layers * (config.kernel_size // 2)
        self.context_frames = math.ceil(reach / config.downsampling)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the waveform of latents, with noise from torch's generator.

        Args:
            latents: float [B, L, D].

        Returns:
            float [B, T], T = L * hop_length.
        """
        return self.synthesizer.render(self.controls(self.predict(latents)))

    def predict(self, latents: Tensor) -> Tensor:
        """Run the network: float [B, L, D] to [B, N, values], N = L * downsampling."""
        batch, n_latents, _ = latents.shape
        x = self.input(latents)
        x = x.view(batch, n_latents * self.config.downsampling, self.config.decoder_channels)
        values: Tensor = self.head(self.norm(self.blocks(x)))
        return values

    def controls(self, values: Tensor) -> Controls:
        """Give the network's values their meaning; float [B, N, values]."""
        sizes = [self.n_partials, self.n_partials, self.config.noise_bands]
        amplitude, deviation, noise = torch.split(values, sizes, dim=2)
        bands = noise.clamp(QUIETEST, LOUDEST) @ self._band_filters(values)
        return Controls(
            amplitude=amplitude.clamp(QUIETEST, LOUDEST).exp(),
            deviation=deviation.tanh(),
            noise=bands.exp(),
        )

    def _band_filters(self, like: Tensor) -> Tensor:
        """Return weights [bands, bins] that interpolate between bands on the mel scale."""
        n_bins = self.config.n_fft // 2 + 1
        top = math.log1p(self.config.sample_rate / 2 / 700)
        hertz = torch.linspace(0, self.config.sample_rate / 2, n_bins, device=like.device)
        place = torch.log1p(hertz / 700) / top * (self.config.noise_bands - 1)
        bands = torch.arange(self.config.noise_bands, device=like.device).unsqueeze(1)
        return (1 - (place - bands).abs()).clamp(min=0).to(like.dtype)

    def loss(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the multi-resolution STFT loss; see `Decoder.loss`."""
        return multi_resolution_loss(self(latents), waveform, self.config.sample_rate)

    def heldout_figure(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the multi-resolution STFT distance, the training loss on held-out audio."""
        return self.loss(latents, waveform)

    def generate(self, blocks: Iterator[Tensor], *, seed: int, options: Any) -> Iterator[Tensor]:
        """Generate in windows; `seed` is that of the noise. See `Decoder.generate`."""
        del options
        latent_rate = self.config.sample_rate / self.config.hop_length
        stream = Stream(self.synthesizer, seed=seed)
        windows = run_in_windows(
            blocks,
            lambda latents: self.predict(latents.unsqueeze(0)).view(len(latents), -1),
            window=round(WINDOW_SECONDS * latent_rate),
            context=self.context_frames,
        )
        n_values = 2 * self.n_partials + self.config.noise_bands
        for window in windows:
            yield stream.advance(self.controls(window.view(1, -1, n_values)))
        yield stream.finish()
