"""The spectral family's decoder: latents to the frames of an oscillator bank and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import tee
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from core.blocks import regroup, side_by_side
from core.errors import UsageError
from core.families.base import Decoder, GenerationOptions
from core.families.noise import noise_of_items, noise_of_some, uniform_like
from core.families.spectral.layers import ConvNeXtBlock
from core.families.spectral.losses import multi_resolution_loss
from core.families.spectral.noise_gate import NoiseGate
from core.families.spectral.note_envelopes import (
    N_TIMBRES,
    NoteEnvelopes,
    NoteSpectra,
    StrikeNoise,
    integrate_envelopes,
)
from core.families.spectral.pitch import (
    LOUD_RANGE,
    SMOOTHING_SECONDS,
    TUNING_SECONDS,
    KeyPitch,
    PitchResponse,
    hold,
    is_steady,
    nearest_in_tuning,
    presence_of,
    running_tuning,
    smooth,
    tuning_of,
    tuning_vector,
    wrapped,
)
from core.families.spectral.salience import N_KEYS
from core.families.spectral.shimmer import Shimmer
from core.families.spectral.sinusoid_lobes import LARGEST_DEVIATION
from core.families.spectral.stereo import excite_channels, share_oscillators, to_mean
from core.families.spectral.synthesizer import Controls, StreamingSynthesizer, Synthesizer
from core.families.spectral.vibrato import Vibrato
from core.families.windows import run_in_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.config import SpectralConfig

QUIETEST, LOUDEST = -12.0, 1.0  # natural logarithm of amplitudes
LARGEST_CORRECTION = 2.0  # nepers, 17 dB
FREE_HZ = 2600.0  # from which on the blocks may move an oscillator by half a bin
FLOOR_AMPLITUDE = math.exp(QUIETEST)
LOWEST_TUNING, HIGHEST_TUNING = 400.0, 480.0  # Hz of A4
FURTHEST = LARGEST_DEVIATION - 0.5  # bins by which notes move oscillators; blocks add up to 0.5
N_TUNING_VALUES = 2
STEPS_PER_SEMITONE = 12  # at which notes' harmonics are assigned to oscillators anew
MODULATION_SHARE = 0.25  # of items whose vibrato and shimmer are measured in training
PART_LATENTS = 256  # of a window that are turned into sound at a time
INITIAL_NOISE = -7.0  # of an untrained decoder, natural logarithm of the amplitude


@dataclass(frozen=True)
class SpectralOptions(GenerationOptions):
    """Generation options of the spectral family.

    Attributes:
        tuning: Frequency of A4 in Hz that the result is tuned to; None keeps the source's tuning.
    """

    tuning: float | None = None

    def __post_init__(self) -> None:
        if self.tuning is not None and not LOWEST_TUNING <= self.tuning <= HIGHEST_TUNING:
            raise UsageError(
                f"tuning {self.tuning:g} Hz is impossible: expected the frequency of A4, "
                f"{LOWEST_TUNING:g} to {HIGHEST_TUNING:g} Hz"
            )


class NoteState(NamedTuple):
    """What notes carry over from frame to frame.

    Attributes:
        amplitudes: Of the envelopes of all keys, float [B, E * keys].
        deviations: Of the keys from equal temperament, in semitones, float [B, keys].
        tuning: Sum of what frames said about the tuning, float64 [B, 2]; see `running_tuning`.
    """

    amplitudes: Tensor
    deviations: Tensor
    tuning: Tensor


class SpectralDecoder(Decoder[SpectralOptions]):
    """Notes with envelopes and spectra, corrected frame by frame by ConvNeXt blocks.

    Each key has a few timbres, each with a spectrum (`NoteSpectra`) and an envelope
    (`NoteEnvelopes`, `integrate_envelopes`). Their sum is the decoder's first estimate; the blocks,
    which see all latent channels, correct its amplitudes and frequencies and add noise to that of
    strikes (`StrikeNoise`). The blocks are those of Vocos (Siuzdak 2023, arXiv 2306.00814) and see
    some seconds; the envelopes decay exponentially and have no such limit. Notes are played at the
    pitch of the source's tuning, and follow its bends where the domain's recordings bend
    (`PitchResponse`). They are steady in training, and have the domain's vibrato and shimmer when
    they are generated (`Vibrato`, `Shimmer`).

    Args:
        config: The family's configuration.

    Attributes:
        frames_after: Latent frames after a frame that can change the networks' values there.
        least_after: The same without pitches, which can also be smoothed over the past alone.
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
        self.voices = NoteEnvelopes(
            config.voice_channels,
            config.latent_dim - config.key_channels,
            config.downsampling,
            has_pitch=config.pitch_latents,
            is_pretrained=config.pretrained_salience,
            has_strikes=config.strike_noise,
        )
        self.strikes = StrikeNoise(self._band_hertz()) if config.strike_noise else None
        sizes = (config.sample_rate, config.n_fft, config.frame_length)
        self.vibrato = Vibrato(*sizes)
        self.shimmer = Shimmer(*sizes, self.n_partials) if config.shimmer else None
        self.least_after = max(self.voices.frames_after, sum(block.padding[1] for block in blocks))
        self.frames_after = self.least_after
        if config.pitch_latents:
            self.key_pitch = KeyPitch(config.sample_rate, config.hop_length)
            self.response = PitchResponse()
            reach = round(SMOOTHING_SECONDS / 2 * config.sample_rate / config.frame_length)
            self.n_taps = 2 * reach + 1
            self.frames_after = max(self.least_after, math.ceil(reach / config.downsampling))
        self.sizes = {"amplitude": self.n_partials, "deviation": self.n_partials}
        self.sizes |= {"noise": config.noise_bands}
        if config.pitch_latents:
            self.sizes |= {"pitch": N_KEYS, "tuning": N_TUNING_VALUES}
        self.n_envelope_values = 2 * self.voices.n_envelopes * N_KEYS
        self.sizes |= {"envelopes": self.n_envelope_values}  # the last ones

    def forward(self, latents: Tensor) -> Tensor:
        """Return the waveform of latents without vibrato; the noise is drawn item by item.

        Args:
            latents: float [B, L, D].

        Returns:
            float [B, T], T = L * hop_length.
        """
        return self.render_steady(self.predict(latents))

    def render_steady(self, values: Tensor, tuning: Tensor | None = None) -> Tensor:
        """Return the waveform of the networks' values, without vibrato.

        Args:
            values: float [B, N, values].
            tuning: That notes are played in, in semitones, float [B]; None for the source's.

        Returns:
            float [B, T].
        """
        played, _ = self.play(values, self.silence(values), tuning)
        controls, _ = self.controls(values, self.silence(values).amplitudes, played)
        return self.synthesizer.render(controls)

    def predict(self, latents: Tensor) -> Tensor:
        """Run the networks: float [B, L, D] to [B, N, values], N = L * downsampling.

        The values of a frame are corrections of amplitude and frequency, noise bands, the keys'
        pitches and what they say about the tuning, and the excitations and decays of the
        envelopes; `split` takes them apart.
        """
        batch, n_latents, _ = latents.shape
        values = self.head(self.norm(self.blocks(self.input(latents))))
        features = self._features(latents)
        if self.config.pretrained_salience:
            features = features.detach()  # what they come from stays as it is
        envelopes = self.voices(features, latents[..., self.config.key_channels :])
        parts = [values.view(batch, n_latents * self.config.downsampling, -1), envelopes]
        if self.config.pitch_latents:
            parts[1:1] = self._pitches(features[:, :, 2], features[:, :, 0])
        return torch.cat(parts, dim=2)

    @torch.no_grad()
    def _pitches(
        self, deviation: Tensor, presence: Tensor, n_ahead: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return smoothed deviations and tuning vectors of frames, [B, N, keys] and [B, N, 2]."""
        n_repeats = self.config.downsampling
        smoothed = smooth(deviation, presence, n_repeats, self.n_taps, n_ahead)
        tuning = tuning_vector(deviation, presence).repeat_interleave(n_repeats, dim=1)
        return smoothed, tuning

    def stream(self, latents: Iterator[Tensor], *, is_live: bool = False) -> Iterator[Tensor]:
        """Run the networks as latents arrive; see `predict`.

        Args:
            latents: float [l, D] each.
            is_live: Whether pitches are smoothed over the past, and no more of what follows than
                the networks see anyway.

        Yields:
            float [l, downsampling * values].
        """
        downsampling = self.config.downsampling
        others, keys, rest, pitches = tee(latents, 4)
        x: Iterator[Tensor] = (self.input(own) for own in others)
        for block in self.blocks:
            assert isinstance(block, ConvNeXtBlock)
            x = block.stream(x)
        streams = [
            (self.head(self.norm(own)) for own in x),
            self.voices.stream(
                (self._features(own) for own in keys),
                (own[:, self.config.key_channels :] for own in rest),
            ),
        ]
        if self.config.pitch_latents:
            n_after = self.least_after if is_live else self.frames_after
            n_ahead = min(self.n_taps // 2, n_after * downsampling)

            def smoothed(own: Tensor, kept: slice) -> Tensor:
                features = self._features(own).unsqueeze(0)
                both = self._pitches(features[:, :, 2], features[:, :, 0], n_ahead)
                return torch.cat(both, 2).view(len(own), -1)[kept]

            before = math.ceil((self.n_taps - 1 - n_ahead) / downsampling)
            streams[1:1] = [
                run_in_context(
                    pitches, smoothed, before=before, after=math.ceil(n_ahead / downsampling)
                )
            ]
        for parts in side_by_side(*streams):
            frames = [own.reshape(len(own) * downsampling, -1) for own in parts]
            yield torch.cat(frames, dim=1).view(len(parts[0]), -1)

    def _features(self, latents: Tensor) -> Tensor:
        """Return presences, onsets and, if there are any, deviations: [..., 2 or 3, keys]."""
        # Undo the encoder's tanh; noise in training may have pushed a latent beyond 1.
        keys = latents[..., : 2 * N_KEYS].clamp(-0.999, 0.999).atanh()
        pitch = latents[..., 2 * N_KEYS : self.config.key_channels]
        return torch.cat([keys, pitch], dim=-1).view(*latents.shape[:-1], -1, N_KEYS)

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Take the networks' values apart: float [B, N, ...] by name."""
        parts = torch.split(values, list(self.sizes.values()), dim=2)
        return dict(zip(self.sizes, parts, strict=True))

    def silence(self, values: Tensor) -> NoteState:
        """Return the notes' state before the first frame of values [B, N, values]."""
        deviations = torch.zeros(len(values), N_KEYS, device=values.device)
        tuning = torch.zeros(len(values), N_TUNING_VALUES, dtype=torch.float64)
        return NoteState(self.voices.silence(values), deviations, tuning.to(values.device))

    @torch.no_grad()
    def play(
        self, values: Tensor, before: NoteState, tuning: Tensor | None = None
    ) -> tuple[Tensor, NoteState]:
        """Decide at which pitch each key is played.

        Args:
            values: float [B, N, values].
            before: The notes before the first frame.
            tuning: That notes are played in, in semitones, float [B]; None for the source's.

        Returns:
            The keys' deviations from equal temperament, in semitones, float [B, N, keys], and the
            notes after the last frame, whose amplitudes are those from before.
        """
        if not self.config.pitch_latents:
            return values.new_zeros(*values.shape[:2], N_KEYS), before
        parts = self.split(values)
        deviation = hold(parts["pitch"], before.deviations)
        n_fade = TUNING_SECONDS * self.config.sample_rate / self.config.frame_length
        own, last = running_tuning(parts["tuning"], before.tuning, n_fade)
        played = self.response(deviation, own)
        if tuning is not None:
            played = played + wrapped(tuning.view(-1, 1, 1) - own)
        return played, NoteState(before.amplitudes, deviation[:, -1], last)

    def controls(
        self, values: Tensor, before: Tensor, played: Tensor, vibrato: Tensor | None = None
    ) -> tuple[Controls, Tensor]:
        """Turn the networks' values into the synthesizer's controls.

        Args:
            values: float [B, N, values].
            before: Amplitudes of the notes before the first frame; see `integrate_envelopes`.
            played: Deviation of each key from equal temperament, in semitones, float [B, N, keys].
            vibrato: Deviation of each key relative to its frequency, float [B, N, keys]; None for
                none.

        Returns:
            The controls, and the amplitudes of the notes after the last frame.
        """
        parts = self.split(values)
        amplitudes, after = integrate_envelopes(parts["envelopes"], before)
        levels = amplitudes.clamp(max=math.exp(LOUDEST)).view(*values.shape[:2], -1, N_KEYS)
        # Item by item, as each has notes of its own.
        swings = [None] * len(levels) if vibrato is None else vibrato
        tones, strikes = levels[:, :, :N_TIMBRES], levels[:, :, N_TIMBRES:]
        banks = [self._bank(*item) for item in zip(tones, played, swings, strict=True)]
        notes, offset = (torch.stack(side) for side in zip(*banks, strict=True))
        return self.correct(values, notes, offset, strikes), after

    def correct(self, values: Tensor, notes: Tensor, offset: Tensor, strikes: Tensor) -> Controls:
        """Correct what notes play on the oscillators, and add noise.

        Args:
            values: float [B, N, values].
            notes: Amplitudes of the oscillators, float [B, N, S].
            offset: Their deviations in bins times these amplitudes, float [B, N, S].
            strikes: Amplitudes of keys' strikes, float [B, N, 1, keys]; of a model without them
                float [B, N, 0, keys].
        """
        parts = self.split(values)
        notes = notes + FLOOR_AMPLITUDE
        bands = parts["noise"].clamp(QUIETEST, LOUDEST)
        if self.strikes is not None:
            # Keys at the floor, all together, would be heard as a hiss.
            heard = strikes[:, :, 0] * (strikes[:, :, 0].detach() > FLOOR_AMPLITUDE)
            bands = 0.5 * ((2 * bands).exp() + self.strikes(heard)).log()
            bands = bands.clamp(max=LOUDEST)
        bands = bands @ self._band_filters(values)
        correction = parts["amplitude"]
        if self.config.pitch_latents:
            # A partial that glides meets the corrections of all oscillators on its way: none may
            # stand out.
            correction = LARGEST_CORRECTION * (correction / LARGEST_CORRECTION).tanh()
        amplitude = (notes.log() + correction).clamp(QUIETEST, LOUDEST).exp()
        return Controls(
            # What is at the floor is silent: hundreds of oscillators at -104 dB would be heard.
            amplitude=amplitude - FLOOR_AMPLITUDE,
            # An oscillator that several notes share lies at their weighted mean frequency.
            deviation=(offset / notes).clamp(-FURTHEST, FURTHEST)
            + self._largest_shift(values) * parts["deviation"].tanh(),
            noise=bands.exp() - FLOOR_AMPLITUDE,
        )

    def _largest_shift(self, like: Tensor) -> Tensor:
        """Return by how much the blocks may move oscillators, in bins, float [S].

        Fundamentals stay in tune to some cents; upper partials may be as far from harmonic as
        those of strings are, which deviate by the square of their number.
        """
        bins = torch.arange(1, self.n_partials + 1, device=like.device)
        if not self.config.pitch_latents:
            return torch.full_like(bins, 0.5, dtype=like.dtype)
        hertz = bins * (self.config.sample_rate / self.config.n_fft)
        return 0.5 * (hertz / FREE_HZ).square().clamp(max=1)

    def _bank(
        self, levels: Tensor, played: Tensor, vibrato: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Play notes on the oscillators.

        A note's harmonics are assigned to the oscillators nearest to them, for each of the steps
        of a fraction of a semitone at which the key is played. What is left of the pitch, and the
        vibrato, moves the oscillators.

        Args:
            levels: Amplitudes of the timbres of keys, float [N, timbres, keys].
            played: Deviations of the keys in semitones, float [N, keys].
            vibrato: Relative to the keys' frequencies, float [N, keys].

        Returns:
            Amplitudes of the oscillators, and their deviations in bins times amplitudes, float
            [N, S] each.
        """
        steps = (played * STEPS_PER_SEMITONE).round()
        # Frame by frame, so that no frame depends on which notes others are played with.
        levels = levels * (levels.detach() > FLOOR_AMPLITUDE)
        furthest = int(steps.abs().amax()) if steps.numel() else 0
        used = torch.zeros(
            N_TIMBRES, N_KEYS, 2 * furthest + 1, dtype=torch.bool, device=played.device
        )
        frames, timbres, keys = levels.detach().nonzero().unbind(1)
        used[timbres, keys, (steps[frames, keys] + furthest).long()] = True
        keys, place = used.any(0).nonzero().unbind(1)
        spectra, offsets, frequencies = self.spectra(keys, (place - furthest) / STEPS_PER_SEMITONE)
        timbres, rows = used[:, keys, place].nonzero().unbind(1)
        spectra, keys, own = spectra[timbres, rows], keys[rows], place[rows] - furthest
        level = levels[:, timbres, keys] * (steps[:, keys] == own)
        swing = 2 ** ((played[:, keys] - own / STEPS_PER_SEMITONE) / 12) - 1
        if vibrato is not None:
            swing = swing + vibrato[:, keys]
        offset = level @ (spectra * offsets[rows])
        offset = offset + (level * swing) @ (spectra * frequencies[rows])
        return level @ spectra, offset

    def _band_hertz(self) -> Tensor:
        """Return the centres of the noise bands, float [bands], evenly spaced in mels."""
        top = math.log1p(self.config.sample_rate / 2 / 700)
        return 700 * torch.linspace(0, top, self.config.noise_bands).expm1()

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
        presence = self._features(latents.detach())[:, :, 0]
        tuning, bends = self._compare_pitches(values.detach(), presence, waveform)
        distance = multi_resolution_loss(
            self.render_steady(values, tuning),
            waveform,
            self.config.sample_rate,
            attack_weight=self.config.attack_weight,
        )
        measured = bends + self._modulation_of_some(values.detach(), waveform, tuning)
        # Adds the gradients of vibrato and bends without changing the loss value.
        return distance + measured - measured.detach()

    def _compare_pitches(
        self, values: Tensor, presence: Tensor, waveform: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """Measure the recording's pitches beside the source's.

        Args:
            values: Of the source, float [B, N, values].
            presence: Of the source's keys, float [B, L, keys].
            waveform: The recording, float [B, T].

        Returns:
            The recording's tuning in semitones, float [B], as another rendition may be tuned
            otherwise; and the loss of the response to bends.
        """
        if not self.config.pitch_latents:
            return None, values.new_zeros(())
        parts = self.split(values)
        measured, power = self.key_pitch(waveform)
        recorded, vector = self._pitches(measured, presence_of(power))
        tunings = tuning_of(parts["tuning"].sum(1)), tuning_of(vector.sum(1))
        source, target = (
            deviation - nearest_in_tuning(deviation, tuning.view(-1, 1, 1))
            for deviation, tuning in zip((parts["pitch"], recorded), tunings, strict=True)
        )
        is_clear = is_steady(~(source.isnan() | target.isnan()), self.n_taps)
        # The pitch of a fainter key is seldom its own.
        is_loud = presence > presence.amax(2, keepdim=True) - LOUD_RANGE
        is_clear = is_clear & is_loud.repeat_interleave(self.config.downsampling, dim=1)
        source, target = (one.nan_to_num() for one in (source, target))
        return tunings[1], self.response.loss(source, target, is_clear)

    def _modulation_of_some(
        self, values: Tensor, waveform: Tensor, tuning: Tensor | None
    ) -> Tensor:
        """Return the modulation loss of some items, as large as that of all on average.

        Depths are few numbers that all items agree on, and take long to measure.
        """
        is_chosen = uniform_like(values[:, 0, :1]).flatten() < MODULATION_SHARE
        if not is_chosen.any():
            # A gradient all the same, as in other processes.
            depths = [self.vibrato.power, *(self.shimmer.parameters() if self.shimmer else ())]
            return 0 * torch.stack([depth.sum() for depth in depths]).sum()
        own = None if tuning is None else tuning[is_chosen]
        with noise_of_some(is_chosen):
            loss = self.modulation_loss(values[is_chosen], waveform[is_chosen], own)
        return loss * (is_chosen.sum() / (len(is_chosen) * MODULATION_SHARE))

    def modulation_loss(
        self, values: Tensor, waveform: Tensor, tuning: Tensor | None = None
    ) -> Tensor:
        """Compare the last second, played with vibrato and shimmer, with the recording's.

        See `Vibrato.loss` and `Shimmer.loss`; only their depths get a gradient.
        """
        n_frames = min(self.vibrato.n_window, values.shape[1])
        n_samples = n_frames * self.config.frame_length
        with torch.no_grad():
            played, _ = self.play(values, self.silence(values), tuning)
            earlier, last = values[:, :-n_frames], values[:, -n_frames:]
            _, before = integrate_envelopes(
                earlier[..., -self.n_envelope_values :], self.voices.silence(values)
            )
            phases = uniform_like(self.vibrato.power.expand(len(values), -1, -1))
            vibrato = self.vibrato(phases, 0, n_frames)
            controls, _ = self.controls(last, before, played[:, -n_frames:], vibrato)
            if self.shimmer is not None:
                period = self.shimmer.draw(0)
                places = uniform_like(values[:, 0, :1]).flatten() * len(period)
                gains = [self.shimmer(period, int(first), n_frames) for first in places]
                controls = replace(controls, amplitude=controls.amplitude * torch.stack(gains))
            output = self.synthesizer.render(controls)
        loss = self.vibrato.loss(output, waveform[:, -n_samples:])
        if self.shimmer is not None:
            loss = loss + self.shimmer.loss(output, waveform[:, -n_samples:])
        return loss

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
        """Generate in windows; `seed` fixes vibrato, shimmer and noise. See `Decoder.generate`."""
        synthesizer = StreamingSynthesizer(self.synthesizer, seed=seed)
        gate = NoiseGate(self.config)
        phases = self.vibrato.draw(seed)
        period = self.draw_shimmer(seed)
        n_channels = 1

        def split(latents: Tensor) -> tuple[Tensor, Tensor]:
            """Return the latents of all channels' mean, and the levels of keys in each channel."""
            nonlocal n_channels
            if latents.dim() == 2:
                return latents, latents.new_zeros(len(latents), 0)
            n_channels = latents.shape[1]
            mean, sides = to_mean(latents.transpose(0, 1))
            return mean[0], sides.transpose(0, 1).flatten(1)

        ahead = self.least_after if options.is_live else self.frames_after
        latents = regroup(gate.listen(blocks), window, join=torch.cat, first=window + ahead)
        means, others = tee(map(split, latents))
        windows = side_by_side(
            self.stream((mean for mean, _ in means), is_live=options.is_live),
            (sides for _, sides in others),
        )
        state: NoteState | None = None
        tuning = None
        if options.tuning is not None:
            if not self.config.pitch_latents:
                raise UsageError(
                    "this model has no pitch latents and always plays in tune with 440 Hz; "
                    "leave --tuning out, or use a model that was trained with pitch_latents"
                )
            tuning = torch.tensor(12 * math.log2(options.tuning / 440), device=phases.device)
        is_wide = False  # whether the channels have differed
        for window_values, window_sides in windows:
            is_wide = is_wide or bool(window_sides.any())
            # Small enough to stay in the processor's cache.
            n_together = PART_LATENTS // (n_channels if is_wide else 1)
            for own, beside in zip(
                torch.split(window_values, n_together),
                torch.split(window_sides, n_together),
                strict=True,
            ):
                values = own.reshape(1, len(own) * self.config.downsampling, -1)
                played, state = self.play(values, state or self.silence(values), tuning)
                vibrato = self.vibrato(phases, synthesizer.n_frames, values.shape[1]).unsqueeze(0)
                if is_wide:
                    values = excite_channels(
                        values, self._sides_of_frames(beside), self.voices.n_envelopes
                    )
                    played, vibrato = (x.expand(len(values), -1, -1) for x in (played, vibrato))
                controls, amplitudes = self.controls(values, state.amplitudes, played, vibrato)
                state = state._replace(amplitudes=amplitudes)
                if is_wide:
                    controls = share_oscillators(controls)
                controls = self.sway(controls, period, synthesizer.n_frames)
                yield _time_first(synthesizer.advance(gate.apply(controls)), n_channels)
        yield _time_first(synthesizer.finish(), n_channels)

    def draw_shimmer(self, seed: int) -> Tensor | None:
        """Return what `sway` needs, a function of the seed; None for a model without shimmer."""
        return None if self.shimmer is None else self.shimmer.draw(seed)

    def sway(self, controls: Controls, period: Tensor | None, first: int) -> Controls:
        """Let the levels of frames sway, of which the first has this number."""
        if self.shimmer is None or period is None:
            return controls
        gains = self.shimmer(period, first, controls.amplitude.shape[-2])
        return replace(controls, amplitude=controls.amplitude * gains)

    def _sides_of_frames(self, sides: Tensor) -> Tensor:
        """Turn levels of keys, float [l, C * keys], into those of frames, float [C, N, keys]."""
        levels = sides.view(len(sides), -1, N_KEYS)
        return levels.repeat_interleave(self.config.downsampling, dim=0).transpose(0, 1)


def _time_first(waveform: Tensor, n_channels: int) -> Tensor:
    """Turn float [1, t] or [C, t] into [t] for one channel, else into [t, C]."""
    return waveform[0] if n_channels == 1 else waveform.expand(n_channels, -1).T
