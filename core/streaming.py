"""What a model does with music of any length, as it arrives.

Blocks to blocks (`encode_blocks`, `decode_all`) is what the networks compute. Recordings to
streams (`encode_stream`, `decode_streams`) is that with levels, drums and lengths around it::

    recording ── level ── encode_blocks ── latents ── decode_all ── loudness, peaks, length ── audio
    └────────── encode_stream ──────────┘         └─────────────── decode_streams ───────────────┘
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from functools import cached_property
from itertools import tee
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from core.arrays import check_sample_rate, to_array
from core.audio.downmix import MonoRecording
from core.audio.levels import level_input
from core.audio.live_level import LiveLevel
from core.audio.loudness import RUNNING_SECONDS, LevelMatching, LoudnessMeter
from core.audio.percussion import split_percussion
from core.audio.resampling import resample_blocks
from core.blocks import add_up
from core.errors import LatentsError, UsageError
from core.key_range import N_MIDI_KEYS, KeyRange, best_octave, key_name
from core.latents import LatentStore
from core.model_file import find_domain, parse_target
from core.networks import Networks
from core.streams import AudioStream, CountedRecording, LatentStream, finish, match_to_recording

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from core.audio.levels import Recording
    from core.config import ModelConfig
    from core.families.base import GenerationOptions, NoteLatents

    Array = NDArray[np.float32]

_logger = logging.getLogger(__name__)

Transposition = float | Literal["fit"]

WINDOW_SECONDS = 15.0  # worked on at a time; bounds the memory of a long piece
LEAST_MOVED_SECONDS = 0.2  # of notes that were moved, before it is said
LIVE_FRAMES = 2  # latent frames at a time; one by one they take twice the processor time


class StreamTranslator(Networks):
    """Networks that translate music as it arrives.

    Attributes:
        window_seconds: How much is decoded at a time where nobody waits for it. It changes memory
            and speed, and no result by more than rounding.
    """

    window_seconds = WINDOW_SECONDS

    @cached_property
    def _warnings(self) -> set[str]:
        """What was said already."""
        return set()

    def encode_stream(
        self, recording: Recording, *, is_live: bool = False, drop_drums: bool = False
    ) -> LatentStream:
        """Encode a recording of any length as it arrives, brought to the training level.

        Nothing is read before the first block is taken. Two channels are mixed for a family that
        plays one, and a warning is logged.

        Args:
            recording: For example an `AudioInput` of `core.audio.reader.open_audio`.
            is_live: Whether the result is heard while the recording is played. It is then encoded
                frame by frame, and its gain follows what is heard; else a pipe's first seconds of
                sound are waited for.
            drop_drums: Whether only the harmonic part is encoded; see `core.audio.percussion`.
        """
        if recording.is_stereo and not self.family_description.is_stereo:
            self._warn_once(f"{self.config.model.family} models are mono: stereo input is mixed")
            recording = MonoRecording(recording)
        live = LiveLevel(self.sample_rate)
        loudness = LoudnessMeter()
        stream = LatentStream(
            iter(()),
            recording.sample_rate,
            recording.n_samples,
            recording=None if recording.is_live else recording,
            n_channels=2 if recording.is_stereo else 1,
            loudness=live if is_live else loudness,
        )
        is_measured_here = not (drop_drums or is_live)
        counted = CountedRecording(recording, stream, loudness if is_measured_here else None)

        def encoded() -> Iterator[Array]:
            stream.n_samples = recording.n_samples
            if is_live:
                stream.gain_db = None
                blocks = resample_blocks(counted.blocks(), recording.sample_rate, self.sample_rate)
                if self.level_db is not None:
                    blocks = live.raise_input(blocks, self.level_db)
            else:
                levelled = level_input(counted, self.sample_rate, self.level_db)
                stream.gain_db, blocks = levelled.gain_db, levelled.blocks
            if drop_drums:
                blocks = (own for own, _ in split_percussion(blocks, self.sample_rate))
            if is_live:
                blocks = live.listen(blocks)
            elif drop_drums:
                blocks = _measured(blocks, self.sample_rate, loudness, stream.gain_db or 0.0)
            yield from self.encode_blocks(blocks, is_live=is_live)

        stream.blocks = encoded()
        return stream

    def decode_streams(
        self,
        streams: Sequence[LatentStream],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        sample_rate: int | None = None,
        mix: float = 1.0,
        keep_drums: bool = False,
        match_level: LevelMatching = "whole",
        transpose: Transposition = 0.0,
        keep_octaves: bool = False,
    ) -> Generator[AudioStream]:
        """Decode several streams of latents: peaks lowered, cut to their audio's length.

        Args:
            streams: Of latents, each to be taken once.
            to: The domain.
            seed: Seed of random draws, the same for each.
            options: From `generation_options`; None for the defaults.
            sample_rate: Of the waveforms in Hz, which get as many samples as their recording has
                at that rate; None for the model's.
            mix: Share of the translation in the result, 0 to 1; the rest is the recording, aligned
                to the sample and at its own level.
            keep_drums: Whether the recording's percussive part is in the result whole, likewise.
            match_level: How results are brought to the loudness of what was encoded, of streams
                that were encoded here: "whole" by one gain, for which the decoded waveform is
                stored on the disk; "running" by a gain that follows, so that the first block can
                be heard before the last one is made; "off" not. What is live never waits.
            transpose: Semitones that notes are moved by; a fraction needs pitch latents. "fit"
                moves each stream by the octaves that put it best into the target's range, for
                which it is read to its end first.
            keep_octaves: As for `decode_all`.

        Yields:
            The waveform of each, to be taken before that of the next; errors as `decode_all`.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: Where a waveform is taken: its latents have another number of channels.
            AudioError: A sample rate that is none.
        """
        if not 0 <= mix <= 1:
            raise UsageError(f"mix {mix:g}: expected the translation's share, 0 to 1")
        if (mix < 1 or keep_drums) and any(stream.recording is None for stream in streams):
            what = "keep_drums" if keep_drums else "mix"
            raise UsageError(f"{what} needs a recording that can be read again: a file, not a pipe")
        if sample_rate is not None:
            check_sample_rate(sample_rate)
        if transpose == "fit":
            ranges = self._ranges_to_fit(to, options)
            for stream in streams:
                stream.blocks = self._fitted(stream, stream.blocks, ranges)
        else:
            for stream in streams:
                stream.transpose = transpose
        shares = list(self._shares(to).values())
        made = self.decode_parts(
            [stream.blocks for stream in streams],
            to=to,
            seed=seed,
            options=options,
            transpose=0.0 if transpose == "fit" else transpose,
            keep_octaves=keep_octaves,
        )
        with closing(made):
            for stream, parts in zip(streams, made, strict=True):
                audio = AudioStream(iter(()), stream, sample_rate or self.sample_rate)
                matching = "off" if stream.loudness is None else match_level
                is_live = options is not None and options.is_live
                audio.is_matched = matching != "off"
                matched = match_to_recording(
                    parts,
                    shares,
                    self.sample_rate,
                    audio,
                    matching,
                    seconds=min(self.window_seconds, RUNNING_SECONDS),
                )
                audio.blocks = finish(
                    matched, self.sample_rate, audio, mix, keep_drums=keep_drums, is_live=is_live
                )
                yield audio

    def translate_streams(
        self,
        recordings: Iterable[Recording],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        sample_rate: int | None = None,
        mix: float = 1.0,
        keep_drums: bool = False,
        drop_drums: bool = False,
        match_level: LevelMatching = "whole",
        transpose: Transposition = 0.0,
        keep_octaves: bool = False,
    ) -> Generator[AudioStream]:
        """Translate several recordings of any length as they arrive.

        Args:
            recordings: As for `encode_stream`.
            to: As for `decode_streams`.
            seed: As for `decode_streams`.
            options: As for `decode_streams`.
            sample_rate: As for `decode_streams`.
            mix: As for `decode_streams`.
            keep_drums: As for `decode_streams`; only the rest is encoded then.
            drop_drums: As for `encode_stream`.
            match_level: As for `decode_streams`.
            transpose: As for `decode_streams`.
            keep_octaves: As for `decode_all`.

        Yields:
            As `decode_streams`.
        """
        drop_drums = drop_drums or keep_drums
        is_live = options is not None and options.is_live
        streams = [
            self.encode_stream(own, is_live=is_live, drop_drums=drop_drums) for own in recordings
        ]
        yield from self.decode_streams(
            streams,
            to=to,
            seed=seed,
            options=options,
            sample_rate=sample_rate,
            mix=mix,
            keep_drums=keep_drums,
            match_level=match_level,
            transpose=transpose,
            keep_octaves=keep_octaves,
        )

    @torch.inference_mode()
    def encode_blocks(self, blocks: Iterable[Array], *, is_live: bool = False) -> Iterator[Array]:
        """Encode a waveform of any length as it arrives.

        The result is that of encoding the whole at once, however it is cut into blocks. The
        last frame is filled up with silence.

        Args:
            blocks: float32 [t] each, or [t, 2] of two channels, at the model's rate.
            is_live: Whether each frame is encoded as soon as can be.

        Yields:
            Latents, float32 [l, D] or [l, 2, D].
        """
        # Shorter windows than the decoder's, which would else wait for a whole one more.
        window = LIVE_FRAMES if is_live else self._window(self.window_seconds / 2)
        for latents in self.encoder.stream(self._whole_frames(blocks), window=window):
            yield latents.cpu().numpy()

    def decode_blocks(
        self,
        blocks: Iterable[Array],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
    ) -> Iterator[Array]:
        """Decode latents of any length as they arrive.

        Args:
            blocks: Latents, float [l, D] each, or [l, 2, D] of two channels.
            to: The domain.
            seed: Seed of random draws.
            options: From `generation_options`; None for the defaults.

        Yields:
            Waveform, float32 [t] or [t, 2], at the model's rate.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: The latents have another number of channels.
        """
        with closing(self.decode_all([blocks], to=to, seed=seed, options=options)) as waveforms:
            yield from next(waveforms)

    def decode_all(
        self,
        sequences: Iterable[Iterable[Array]],
        *,
        to: str,
        seed: int = 0,
        options: GenerationOptions | None = None,
        transpose: float = 0.0,
        keep_octaves: bool = False,
    ) -> Generator[Iterator[Array]]:
        """Decode several sequences of latents, each to the samples that it gets alone.

        Models of the WaveNet family work on several at a time, which is faster. Memory does not
        grow with the number or length of the sequences: they are read one after the other, and
        not before they are needed.

        Args:
            sequences: Blocks of latents, float [l, D] or [l, 2, D] each; may be taken on another
                thread.
            to: The domain, or several with their shares in a sum: "piano:0.7,strings:0.3".
            seed: Seed of random draws, the same for each.
            options: From `generation_options`; None for the defaults.
            transpose: Semitones that notes are moved by; a fraction needs pitch latents.
            keep_octaves: Whether notes stay where they are that a domain's instrument does not
                have. Else each domain plays them in the nearest octave that it has, as far as its
                range is known, and a warning is logged once.

        Yields:
            The waveform of each sequence in blocks, float32 [t] or [t, 2]; to be taken before that
            of the next, which drops what is left of it. What is raised while a sequence's blocks
            are read is raised again where its waveform is taken; the others can still be taken.

        Raises:
            UsageError: The domain is unknown or was not loaded.
            LatentsError: Where a waveform is taken: its latents have another number of channels.
        """
        shares = list(self._shares(to).values())
        made = self.decode_parts(
            sequences,
            to=to,
            seed=seed,
            options=options,
            transpose=transpose,
            keep_octaves=keep_octaves,
        )
        with closing(made):
            for parts in made:
                yield add_up(parts, shares)

    def _shares(self, to: str) -> dict[str, float]:
        """Return the domains of a target, each with its share."""
        return {
            find_domain(name, self.decoders.names): share
            for name, share in parse_target(to).items()
        }

    def decode_parts(
        self,
        sequences: Iterable[Iterable[Array]],
        *,
        to: str,
        seed: int,
        options: GenerationOptions | None,
        transpose: float,
        keep_octaves: bool,
    ) -> Generator[list[Iterator[Array]]]:
        """Decode as `decode_all` does; yield the waveforms of each domain before they are summed.

        Those of one sequence are to be taken side by side: what one has taken of the latents and
        another has not is kept in memory.
        """
        if transpose:
            self._transposed(torch.zeros(1, self.latent_dim), transpose)
        shares = self._shares(to)
        given = self.generation_options({}) if options is None else options
        window = LIVE_FRAMES if given.is_live else self._window(self.window_seconds)
        copies = [self._copies(blocks, len(shares), transpose) for blocks in sequences]
        if not keep_octaves:
            copies = [
                [self._in_range(blocks, name) for name, blocks in zip(shares, own, strict=True)]
                for own in copies
            ]
        with ExitStack() as stack:
            made = []
            for number, name in enumerate(shares):
                waveforms = self.decoders[name].generate_all(
                    [own[number] for own in copies], window=window, seed=seed, options=given
                )
                made.append(stack.enter_context(closing(waveforms)))
            for parts in zip(*made, strict=True):
                yield [_arrays(own) for own in parts]

    def _copies(
        self, blocks: Iterable[Array], n_copies: int, transpose: float
    ) -> list[Iterator[Tensor]]:
        """Return latents as decoders take them, for several, which may be on several threads."""
        latents = self._latents(blocks)
        if transpose:
            latents = (self._transposed(own, transpose) for own in latents)
        if n_copies == 1:
            return [latents]
        lock = Lock()

        def locked(own: Iterator[Tensor]) -> Iterator[Tensor]:
            while True:
                with lock:
                    block = next(own, None)
                if block is None:
                    return
                yield block

        return [locked(own) for own in tee(latents, n_copies)]

    def _transposed(self, latents: Tensor, semitones: float) -> Tensor:
        return self._notes().transpose(latents, self.config.model, semitones)

    def _notes(self) -> NoteLatents[ModelConfig]:
        notes = self.family_description.notes
        if notes is None:
            raise UsageError(f"{self.config.model.family} models cannot transpose")
        return notes

    def _in_range(self, blocks: Iterator[Tensor], name: str) -> Iterator[Tensor]:
        """Return latents with their notes in the range of a domain, as far as it is known."""
        keys = self.ranges.get(name)
        if keys is None:
            return blocks
        fold = self._notes().fold(self.config.model, keys)
        least = LEAST_MOVED_SECONDS * self.latent_rate

        def folded() -> Iterator[Tensor]:
            for block in blocks:
                yield fold(block)
                if fold.n_below > least:
                    self._warn_once(
                        f"notes below {key_name(keys.lowest)} are played octaves higher on {name}; "
                        "--keep-octaves keeps them"
                    )
                if fold.n_above > least:
                    self._warn_once(
                        f"notes above {key_name(keys.highest)} are played octaves lower on {name}; "
                        "--keep-octaves keeps them"
                    )

        return folded()

    def _ranges_to_fit(self, to: str, options: GenerationOptions | None) -> dict[KeyRange, float]:
        """Return the ranges of a target's domains, each with its share."""
        self._notes()
        if options is not None and options.is_live:
            raise UsageError("transpose fit reads the whole piece first, which is_live cannot")
        ranges: dict[KeyRange, float] = {}
        for name, share in parse_target(to).items():
            domain = find_domain(name, self.decoders.names)
            if domain not in self.ranges:
                raise UsageError(
                    f"transpose fit: this model does not know the range of {domain}; give a "
                    "number of semitones"
                )
            keys = self.ranges[domain]
            ranges[keys] = ranges.get(keys, 0.0) + share
        return ranges

    def _fitted(
        self, stream: LatentStream, blocks: Iterator[Array], ranges: Mapping[KeyRange, float]
    ) -> Iterator[Array]:
        """Yield latents in the octave that fits ranges best, and set the stream's `transpose`."""
        notes, config = self._notes(), self.config.model
        counts = torch.zeros(N_MIDI_KEYS)

        def counted() -> Iterator[Array]:
            for block in blocks:
                counts.add_(notes.count(torch.from_numpy(block), config))
                yield block

        with LatentStore(self.latent_dim) as store:
            kept = store.keep(counted())
            stream.transpose = 12.0 * best_octave(counts.tolist(), ranges)
            for block in kept.blocks():
                moved = notes.transpose(torch.from_numpy(block), config, stream.transpose)
                yield moved.numpy()

    def _warn_once(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.add(message)
            _logger.warning("%s", message)

    def _window(self, seconds: float) -> int:
        """Return how many latent frames to work on at a time."""
        return max(1, round(seconds * self.latent_rate))

    def _whole_frames(self, blocks: Iterable[Array]) -> Iterator[Tensor]:
        """Pass samples on, float32 [t] or [t, 2], and fill up the last latent frame."""
        n_samples = 0
        channels: tuple[int, ...] = ()
        for block in blocks:
            n_samples += len(block)
            channels = block.shape[1:]
            yield self._to_device(block.astype(np.float32, copy=False))
        if n_missing := -n_samples % self.hop_length:
            yield torch.zeros(n_missing, *channels, device=self.device)

    def _latents(self, blocks: Iterable[Array]) -> Iterator[Tensor]:
        for block in blocks:
            if block.ndim not in (2, 3) or block.shape[-1] != self.latent_dim:
                shape = block.shape if block.ndim < 3 else to_array(block).shape
                raise LatentsError(
                    f"latents of shape {shape}, model {self.id} expects "
                    f"(frames, {self.latent_dim}); were they made by another model?"
                )
            if block.ndim == 3 and not self.family_description.is_stereo:
                raise LatentsError(
                    f"latents of {block.shape[1]} channels, and {self.config.model.family} models "
                    "are mono; encode with --mono, or take one channel"
                )
            yield self._to_device(block.astype(np.float32, copy=False))

    def _to_device(self, values: Array) -> Tensor:
        # A copy: torch warns about sharing an array that is read-only, as mapped ones are.
        return torch.tensor(np.ascontiguousarray(values), device=self.device)


def _measured(
    blocks: Iterator[Array], sample_rate: int, loudness: LoudnessMeter, gain_db: float
) -> Iterator[Array]:
    """Pass blocks on, and measure them as they were before they were raised."""
    for block in blocks:
        loudness.push(block * np.float32(10 ** (-gain_db / 20)), sample_rate)
        yield block


@torch.inference_mode()
def _arrays(blocks: Iterator[Tensor]) -> Iterator[Array]:
    for block in blocks:
        yield block.cpu().numpy()
