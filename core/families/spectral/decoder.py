"""The spectral family's decoder: latents to the frames of an oscillator bank and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.families.base import Decoder, GenerationOptions
from core.families.noise import noise_of_items, uniform_like
from core.families.spectral.blocks import ConvNeXtBlock
from core.families.spectral.losses import multi_resolution_loss
from core.families.spectral.note_envelopes import N_TIMBRES, Spectra, Voices, ring
from core.families.spectral.salience import N_KEYS
from core.families.spectral.sinusoid_lobes import LARGEST_DEVIATION
from core.families.spectral.synthesizer import Controls, Stream, Synthesizer
from core.families.spectral.vibrato import Vibrato
from core.families.windows import run_in_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.config import SpectralConfig

QUIETEST, LOUDEST = -12.0, 1.0  # natural logarithm of amplitudes
FURTHEST = LARGEST_DEVIATION - 0.5  # bins that notes move oscillators, which the blocks move on
N_VOICE_VALUES = 2 * N_TIMBRES * N_KEYS  # last of the networks' values: `ring` takes them
FIRST_NOISE = -7.0  # that an untrained decoder begins with


@dataclass(frozen=True)
class SpectralOptions(GenerationOptions):
    """Generation options of the spectral family: none."""


class SpectralDecoder(Decoder[SpectralOptions]):
    """Notes that ring, corrected frame by frame by ConvNeXt blocks.

    Each key has a few timbres, with a spectrum each (`Spectra`). Their sum, as loud as they ring
    (`Voices`, `ring`), is what a decoder starts from; the blocks, which see all latent channels,
    correct it in amplitude and frequency and add noise. The trunk is that of Vocos (Siuzdak
    2023, arXiv 2306.00814) with a memory of some seconds; what rings dies away, but has no end.
    In training notes stand still; generated ones sway as the domain's do (`Vibrato`).
    """

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
                is_causal=config.causal or dilation > 1,
            )
            for dilation in dilations
        ]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(channels)
        n_values = 2 * self.n_partials + config.noise_bands
        self.head = nn.Linear(channels, config.downsampling * n_values)
        # Begins as the notes alone.
        nn.init.normal_(self.head.weight, std=0.1 / math.sqrt(3 * channels))
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias.view(config.downsampling, -1)[:, 2 * self.n_partials :] = FIRST_NOISE
        self.spectra = Spectra(self.n_partials, config.n_fft, config.sample_rate)
        self.voices = Voices(config.voice_channels, config.latent_dim, config.downsampling)
        self.vibrato = Vibrato(config.sample_rate, config.n_fft, config.frame_length)
        # Latent frames before and after a frame that can change it.
        self.frames_before = max(
            sum(block.padding[0] for block in blocks), self.voices.frames_before
        )
        self.frames_after = max(sum(block.padding[1] for block in blocks), self.voices.frames_after)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the waveform of latents, without vibrato, with noise of each item's own.

        Args:
            latents: float [B, L, D].

        Returns:
            float [B, T], T = L * hop_length.
        """
        return self.render_still(self.predict(latents))

    def render_still(self, values: Tensor) -> Tensor:
        """Return the waveform of the networks' values, without vibrato, float [B, T]."""
        controls, _ = self.controls(values, self.voices.silence(values))
        return self.synthesizer.render(controls)

    def predict(self, latents: Tensor) -> Tensor:
        """Run the networks: float [B, L, D] to [B, N, values], N = L * downsampling."""
        batch, n_latents, _ = latents.shape
        n_frames = n_latents * self.config.downsampling
        values = self.head(self.norm(self.blocks(self.input(latents))))
        # The encoder's tanh undone; noise may have pushed a latent over its edge.
        keys = latents[..., : 2 * N_KEYS].clamp(-0.999, 0.999).atanh()
        voices = self.voices(keys.view(batch, n_latents, 2, N_KEYS), latents[..., 2 * N_KEYS :])
        return torch.cat([values.view(batch, n_frames, -1), voices], dim=2)

    def controls(
        self, values: Tensor, before: Tensor, sway: Tensor | None = None
    ) -> tuple[Controls, Tensor]:
        """Give the network's values their meaning.

        Args:
            values: float [B, N, values].
            before: Amplitudes of the voices before the first frame; see `ring`.
            sway: How far each key is off its frequency, relative to it, float [N, keys] or
                [B, N, keys]; None for nowhere.

        Returns:
            The controls, and the amplitudes of the voices after the last frame.
        """
        sizes = [self.n_partials, self.n_partials, self.config.noise_bands, N_VOICE_VALUES]
        amplitude, deviation, noise, voices = torch.split(values, sizes, dim=2)
        amplitudes, after = ring(voices, before)
        level = amplitudes.clamp(math.exp(QUIETEST), math.exp(LOUDEST))
        spectra = self.spectra()
        notes = level @ spectra.flatten(0, 1) + math.exp(QUIETEST)
        # Where several notes share an oscillator, it lies at their weighted mean.
        offset = level @ (spectra * self.spectra.offsets).flatten(0, 1)
        if sway is not None:
            swaying = level * torch.cat([sway] * N_TIMBRES, dim=-1)
            offset = offset + swaying @ (spectra * self.spectra.places).flatten(0, 1)
        bands = noise.clamp(QUIETEST, LOUDEST) @ self._band_filters(values)
        controls = Controls(
            amplitude=(notes.log() + amplitude).clamp(QUIETEST, LOUDEST).exp(),
            deviation=(offset / notes).clamp(-FURTHEST, FURTHEST) + 0.5 * deviation.tanh(),
            noise=bands.exp(),
        )
        return controls, after

    def _band_filters(self, like: Tensor) -> Tensor:
        """Return weights [bands, bins] that interpolate between bands on the mel scale."""
        n_bins = self.config.n_fft // 2 + 1
        top = math.log1p(self.config.sample_rate / 2 / 700)
        hertz = torch.linspace(0, self.config.sample_rate / 2, n_bins, device=like.device)
        place = torch.log1p(hertz / 700) / top * (self.config.noise_bands - 1)
        bands = torch.arange(self.config.noise_bands, device=like.device).unsqueeze(1)
        return (1 - (place - bands).abs()).clamp(min=0).to(like.dtype)

    def reconstruction_loss(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the loss of magnitudes and attacks; see `Decoder.reconstruction_loss`."""
        values = self.predict(latents)
        distance = multi_resolution_loss(
            self.render_still(values),
            waveform,
            self.config.sample_rate,
            attack_weight=self.config.attack_weight,
        )
        vibrato = self.vibrato_loss(values.detach(), waveform)
        # Adds the vibrato's gradient without changing the loss value.
        return distance + vibrato - vibrato.detach()

    def vibrato_loss(self, values: Tensor, waveform: Tensor) -> Tensor:
        """Compare the last second, made to sway, with the recording's; see `Vibrato.loss`."""
        n_frames = min(self.vibrato.n_window, values.shape[1])
        n_samples = n_frames * self.config.frame_length
        with torch.no_grad():
            earlier, last = values[:, :-n_frames], values[:, -n_frames:]
            _, before = ring(earlier[..., -N_VOICE_VALUES:], self.voices.silence(values))
            phases = uniform_like(self.vibrato.power.expand(len(values), -1, -1))
            controls, _ = self.controls(last, before, self.vibrato(phases, 0, n_frames))
            swaying = self.synthesizer.render(controls)
        return self.vibrato.loss(swaying, waveform[:, -n_samples:])

    def heldout_figure(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the multi-resolution STFT distance, with the same noise at every call."""
        with noise_of_items([[item] for item in range(len(latents))], latents.device):
            return multi_resolution_loss(self(latents), waveform, self.config.sample_rate)

    def baselines(self, waveform: Tensor) -> dict[str, float]:
        """Return the distance of silence, and of other audio of the same batch."""
        rate = self.config.sample_rate
        found = {"silence": torch.zeros_like(waveform)}
        if len(waveform) > 1:
            found["other audio"] = waveform.roll(1, dims=0)
        figures = {}
        for name, output in found.items():
            # A few items at a time, whose memory the C library keeps for the next.
            parts = zip(torch.split(output, 2), torch.split(waveform, 2), strict=True)
            total = sum(len(own) * multi_resolution_loss(own, other, rate) for own, other in parts)
            figures[name] = float(total) / len(waveform)
        return figures

    def generate(
        self, blocks: Iterator[Tensor], *, window: int, seed: int, options: SpectralOptions
    ) -> Iterator[Tensor]:
        """Generate in windows; `seed` is that of vibrato and noise. See `Decoder.generate`."""
        del options
        stream = Stream(self.synthesizer, seed=seed)
        phases = self.vibrato.draw(seed)
        windows = run_in_windows(
            blocks,
            lambda latents: self.predict(latents.unsqueeze(0)).view(len(latents), -1),
            window=window,
            before=self.frames_before,
            after=self.frames_after,
        )
        ringing: Tensor | None = None
        for kept in windows:
            values = kept.view(1, len(kept) * self.config.downsampling, -1)
            before = self.voices.silence(values) if ringing is None else ringing
            sway = self.vibrato(phases, stream.n_frames, values.shape[1])
            controls, ringing = self.controls(values, before, sway)
            yield stream.advance(controls)
        yield stream.finish()
