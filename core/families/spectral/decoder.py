"""The spectral family's decoder: latents to the frames of an oscillator bank and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from core.families.base import Decoder, Reconstruction, run_in_windows
from core.families.noise import noise_of_items
from core.families.spectral.blocks import ConvNeXtBlock
from core.families.spectral.losses import multi_resolution_loss
from core.families.spectral.pitch import N_KEYS, harmonic_combs
from core.families.spectral.synthesis import Controls, Stream, Synthesizer
from core.families.spectral.voices import N_TIMBRES, Voices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.config import SpectralConfig

WINDOW_SECONDS = 10.0  # generated at a time; bounds the memory of a long piece
QUIETEST, LOUDEST = -12.0, 1.0  # natural logarithm of amplitudes
FIRST_NOISE = -7.0  # that an untrained decoder begins with
SLOPES = (1.0, 0.5, 1.5, 2.0)  # of the timbres: harmonic h is quieter by h ** -slope
NEPERS_PER_SALIENCE = 4.6  # a salience spans 40 dB a unit, as the encoder's grid does


@dataclass(frozen=True)
class SpectralOptions:
    """Generation options of the spectral family: none."""


class SpectralDecoder(Decoder):
    """Notes as combs of harmonics, corrected frame by frame by ConvNeXt blocks.

    Each key has a few combs, its timbres: amplitudes of the oscillators that fall faster or
    slower with the number of the harmonic. Their sum, weighted by what `Voices` makes of the
    keys' saliences, is what a decoder starts from; the blocks, which see all latent channels,
    correct it in amplitude and frequency and add noise. The trunk is that of Vocos (Siuzdak
    2023, arXiv 2306.00814) with a memory of some seconds.
    """

    combs: Tensor
    offsets: Tensor

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.decoder_channels
        ceiling = config.partials_ceiling_hz * config.n_fft / config.sample_rate
        self.n_partials = min(int(ceiling), config.n_fft // 2 - 1)  # below half the rate
        self.synthesizer = Synthesizer(config, self.n_partials)
        self.input = nn.Linear(config.latent_dim, channels)
        dilations = [max(1, 2 ** (layer - 1)) for layer in range(config.decoder_layers)]
        blocks = [
            ConvNeXtBlock(
                channels,
                config.decoder_hidden,
                config.kernel_size,
                dilation=dilation,
                is_causal=dilation > 1,
            )
            for dilation in dilations
        ]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(channels)
        n_values = 2 * self.n_partials + config.noise_bands
        self.head = nn.Linear(channels, config.downsampling * n_values)
        # Begins as the combs alone.
        nn.init.normal_(self.head.weight, std=0.1 / math.sqrt(3 * channels))
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias.view(config.downsampling, -1)[:, 2 * self.n_partials :] = FIRST_NOISE
        combs, offsets = harmonic_combs(self.n_partials, config.n_fft, config.sample_rate)
        levels = torch.stack([slope * combs for slope in SLOPES])
        self.register_buffer("combs", levels.exp().flatten(0, 1), persistent=False)
        self.register_buffer("offsets", offsets.repeat(N_TIMBRES, 1), persistent=False)
        self.voices = Voices(config.voice_channels, config.latent_dim, config.downsampling)
        self.key_gain = nn.Parameter(torch.zeros(N_KEYS))
        self.key_scale = nn.Parameter(torch.ones(N_KEYS))
        # Latent frames before and after a frame that can change it.
        self.frames_before = max(
            sum(block.padding[0] for block in blocks), self.voices.frames_before
        )
        self.frames_after = max(sum(block.padding[1] for block in blocks), self.voices.frames_after)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the waveform of latents, with noise of each item's own.

        Args:
            latents: float [B, L, D].

        Returns:
            float [B, T], T = L * hop_length.
        """
        return self.synthesizer.render(self.controls(self.predict(latents)))

    def predict(self, latents: Tensor) -> Tensor:
        """Run the networks: float [B, L, D] to [B, N, values], N = L * downsampling."""
        batch, n_latents, _ = latents.shape
        n_frames = n_latents * self.config.downsampling
        values = self.head(self.norm(self.blocks(self.input(latents))))
        # The encoder's tanh undone; noise may have pushed a latent over its edge.
        keys = latents[..., :N_KEYS].clamp(-0.999, 0.999).atanh()
        level = NEPERS_PER_SALIENCE * self.key_scale * (keys - 1) + self.key_gain
        levels = level.repeat(1, 1, N_TIMBRES).repeat_interleave(self.config.downsampling, dim=1)
        levels = levels + self.voices(keys, latents[..., N_KEYS:])
        return torch.cat([values.view(batch, n_frames, -1), levels], dim=2)

    def controls(self, values: Tensor) -> Controls:
        """Give the network's values their meaning; float [B, N, values]."""
        sizes = [self.n_partials, self.n_partials, self.config.noise_bands, N_TIMBRES * N_KEYS]
        amplitude, deviation, noise, levels = torch.split(values, sizes, dim=2)
        level = levels.clamp(QUIETEST, LOUDEST).exp()
        notes = level @ self.combs + math.exp(QUIETEST)
        # Where several notes share an oscillator, it lies at their weighted mean.
        offset = level @ (self.combs * self.offsets) / notes
        bands = noise.clamp(QUIETEST, LOUDEST) @ self._band_filters(values)
        return Controls(
            amplitude=(notes.log() + amplitude).clamp(QUIETEST, LOUDEST).exp(),
            deviation=offset + 0.5 * deviation.tanh(),
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

    def reconstruct(self, latents: Tensor, waveform: Tensor) -> Reconstruction:
        """Return the multi-resolution STFT loss and the output; see `Decoder.reconstruct`."""
        output = self(latents)
        return Reconstruction(
            multi_resolution_loss(output, waveform, self.config.sample_rate), output
        )

    def heldout_figure(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the multi-resolution STFT distance, with the same noise at every call."""
        with noise_of_items([[item] for item in range(len(latents))], latents.device):
            return self.reconstruct(latents, waveform).loss

    def yardsticks(self, waveform: Tensor) -> dict[str, float]:
        """Return the distance of silence, and of other audio of the same batch."""
        rate = self.config.sample_rate
        found = {"silence": torch.zeros_like(waveform)}
        if len(waveform) > 1:
            found["other audio"] = waveform.roll(1, dims=0)
        return {
            name: float(multi_resolution_loss(output, waveform, rate))
            for name, output in found.items()
        }

    def generate(self, blocks: Iterator[Tensor], *, seed: int, options: Any) -> Iterator[Tensor]:
        """Generate in windows; `seed` is that of the noise. See `Decoder.generate`."""
        del options
        latent_rate = self.config.sample_rate / self.config.hop_length
        stream = Stream(self.synthesizer, seed=seed)
        windows = run_in_windows(
            blocks,
            lambda latents: self.predict(latents.unsqueeze(0)).view(len(latents), -1),
            window=round(WINDOW_SECONDS * latent_rate),
            before=self.frames_before,
            after=self.frames_after,
        )
        for window in windows:
            values = window.view(1, len(window) * self.config.downsampling, -1)
            yield stream.advance(self.controls(values))
        yield stream.finish()
