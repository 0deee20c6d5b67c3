"""The spectral family's decoder: latents to the frames of an oscillator bank and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.families.base import Decoder, GenerationOptions
from core.families.noise import noise_of_items, uniform_like
from core.families.spectral.layers import ConvNeXtBlock
from core.families.spectral.losses import multi_resolution_loss
from core.families.spectral.note_envelopes import (
    N_TIMBRES,
    NoteEnvelopes,
    NoteSpectra,
    integrate_envelopes,
)
from core.families.spectral.salience import N_KEYS
from core.families.spectral.sinusoid_lobes import LARGEST_DEVIATION
from core.families.spectral.stereo import excite_channels, share_oscillators, to_mean
from core.families.spectral.synthesizer import Controls, StreamingSynthesizer, Synthesizer
from core.families.spectral.vibrato import Vibrato
from core.families.windows import run_in_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.config import SpectralConfig

QUIETEST, LOUDEST = -12.0, 1.0  # natural logarithm of amplitudes
FURTHEST = LARGEST_DEVIATION - 0.5  # bins by which notes move oscillators; blocks add up to 0.5
N_ENVELOPE_VALUES = 2 * N_TIMBRES * N_KEYS  # the last of the networks' values
INITIAL_NOISE = -7.0  # of an untrained decoder, natural logarithm of the amplitude


@dataclass(frozen=True)
class SpectralOptions(GenerationOptions):
    """Generation options of the spectral family: none."""


class SpectralDecoder(Decoder[SpectralOptions]):
    """Notes with envelopes and spectra, corrected frame by frame by ConvNeXt blocks.

    Each key has a few timbres, each with a spectrum (`NoteSpectra`) and an envelope
    (`NoteEnvelopes`, `integrate_envelopes`). Their sum is the decoder's first estimate; the blocks,
    which see all latent channels, correct its amplitudes and frequencies and add noise. The blocks
    are those of Vocos (Siuzdak 2023, arXiv 2306.00814) and see some seconds; the envelopes decay
    exponentially and have no such limit. Notes are steady in training, and have the domain's
    vibrato when they are generated (`Vibrato`).

    Args:
        config: The family's configuration.

    Attributes:
        frames_before: Latent frames before a frame that can change the networks' values there.
        frames_after: Latent frames after it, likewise.
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
        # Small, so that an untrained decoder plays the notes alone.
        nn.init.normal_(self.head.weight, std=0.1 / math.sqrt(3 * channels))
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias.view(config.downsampling, -1)[:, 2 * self.n_partials :] = INITIAL_NOISE
        # Model files store the weights under these two names.
        self.spectra = NoteSpectra(self.n_partials, config.n_fft, config.sample_rate)
        self.voices = NoteEnvelopes(config.voice_channels, config.latent_dim, config.downsampling)
        self.vibrato = Vibrato(config.sample_rate, config.n_fft, config.frame_length)
        self.frames_before = max(
            sum(block.padding[0] for block in blocks), self.voices.frames_before
        )
        self.frames_after = max(sum(block.padding[1] for block in blocks), self.voices.frames_after)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the waveform of latents without vibrato; the noise is drawn item by item.

        Args:
            latents: float [B, L, D].

        Returns:
            float [B, T], T = L * hop_length.
        """
        return self.render_steady(self.predict(latents))

    def render_steady(self, values: Tensor) -> Tensor:
        """Return the waveform of the networks' values, without vibrato, float [B, T]."""
        controls, _ = self.controls(values, self.voices.silence(values))
        return self.synthesizer.render(controls)

    def predict(self, latents: Tensor) -> Tensor:
        """Run the networks: float [B, L, D] to [B, N, values], N = L * downsampling.

        The values of a frame are corrections of amplitude and frequency, noise bands, and the
        excitations and decays of the envelopes; `controls` takes them apart.
        """
        batch, n_latents, _ = latents.shape
        n_frames = n_latents * self.config.downsampling
        values = self.head(self.norm(self.blocks(self.input(latents))))
        # Undo the encoder's tanh; noise in training may have pushed a latent beyond 1.
        keys = latents[..., : 2 * N_KEYS].clamp(-0.999, 0.999).atanh()
        envelopes = self.voices(keys.view(batch, n_latents, 2, N_KEYS), latents[..., 2 * N_KEYS :])
        return torch.cat([values.view(batch, n_frames, -1), envelopes], dim=2)

    def controls(
        self, values: Tensor, before: Tensor, vibrato: Tensor | None = None
    ) -> tuple[Controls, Tensor]:
        """Turn the networks' values into the synthesizer's controls.

        Args:
            values: float [B, N, values].
            before: Amplitudes of the notes before the first frame; see `integrate_envelopes`.
            vibrato: Deviation of each key relative to its frequency, float [N, keys] or
                [B, N, keys]; None for none.

        Returns:
            The controls, and the amplitudes of the notes after the last frame.
        """
        sizes = [self.n_partials, self.n_partials, self.config.noise_bands, N_ENVELOPE_VALUES]
        amplitude, deviation, noise, envelopes = torch.split(values, sizes, dim=2)
        amplitudes, after = integrate_envelopes(envelopes, before)
        level = amplitudes.clamp(math.exp(QUIETEST), math.exp(LOUDEST))
        spectra = self.spectra()
        notes = level @ spectra.flatten(0, 1) + math.exp(QUIETEST)
        # An oscillator that several notes share lies at their weighted mean frequency.
        offset = level @ (spectra * self.spectra.offsets).flatten(0, 1)
        if vibrato is not None:
            moved = level * torch.cat([vibrato] * N_TIMBRES, dim=-1)
            offset = offset + moved @ (spectra * self.spectra.places).flatten(0, 1)
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
            self.render_steady(values),
            waveform,
            self.config.sample_rate,
            attack_weight=self.config.attack_weight,
        )
        vibrato = self.vibrato_loss(values.detach(), waveform)
        # Adds the vibrato's gradient without changing the loss value.
        return distance + vibrato - vibrato.detach()

    def vibrato_loss(self, values: Tensor, waveform: Tensor) -> Tensor:
        """Compare the last second, played with vibrato, with the recording's.

        See `Vibrato.loss`; only the vibrato depths get a gradient.
        """
        n_frames = min(self.vibrato.n_window, values.shape[1])
        n_samples = n_frames * self.config.frame_length
        with torch.no_grad():
            earlier, last = values[:, :-n_frames], values[:, -n_frames:]
            _, before = integrate_envelopes(
                earlier[..., -N_ENVELOPE_VALUES:], self.voices.silence(values)
            )
            phases = uniform_like(self.vibrato.power.expand(len(values), -1, -1))
            controls, _ = self.controls(last, before, self.vibrato(phases, 0, n_frames))
            output = self.synthesizer.render(controls)
        return self.vibrato.loss(output, waveform[:, -n_samples:])

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
            # A few items at a time, so that the C library reuses the memory of the ones before.
            parts = zip(torch.split(output, 2), torch.split(waveform, 2), strict=True)
            total = sum(len(own) * multi_resolution_loss(own, other, rate) for own, other in parts)
            figures[name] = float(total) / len(waveform)
        return figures

    def generate(
        self, blocks: Iterator[Tensor], *, window: int, seed: int, options: SpectralOptions
    ) -> Iterator[Tensor]:
        """Generate in windows; `seed` fixes vibrato and noise. See `Decoder.generate`."""
        del options
        synthesizer = StreamingSynthesizer(self.synthesizer, seed=seed)
        phases = self.vibrato.draw(seed)
        n_channels = 1

        def run(latents: Tensor) -> Tensor:
            """Return the values of frames, and the levels of keys in each of several channels."""
            nonlocal n_channels
            if latents.dim() == 2:
                return self.predict(latents.unsqueeze(0)).view(len(latents), -1)
            n_channels = latents.shape[1]
            mean, sides = to_mean(latents.transpose(0, 1))
            values = self.predict(mean).view(len(latents), -1)
            return torch.cat([values, sides.transpose(0, 1).flatten(1)], dim=1)

        windows = run_in_windows(
            blocks, run, window=window, before=self.frames_before, after=self.frames_after
        )
        amplitudes: Tensor | None = None
        is_wide = False  # whether the channels have differed
        for kept in windows:
            is_wide = is_wide or bool(self._split_sides(kept, n_channels)[1].any())
            # In parts: channels take more memory, and are slower where it is not reused.
            for part in torch.split(kept, max(1, window // n_channels) if is_wide else window):
                values, sides = self._split_sides(part, n_channels)
                before = self.voices.silence(values) if amplitudes is None else amplitudes
                vibrato = self.vibrato(phases, synthesizer.n_frames, values.shape[1])
                if is_wide:
                    values = excite_channels(values, sides)
                controls, amplitudes = self.controls(values, before, vibrato)
                if is_wide:
                    controls = share_oscillators(controls)
                yield _time_first(synthesizer.advance(controls), n_channels)
        yield _time_first(synthesizer.finish(), n_channels)

    def _split_sides(self, kept: Tensor, n_channels: int) -> tuple[Tensor, Tensor]:
        """Take apart what `generate` makes of a window.

        Returns:
            Values, float [1, N, values], and levels of keys in several channels, float
            [C, N, keys]; [0, N, keys] for one channel.
        """
        n_latents, n_repeats = len(kept), self.config.downsampling
        n_sides = N_KEYS * n_channels if n_channels > 1 else 0
        values, sides = torch.split(kept, [kept.shape[1] - n_sides, n_sides], dim=1)
        sides = sides.view(n_latents, -1, N_KEYS).repeat_interleave(n_repeats, dim=0)
        return values.reshape(1, n_latents * n_repeats, -1), sides.transpose(0, 1)


def _time_first(waveform: Tensor, n_channels: int) -> Tensor:
    """Turn float [1, t] or [C, t] into [t] for one channel, else into [t, C]."""
    return waveform[0] if n_channels == 1 else waveform.expand(n_channels, -1).T
