"""The spectral family as TorchScript: music that is translated as it is played, in other programs.

Hosts of audio models load nothing else, and it is deprecated: all of it is here and in
`core.export`. What networks compute is traced from the family's own code; what keeps a state, or
depends on values, is scripted here. A stream goes on for ever, one latent frame at a time, and
before it there was silence. Otherwise it is that of `umt translate --live`, mono.
"""

# Without `from __future__ import annotations`: TorchScript reads the types of attributes.

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from core.config import SpectralConfig
from core.families.spectral.decoder import (
    FLOOR_AMPLITUDE,
    LOUDEST,
    STEPS_PER_SEMITONE,
    NoteState,
    SpectralDecoder,
)
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.layers import ConvNeXtBlock
from core.families.spectral.noise_gate import BASS_RANGE, CLOSED_DB, NoiseGate
from core.families.spectral.note_envelopes import (
    DECAY_LIMITS,
    EXCITATION_LIMITS,
    N_TIMBRES,
    TAPS,
)
from core.families.spectral.salience import LOWEST_KEY, N_KEYS, SILENT_PRESENCE
from core.families.spectral.stft import overlap_add
from core.families.spectral.synthesizer import Controls, moves
from core.families.spectral.transposition import (
    BEGINS_WITHIN,
    ENDS_BEYOND,
    FAINTEST_NOTE,
    NOTHING,
    OctaveFold,
)
from core.families.spectral.vibrato import RATES_HZ, UNIT
from core.key_range import KeyRange

N_NOISE = 65537  # random phases in a table; a frame's begin at another place in it each time
NOISE_STEP = 40503  # of these places from frame to frame, the golden section of the table


class _Stage(nn.Module):
    """A function of tensors, and the networks that it calls."""

    def __init__(
        self, run: Callable[..., Tensor | tuple[Tensor, ...]], networks: list[nn.Module]
    ) -> None:
        super().__init__()
        self.run = run
        self.networks = nn.ModuleList(networks)
        self.dtypes: tuple[torch.dtype, ...] = ()

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run it."""
        result = self.run(*inputs)
        results = result if isinstance(result, tuple) else (result,)
        if self.dtypes:
            # Tracing makes tensors of numbers, of 64 bits, and those types other ones.
            results = tuple(own.to(dtype) for own, dtype in zip(results, self.dtypes, strict=True))
        else:
            self.dtypes = tuple(own.dtype for own in results)
        return results if isinstance(result, tuple) else results[0]


def _traced(
    run: Callable[..., Tensor | tuple[Tensor, ...]], *examples: Tensor, networks: list[nn.Module]
) -> nn.Module:
    """Record what a function does.

    Args:
        run: The function; what it does must not depend on values of its inputs.
        examples: Inputs of two items.
        networks: Whose weights it uses.
    """
    stage = _Stage(run, networks)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # Of shapes that decide what is done, which are those of frames and the same each time.
        warnings.simplefilter("ignore", TracerWarning)
        stage(*examples)
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            stage, examples, check_trace=False
        )
    return cast("nn.Module", traced)


class _Ring(nn.Module):
    """The last frames of a sequence, float [B, n, ...]."""

    frames: Tensor
    silence: Tensor

    def __init__(self, length: int, example: Tensor) -> None:
        super().__init__()
        self.length = length
        self.is_settling = False
        self.register_buffer("frames", torch.cat([example] * length, dim=1))
        self.register_buffer("silence", example[:1])

    def forward(self, frame: Tensor) -> Tensor:
        if self.is_settling:
            self.silence = frame
            self.reset(frame.shape[0])
        self.frames = torch.cat([self.frames[:, 1:], frame], dim=1)
        return self.frames

    @torch.jit.export
    def reset(self, batch: int) -> None:
        self.frames = torch.cat([torch.cat([self.silence] * self.length, dim=1)] * batch)


class _Layer(nn.Module):
    """A layer in the context of frames before and after its own: float [B, 1, ...] to the same."""

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        networks: list[nn.Module],
        example: Tensor,
        *,
        before: int,
        after: int = 0,
    ) -> None:
        super().__init__()
        self.ring = _Ring(before + 1 + after, example)
        self.run = _traced(run, self.ring.frames, networks=networks)

    def forward(self, frame: Tensor) -> Tensor:
        result: Tensor = self.run(self.ring(frame))
        return result

    @torch.jit.export
    def reset(self, batch: int) -> None:
        self.ring.reset(batch)


def _block_layer(block: ConvNeXtBlock, example: Tensor) -> _Layer:
    before, after = block.padding
    convolution = block.depthwise
    # For one frame a sum of products takes a fifth of the time of a convolution.
    step = convolution.dilation[0]
    bias = convolution.bias
    assert bias is not None

    def run(frames: Tensor) -> Tensor:
        weights = convolution.weight[:, 0].T
        y = (frames[:, ::step] * weights).sum(1, keepdim=True) + bias
        return frames[:, before : before + 1] + block.per_frame(y)

    return _Layer(run, [block], example, before=before, after=after)


def _chain(blocks: Iterable[nn.Module], example: Tensor) -> tuple[nn.ModuleList, int]:
    """Return ConvNeXt blocks as layers, and by how many frames their result lags behind."""
    layers, n_after = nn.ModuleList(), 0
    for block in blocks:
        assert isinstance(block, ConvNeXtBlock)
        layers.append(_block_layer(block, example))
        n_after += block.padding[1]
    return layers, n_after


def _settle(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Let a module have had these inputs for ever, and return its output."""
    rings = [own for own in module.modules() if isinstance(own, _Ring)]
    for ring in rings:
        ring.is_settling = True
    with torch.no_grad():
        output: Tensor = module(*inputs)
    for ring in rings:
        ring.is_settling = False
    return output


class LiveEncoder(nn.Module):
    """The encoder, latent frame by latent frame.

    Attributes:
        delay: Samples between those of a frame and the last of those that its latents need.
        silence: The latents of silence, float [1, 1, D].
    """

    samples: Tensor
    silence: Tensor

    def __init__(self, encoder: SpectralEncoder) -> None:
        super().__init__()
        hop = encoder.hop_length
        before, after = encoder.samples_before, encoder.samples_after
        n_samples = before + hop + after
        left = -before % hop
        sides = (left, -(left + n_samples) % hop)
        place = (left + before) // hop
        context, downsampling = encoder.salience.context_frames, encoder.config.downsampling

        def measure(samples: Tensor) -> tuple[Tensor, ...]:
            own = encoder._measure(F.pad(samples, sides), slice(place, place + 1))
            sharp = own.sharp.reshape(samples.shape[0], 1, -1)
            return own.grid, sharp, encoder.input(own.features), own.deviation

        def find_notes(grid: Tensor, sharp: Tensor) -> Tensor:
            halves = sharp.reshape(grid.shape[0], (2 * context + 2) * downsampling, -1)
            found = encoder._find_notes(grid, halves, slice(context + 1, context + 2))
            return torch.cat(found, dim=2)

        def join(notes: Tensor, hidden: Tensor, deviation: Tensor) -> Tensor:
            presence, onset = notes.chunk(2, dim=2)
            return encoder._join(presence, onset, hidden, deviation)

        self.register_buffer("samples", torch.zeros(1, n_samples))
        self.n_samples = n_samples
        example = torch.rand(2, n_samples) - 0.5
        self.measure = _traced(measure, example, networks=[encoder])
        grid, sharp, hidden, deviation = self.measure(example)
        self.blocks, lag = _chain(encoder.blocks, hidden)
        n_late = max(lag, context)
        self.grids = _Ring(2 * context + 2, grid)
        self.sharp_grids = _Ring(2 * context + 2, sharp)
        self.find_notes = _traced(
            find_notes, self.grids.frames, self.sharp_grids.frames, networks=[encoder]
        )
        notes = self.find_notes(self.grids.frames, self.sharp_grids.frames)
        self.late_notes = _Ring(n_late - context + 1, notes)
        self.late_hidden = _Ring(n_late - lag + 1, hidden)
        self.late_deviations = _Ring(n_late + 1, deviation)
        self.join = _traced(join, notes, hidden, deviation, networks=[encoder])
        self.delay = after + n_late * hop
        self.register_buffer("silence", _settle(self, torch.zeros(1, hop)))

    def forward(self, samples: Tensor) -> Tensor:
        """Map the next samples, float [B, hop], to the latents of a frame, float [B, 1, D]."""
        self.samples = torch.cat([self.samples, samples], dim=1)[:, -self.n_samples :]
        grid, sharp, hidden, deviation = self.measure(self.samples)
        notes = self.find_notes(self.grids(grid), self.sharp_grids(sharp))
        for block in self.blocks:
            hidden = block(hidden)
        latents: Tensor = self.join(
            self.late_notes(notes)[:, :1],
            self.late_hidden(hidden)[:, :1],
            self.late_deviations(deviation)[:, :1],
        )
        return latents

    @torch.jit.export
    def reset(self, batch: int) -> None:
        """Forget what was heard."""
        self.samples = torch.zeros(batch, self.n_samples)
        for block in self.blocks:
            block.reset(batch)  # type: ignore[operator]
        self.grids.reset(batch)
        self.sharp_grids.reset(batch)
        self.late_notes.reset(batch)
        self.late_hidden.reset(batch)
        self.late_deviations.reset(batch)


class _Values(nn.Module):
    """The decoder's networks: latents, float [B, 1, D], to values, float [B, N, values]."""

    def __init__(self, decoder: SpectralDecoder, latents: Tensor) -> None:
        super().__init__()
        config, voices = decoder.config, decoder.voices
        downsampling, n_keys = config.downsampling, config.key_channels
        self.has_pitch = config.pitch_latents

        def begin(latents: Tensor) -> tuple[Tensor, ...]:
            features = decoder._features(latents).flatten(2)
            return decoder.input(latents), features, latents[..., n_keys:]

        def finish_blocks(hidden: Tensor) -> Tensor:
            values: Tensor = decoder.head(decoder.norm(hidden))
            return values.view(hidden.shape[0], downsampling, -1)

        def begin_envelopes(frames: Tensor) -> Tensor:
            keys = frames[..., :n_keys].reshape(frames.shape[0], 3, -1, N_KEYS)
            x = voices._begin(keys, frames[..., n_keys:])
            return x[:, :, 1:2].transpose(1, 2)

        def finish_envelopes(x: Tensor, features: Tensor) -> Tensor:
            keys = features.view(features.shape[0], 1, -1, N_KEYS)
            return voices._finish(x.transpose(1, 2), keys)

        def past_layer(layer: nn.Module, example: Tensor) -> _Layer:
            assert isinstance(layer, nn.Conv2d)
            step = layer.dilation[0]

            def run(frames: Tensor) -> Tensor:
                taps = frames[:, ::step].flatten(1, 2)  # [B, taps * channels, keys]
                weights = layer.weight[..., 0].transpose(1, 2).flatten(1)
                assert layer.bias is not None
                y = weights @ taps + layer.bias.unsqueeze(1)
                return frames[:, -1:] + F.gelu(y).unsqueeze(1)

            return _Layer(run, [layer], example, before=(TAPS - 1) * step)

        example = latents.expand(2, -1, -1).contiguous()
        self.begin = _traced(begin, example, networks=[decoder])
        hidden, features, others = self.begin(example)
        self.blocks, lag = _chain(decoder.blocks, hidden)
        self.finish_blocks = _traced(finish_blocks, hidden, networks=[decoder.head, decoder.norm])
        assert voices.frames_after == 1
        n_late = decoder.least_after
        both = torch.cat([features, others], dim=2)
        self.begin_envelopes = _Layer(begin_envelopes, [voices], both, before=1, after=1)
        x = self.begin_envelopes.run(self.begin_envelopes.ring.frames)
        self.past = nn.ModuleList(past_layer(layer, x) for layer in voices.past)
        self.finish_envelopes = _traced(finish_envelopes, x, features, networks=[voices])
        n_ahead = min(decoder.n_taps // 2, n_late * downsampling) if self.has_pitch else 0
        before, after = (
            (math.ceil(n / downsampling) for n in (decoder.n_taps - 1 - n_ahead, n_ahead))
            if self.has_pitch
            else (0, 0)
        )

        def smooth(frames: Tensor) -> Tensor:
            if not config.pitch_latents:
                return frames.new_zeros(frames.shape[0], downsampling, 0)
            keys = frames.view(frames.shape[0], before + 1 + after, -1, N_KEYS)
            pitches = decoder._pitches(keys[:, :, 2], keys[:, :, 0], n_ahead)
            kept = slice(before * downsampling, (before + 1) * downsampling)
            return torch.cat(pitches, dim=2)[:, kept]

        self.pitches = _Layer(smooth, [], features, before=before, after=after)
        self.late_hidden = _Ring(n_late - lag + 1, hidden)
        self.late_x = _Ring(n_late, x)
        self.late_features = _Ring(n_late + 1, features)
        pitches = self.pitches.run(self.pitches.ring.frames)
        self.late_pitches = _Ring(n_late - after + 1, pitches.flatten(1).unsqueeze(1))
        self.n_late, self.n_keys = n_late, N_KEYS
        self.downsampling = downsampling

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return values, and the presences of keys, float [B, keys], of a frame `n_late` ago."""
        batch = latents.shape[0]
        hidden, features, others = self.begin(latents)
        x = self.begin_envelopes(torch.cat([features, others], dim=2))
        for block in self.blocks:
            hidden = block(hidden)
        for layer in self.past:
            x = layer(x)
        pitches = self.pitches(features).flatten(1).unsqueeze(1)
        pitches = self.late_pitches(pitches)[:, 0].view(batch, self.downsampling, -1)
        features = self.late_features(features)[:, :1]
        values = torch.cat(
            [
                self.finish_blocks(self.late_hidden(hidden)[:, :1]),
                pitches,
                self.finish_envelopes(self.late_x(x)[:, :1], features),
            ],
            dim=2,
        )
        return values, features[:, 0, : self.n_keys]

    @torch.jit.export
    def reset(self, batch: int) -> None:
        for block in self.blocks:
            block.reset(batch)  # type: ignore[operator]
        for layer in self.past:
            layer.reset(batch)  # type: ignore[operator]
        self.begin_envelopes.reset(batch)
        self.pitches.reset(batch)
        self.late_hidden.reset(batch)
        self.late_x.reset(batch)
        self.late_features.reset(batch)
        self.late_pitches.reset(batch)


class _Notes(nn.Module):
    """The decoder's notes: values, float [B, N, values], to controls, [B, N, ...] each."""

    amplitudes: Tensor
    deviations: Tensor
    tuning: Tensor
    gains: Tensor
    depth: Tensor
    vibrato_phases: Tensor
    spectra: Tensor
    offsets: Tensor
    frequencies: Tensor
    no_amplitudes: Tensor

    def __init__(self, decoder: SpectralDecoder, values: Tensor, seed: int) -> None:
        super().__init__()
        config = decoder.config
        before = decoder.silence(values[:1])
        gate = NoiseGate(config)
        self.has_pitch = config.pitch_latents
        self.n_envelope_values = decoder.n_envelope_values
        self.excitation_limits = [float(limit) for limit in EXCITATION_LIMITS]
        self.decay_limits = [math.log(limit) for limit in DECAY_LIMITS]
        self.loudest, self.floor = math.exp(LOUDEST), FLOOR_AMPLITUDE
        self.n_timbres, self.n_keys = N_TIMBRES, N_KEYS
        self.n_steps = STEPS_PER_SEMITONE
        self.seconds = config.frame_length / config.sample_rate
        self.rates = list(RATES_HZ)
        self.bass_range = list(BASS_RANGE)
        self.silent_presence = SILENT_PRESENCE
        self.closed = 10 ** (CLOSED_DB / 20)
        self.n_low, self.n_bass_keys, self.kept = gate.n_low, gate.n_bass_keys, gate.kept
        self.n_frames = 0
        self.register_buffer("no_amplitudes", before.amplitudes)
        self.register_buffer("amplitudes", before.amplitudes)
        self.register_buffer("deviations", before.deviations)
        self.register_buffer("tuning", before.tuning)
        self.register_buffer("gains", torch.zeros(1, 2))
        self.register_buffer("depth", UNIT * decoder.vibrato.power.detach().clamp(min=0).sqrt())
        self.register_buffer("vibrato_phases", decoder.vibrato.draw(seed))

        def play(values: Tensor, deviations: Tensor, tuning: Tensor) -> tuple[Tensor, ...]:
            before = NoteState(values[:, 0], deviations, tuning)
            played, after = decoder.play(values, before)
            return played, after.deviations, after.tuning

        def correct(
            values: Tensor, notes: Tensor, offset: Tensor, strikes: Tensor
        ) -> tuple[Tensor, ...]:
            controls = decoder.correct(values, notes, offset, strikes)
            return controls.amplitude, controls.deviation, controls.noise

        values = values.expand(2, -1, -1).contiguous()
        before = decoder.silence(values)
        self.play = _traced(play, values, before.deviations, before.tuning, networks=[decoder])
        notes = torch.rand(2, values.shape[1], decoder.n_partials)
        strikes = torch.rand(2, values.shape[1], decoder.voices.n_envelopes - N_TIMBRES, N_KEYS)
        self.correct = _traced(
            correct,
            values,
            notes,
            notes,
            strikes,
            networks=[] if decoder.strikes is None else [decoder.strikes],
        )
        keys = torch.arange(N_KEYS)
        steady = keys * 0.0
        self.find_spectra = _traced(decoder.spectra, keys, steady, networks=[decoder.spectra])
        # Of notes in tune, which all of a model without pitches are.
        spectra, offsets, frequencies = self.find_spectra(keys, steady)
        self.register_buffer("spectra", spectra)
        self.register_buffer("offsets", offsets)
        self.register_buffer("frequencies", frequencies)
        shimmer = decoder.shimmer
        period = None if shimmer is None else shimmer.draw(seed)

        def sway(frames: Tensor) -> Tensor:
            if shimmer is None or period is None:
                return torch.ones(1)
            return shimmer.gains(period, frames)

        self.sway = _traced(sway, keys, networks=[] if shimmer is None else [shimmer])

    def forward(self, values: Tensor, presence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return amplitudes, deviations and noise of frames.

        Args:
            values: float [B, N, values].
            presence: Of keys in their latent frame, float [B, keys].
        """
        played, self.deviations, self.tuning = self.play(values, self.deviations, self.tuning)
        swings = self._vibrato(values.shape[1])
        levels = self._levels(values[..., -self.n_envelope_values :])
        notes: list[Tensor] = []
        offsets: list[Tensor] = []
        for item in range(values.shape[0]):
            own, offset = self._bank(levels[item, :, : self.n_timbres], played[item], swings)
            notes.append(own)
            offsets.append(offset)
        amplitude, deviation, noise = self.correct(
            values, torch.stack(notes), torch.stack(offsets), levels[:, :, self.n_timbres :]
        )
        gains = self._gate(presence)
        whole, bass = gains[:, :1].unsqueeze(2), gains[:, 1:].unsqueeze(2)
        amplitude, noise = amplitude * whole, noise * whole
        frames = torch.arange(self.n_frames, self.n_frames + values.shape[1])
        amplitude = amplitude * self.sway(frames)
        n_low = self.n_low
        amplitude = torch.cat([amplitude[..., :n_low] * bass, amplitude[..., n_low:]], dim=2)
        noise = torch.cat([noise[..., : n_low + 1] * bass, noise[..., n_low + 1 :]], dim=2)
        self.n_frames += values.shape[1]
        return amplitude, deviation, noise

    def _levels(self, values: Tensor) -> Tensor:
        """Run the envelopes' recurrence: amplitudes, float [B, N, envelopes, keys]."""
        excitation, decay = values.chunk(2, dim=2)
        kept = (-decay.clamp(self.decay_limits[0], self.decay_limits[1]).exp()).exp()
        added = excitation.clamp(self.excitation_limits[0], self.excitation_limits[1]).exp()
        levels: list[Tensor] = []
        for n in range(values.shape[1]):
            self.amplitudes = kept[:, n] * self.amplitudes + added[:, n]
            levels.append(self.amplitudes)
        joined = torch.stack(levels, dim=1).clamp(max=self.loudest)
        return joined.view(values.shape[0], values.shape[1], -1, self.n_keys)

    def _vibrato(self, n_frames: int) -> Tensor:
        """Return deviations of keys relative to their frequency, float [N, keys]."""
        turns: list[float] = []
        for n in range(n_frames):
            for rate in self.rates:
                turns.append((self.n_frames + n) * self.seconds * rate % 1.0)
        cycles = torch.tensor(turns).view(n_frames, -1, 1) + self.vibrato_phases
        return ((2 * math.pi * cycles).sin() * self.depth).sum(1)

    def _bank(self, levels: Tensor, played: Tensor, swings: Tensor) -> tuple[Tensor, Tensor]:
        """Play notes on the oscillators as `SpectralDecoder` does, float [N, S] each.

        Args:
            levels: float [N, timbres, keys].
            played: In semitones, float [N, keys].
            swings: Of the vibrato, relative, float [N, keys].
        """
        levels = levels * (levels > self.floor)
        if not self.has_pitch:
            moved = (levels * swings.unsqueeze(1)).flatten(1)
            level = levels.flatten(1)
            offset = level @ (self.spectra * self.offsets).flatten(0, 1)
            offset = offset + moved @ (self.spectra * self.frequencies).flatten(0, 1)
            return level @ self.spectra.flatten(0, 1), offset
        steps = (played * self.n_steps).round()
        furthest = int(steps.abs().max())
        used = torch.zeros(self.n_timbres, self.n_keys, 2 * furthest + 1, dtype=torch.bool)
        heard = levels.nonzero()
        frames, timbres, keys = heard[:, 0], heard[:, 1], heard[:, 2]
        index = (steps[frames, keys] + furthest).long()
        used[timbres, keys, index] = torch.ones_like(index, dtype=torch.bool)
        found = used.any(0).nonzero()
        keys, place = found[:, 0], found[:, 1]
        spectra, offsets, frequencies = self.find_spectra(keys, (place - furthest) / self.n_steps)
        pairs = used[:, keys, place].nonzero()
        timbres, rows = pairs[:, 0], pairs[:, 1]
        spectra, keys, own = spectra[timbres, rows], keys[rows], place[rows] - furthest
        level = levels[:, timbres, keys] * (steps[:, keys] == own)
        swing = 2 ** ((played[:, keys] - own / self.n_steps) / 12) - 1 + swings[:, keys]
        offset = level @ (spectra * offsets[rows])
        offset = offset + (level * swing) @ (spectra * frequencies[rows])
        return level @ spectra, offset

    def _gate(self, presence: Tensor) -> Tensor:
        """Return the gains of everything, and of the bass besides, float [B, 2]."""
        lowest, highest = self.bass_range[0], self.bass_range[1]
        is_open = (presence.amax(1) > self.silent_presence).to(presence.dtype)
        bass = (presence[:, : self.n_bass_keys].amax(1) - lowest) / (highest - lowest)
        opened = torch.stack([is_open, bass.clamp(0.0, 1.0)], dim=1)
        self.gains = torch.maximum(opened, self.kept * self.gains)
        return torch.where(self.gains > self.closed, self.gains, torch.zeros_like(self.gains))

    @torch.jit.export
    def reset(self, batch: int) -> None:
        self.n_frames = 0
        self.amplitudes = torch.cat([self.no_amplitudes] * batch)
        self.deviations = torch.zeros(batch, self.n_keys)
        self.tuning = torch.zeros(batch, 2, dtype=torch.float64)
        self.gains = torch.zeros(batch, 2)


class _Oscillators(nn.Module):
    """The synthesizer: controls, [B, N, ...] each, to a waveform to be added with overlap."""

    phases: Tensor
    first_phases: Tensor
    amplitude: Tensor
    deviation: Tensor
    bins: Tensor
    noise: Tensor

    def __init__(self, decoder: SpectralDecoder, n_frames: int, seed: int) -> None:
        super().__init__()
        synthesizer, n_partials = decoder.synthesizer, decoder.n_partials
        self.n_bins = synthesizer.n_fft // 2 + 1
        self.n_partials = n_partials
        self.ratio = synthesizer.frame_length / synthesizer.n_fft
        self.n_noise, self.noise_step = N_NOISE, NOISE_STEP
        self.n_frames = 0
        self.register_buffer("first_phases", synthesizer.first_phases().unsqueeze(0))
        self.register_buffer("phases", self.first_phases)
        self.register_buffer("amplitude", torch.zeros(1, n_partials))
        self.register_buffer("deviation", torch.zeros(1, n_partials))
        self.register_buffer("bins", torch.arange(1, n_partials + 1))
        generator = np.random.Generator(np.random.Philox(seed % 2**64))
        table = generator.random(N_NOISE + self.n_bins, dtype=np.float32)
        self.register_buffer("noise", torch.from_numpy(table))

        def render(
            amplitude: Tensor, deviation: Tensor, noise: Tensor, phases: Tensor, turns: Tensor
        ) -> Tensor:
            frames = synthesizer.frames(Controls(amplitude, deviation, noise), phases, turns)
            return overlap_add(frames, synthesizer.frame_length)

        own = torch.rand(2, n_frames, n_partials)
        noise, turns = torch.rand(2, n_frames, self.n_bins), torch.rand(1, n_frames, self.n_bins)
        self.render = _traced(render, own, own, noise, own.double(), turns, networks=[])
        self.moves = _traced(moves, *[own[:, 0]] * 4, networks=[])

    def forward(self, amplitude: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
        """Return the sum of frames, float [B, t]."""
        phases: list[Tensor] = []
        turns: list[Tensor] = []
        for n in range(amplitude.shape[1]):
            loud, now = amplitude[:, n], deviation[:, n]
            if self.n_frames == 0:
                self.amplitude, self.deviation = loud, now
            moved = self.moves(self.amplitude, loud, self.bins + self.deviation, self.bins + now)
            source = self.bins - 1 + moved
            places = (self.bins + self.deviation.double()).gather(1, source)
            cycles = (self.bins + now.double() + places) / 2 * self.ratio
            self.phases = (self.phases.gather(1, source) + cycles) % 1
            self.amplitude, self.deviation = loud, now
            phases.append(self.phases)
            start = self.n_frames * self.noise_step % self.n_noise
            turns.append(self.noise[start : start + self.n_bins])
            self.n_frames += 1
        waveform: Tensor = self.render(
            amplitude, deviation, noise, torch.stack(phases, 1), torch.stack(turns).unsqueeze(0)
        )
        return waveform

    @torch.jit.export
    def reset(self, batch: int) -> None:
        self.n_frames = 0
        self.phases = torch.cat([self.first_phases] * batch)
        self.amplitude = torch.zeros(batch, self.n_partials)
        self.deviation = torch.zeros(batch, self.n_partials)


class _Fold(nn.Module):
    """Moves notes outside a range into it, as `OctaveFold` does; without a range, none."""

    places: Tensor
    is_outside: Tensor
    were_notes: Tensor
    nothing: Tensor

    def __init__(self, config: SpectralConfig, keys: KeyRange | None) -> None:
        super().__init__()
        self.n_keys, self.n_kinds = N_KEYS, 3 if config.pitch_latents else 2
        self.begins, self.ends = BEGINS_WITHIN, ENDS_BEYOND
        self.faintest_loudest = FAINTEST_NOTE + BEGINS_WITHIN
        every = torch.arange(N_KEYS)
        places, is_outside = every.clone(), torch.zeros(N_KEYS, dtype=torch.bool)
        if keys is not None:
            is_outside = (every < keys.lowest - LOWEST_KEY) | (every > keys.highest - LOWEST_KEY)
            fold = OctaveFold(config, keys)
            for key in is_outside.nonzero()[:, 0].tolist():
                places[key] = fold.place(key)
        self.register_buffer("places", places)
        self.register_buffer("is_outside", is_outside)
        self.register_buffer("were_notes", torch.zeros(1, N_KEYS, dtype=torch.bool))
        self.register_buffer("nothing", torch.tensor(NOTHING))

    def forward(self, latents: Tensor) -> Tensor:
        """Map the next latents, float [B, 1, D]."""
        levels = latents[:, 0, : self.n_keys].clamp(-0.999, 0.999).atanh()
        loudest = levels.amax(1, keepdim=True).clamp(min=self.faintest_loudest)
        goes_on = self.were_notes & (levels >= loudest - self.ends)
        self.were_notes = goes_on | (levels > loudest - self.begins)
        is_moved = self.were_notes & self.is_outside
        if not bool(is_moved.any()):
            return latents
        folded = latents.clone()
        for kind in range(self.n_kinds):
            first = kind * self.n_keys
            own = folded[:, 0, first : first + self.n_keys]
            folded[:, 0, first : first + self.n_keys] = torch.where(
                is_moved, self.nothing[kind], own
            )
        kept = torch.where(is_moved, torch.full_like(levels, -math.inf), levels)
        keys = is_moved.any(0).nonzero()[:, 0]
        for number in range(len(keys)):
            key = int(keys[number])
            place = int(self.places[key])
            if place >= 0 and place < self.n_keys:
                wins = is_moved[:, key] & (levels[:, key] > kept[:, place])
                kept[:, place] = torch.where(wins, levels[:, key], kept[:, place])
                for kind in range(self.n_kinds):
                    first = kind * self.n_keys
                    folded[:, 0, first + place] = torch.where(
                        wins, latents[:, 0, first + key], folded[:, 0, first + place]
                    )
        return folded

    @torch.jit.export
    def reset(self, batch: int) -> None:
        self.were_notes = torch.zeros(batch, self.n_keys, dtype=torch.bool)


class LiveDecoder(nn.Module):
    """A decoder, latent frame by latent frame.

    Args:
        decoder: The decoder.
        silence: The latents of silence, float [1, 1, D].
        keys: Its domain's range, into which notes outside are moved; None leaves them.
        seed: Of vibrato and noise.

    Attributes:
        n_late: Latent frames from one to its sound.
    """

    def __init__(
        self, decoder: SpectralDecoder, silence: Tensor, keys: KeyRange | None, seed: int
    ) -> None:
        super().__init__()
        self.is_running = False
        self.fold = _Fold(decoder.config, keys)
        self.values = _Values(decoder, silence)
        values = _settle(self.values, silence)[0]
        self.notes = _Notes(decoder, values, seed)
        self.oscillators = _Oscillators(decoder, values.shape[1], seed)
        self.n_late = self.values.n_late

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents, float [B, 1, D], to a waveform to be added with overlap, float [B, t]."""
        values, presence = self.values(self.fold(latents))
        amplitude, deviation, noise = self.notes(values, presence)
        waveform: Tensor = self.oscillators(amplitude, deviation, noise)
        return waveform

    @torch.jit.export
    def reset(self, batch: int) -> None:
        """Forget what was played."""
        self.fold.reset(batch)
        self.values.reset(batch)
        self.notes.reset(batch)
        self.oscillators.reset(batch)


def latent_names(config: SpectralConfig) -> list[str]:
    """Return what latent channels are called: those of keys by the note's name."""
    scale = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    kinds = ("presence", "onset", "pitch") if config.pitch_latents else ("presence", "onset")
    keys = range(LOWEST_KEY, LOWEST_KEY + N_KEYS)
    names = [f"{scale[key % 12]}{key // 12 - 1} {kind}" for kind in kinds for key in keys]
    return names + [f"other {n + 1}" for n in range(config.latent_dim - len(names))]


class LiveNetworks(nn.Module):
    """An encoder and decoders that translate as music is played.

    Args:
        config: The family's configuration.
        encoder: The encoder.
        decoders: The decoders.
        ranges: Of their domains, each None where there is none.
        seed: Of vibrato and noise.

    Attributes:
        delay: Samples by which the result is later.
        latent_names: Of the latent channels.
    """

    tail: Tensor
    nothing: Tensor

    def __init__(
        self,
        config: SpectralConfig,
        encoder: SpectralEncoder,
        decoders: list[SpectralDecoder],
        ranges: Sequence[KeyRange | None],
        seed: int,
    ) -> None:
        super().__init__()
        self.hop_length = config.hop_length
        self.n_keys, self.has_pitch = N_KEYS, config.pitch_latents
        self.latent_names = latent_names(config)
        self.encoder = LiveEncoder(encoder)
        self.decoders = nn.ModuleList(
            LiveDecoder(decoder, self.encoder.silence, keys, seed)
            for decoder, keys in zip(decoders, ranges, strict=True)
        )
        n_late = decoders[0].least_after
        synthesizer = decoders[0].synthesizer
        self.delay = self.encoder.delay + n_late * self.hop_length + synthesizer.overhang
        self.n_tail = 2 * synthesizer.overhang
        self.register_buffer("tail", torch.zeros(1, self.n_tail))
        self.register_buffer("nothing", torch.tensor(NOTHING))

    def forward(self, samples: Tensor, shares: list[float], semitones: float) -> Tensor:
        """Translate the next samples, float [B, hop], to as many, `delay` samples later."""
        return self.decode(self.transpose(self.encode(samples), semitones), shares)

    @torch.jit.export
    def encode(self, samples: Tensor) -> Tensor:
        """Map the next samples, float [B, hop], to latents, float [B, 1, D]."""
        if samples.shape[0] != self.encoder.samples.shape[0]:
            self.encoder.reset(samples.shape[0])
        latents: Tensor = self.encoder(samples)
        return latents

    @torch.jit.export
    def decode(self, latents: Tensor, shares: list[float]) -> Tensor:
        """Map latents, float [B, 1, D], to samples, float [B, hop].

        Args:
            latents: Of the next frame.
            shares: Of each decoder in the sum; one that has had none begins anew, after silence.
        """
        batch = latents.shape[0]
        if batch != self.tail.shape[0]:
            self.stop(batch)
        waveform = torch.zeros(batch, self.hop_length + self.n_tail)
        waveform[:, : self.n_tail] += self.tail
        for number, decoder in enumerate(self.decoders):
            if shares[number] > 0:
                if not decoder.is_running:
                    decoder.reset(batch)  # type: ignore[operator]
                waveform += shares[number] * decoder(latents)
            decoder.is_running = shares[number] > 0  # type: ignore[assignment]
        self.tail = waveform[:, self.hop_length :]
        return waveform[:, : self.hop_length]

    @torch.jit.export
    def transpose(self, latents: Tensor, semitones: float) -> Tensor:
        """Move notes as `core.families.spectral.transposition` does, to whole keys if need be."""
        n_moved = int(round(semitones))  # noqa: RUF046 - TorchScript's is a float
        fraction = semitones - n_moved
        if n_moved == 0 and fraction == 0:
            return latents
        moved = latents.clone()
        n_keys = self.n_keys
        kept = n_keys - abs(n_moved)
        start, end = max(n_moved, 0), max(-n_moved, 0)
        for kind in range(3 if self.has_pitch else 2):
            first = kind * n_keys
            own = self.nothing[kind].expand(latents.shape[0], 1, n_keys).clone()
            own[..., start : start + kept] = latents[..., first + end : first + end + kept]
            if kind == 2:
                own = own + fraction
            moved[..., first : first + n_keys] = own
        return moved

    def stop(self, batch: int) -> None:
        """Forget what was played."""
        self.tail = torch.zeros(batch, self.n_tail)
        for decoder in self.decoders:
            decoder.is_running = False  # type: ignore[assignment]

    @torch.jit.export
    def reset(self) -> None:
        """Forget everything: before what follows there was silence."""
        self.encoder.reset(self.encoder.samples.shape[0])
        self.stop(self.tail.shape[0])
