"""Sequences of latents that share an engine's streams: all chunks of one, then the next's.

A chunk takes the first stream that is idle. A sequence begins when all chunks of the one before
have begun, so the engine works on the end of one and the beginning of others at the same time.
The waveform of those others is kept until the first is over; that is no more than the streams
generate while the first one's last chunks end. How fast latents arrive decides which stream takes
a chunk and when, but never a sample: those depend on the chunk's latents and draws alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.families.wavenet.sampling.batch import BLOCK
from core.families.wavenet.sampling.chunks import Chunk, plan
from core.families.wavenet.sampling.crossfade import Crossfader
from core.families.wavenet.sampling.engine import draw_uniforms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.families.wavenet.decoder import WaveNetDecoder
    from core.families.wavenet.sampling.engine import Engine
    from core.families.wavenet.sampling.prefetch import Prefetcher

FRAME_PARTS = 4  # each is played when it is complete: a frame of all streams takes seconds


class SequenceState:
    """One sequence of latents: what is read and not yet begun, and the waveform so far.

    Args:
        hop_length: Samples per latent frame.

    Attributes:
        crossfader: Joins the chunks' waveforms.
        error: The error that ended reading it, if any.
        n_active: Chunks that have begun and are not complete.
    """

    def __init__(self, hop_length: int) -> None:
        self.crossfader = Crossfader(hop_length)
        self.error: BaseException | None = None
        self.n_active = 0
        self._plan = plan()
        self._next = next(self._plan)
        self._frames = torch.zeros(0, 0)
        self._begin = 0  # frame number of `_frames[0]`
        self._has_ended = False

    @property
    def n_read(self) -> int:
        """Frames read so far."""
        return self._begin + len(self._frames)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to read or to generate, or it cannot be read."""
        is_begun = self._has_ended and self._next.start >= self.n_read
        return self.error is not None or (is_begun and not self.n_active)

    def read(self, item: Tensor | BaseException | None) -> None:
        """Take a block, float [l, D], an error, or None for the end; see `Prefetcher`."""
        if isinstance(item, Tensor):
            kept = self._frames[max(0, self._next.warmup - self._begin) :]
            self._begin = max(self._begin, self._next.warmup)
            self._frames = torch.cat([kept, item]) if len(kept) else item
        elif item is None:
            self._has_ended = True
        else:
            self.error = item

    def begin_chunk(self) -> ActiveChunk | None:
        """Return the next chunk with its latents; None if they are not all read."""
        chunk = self._next
        end = min(chunk.end, self.n_read)
        if end <= chunk.start or (end < chunk.end and not self._has_ended):
            return None
        latents = self._frames[chunk.warmup - self._begin : end - self._begin]
        chunk = replace(chunk, end=end)
        self._next = next(self._plan)
        self.n_active += 1
        self.crossfader.open(chunk)
        return ActiveChunk(self, chunk, latents)


@dataclass
class ActiveChunk:
    """A chunk that a stream is generating.

    Attributes:
        sequence: The sequence that it is part of.
        chunk: Its frames.
        latents: float [n, D].
        n_done: Frames generated so far.
    """

    sequence: SequenceState
    chunk: Chunk
    latents: Tensor
    n_done: int = 0


class Scheduler:
    """Generates chunk by chunk, as many side by side as the engine has streams.

    Args:
        engine: Generates the codes.
        network: The network that the engine runs; gives the hop length and the codec.
        prefetcher: Gives the latents.
        seed: Seed of the draws, the same for every sequence.
    """

    def __init__(
        self, engine: Engine, network: WaveNetDecoder, prefetcher: Prefetcher, seed: int
    ) -> None:
        self.engine = engine
        self.prefetcher = prefetcher
        self.seed = seed
        self.hop_length = network.hop_length
        self.mu_law = network.mu_law
        # By number, in order; those before have been played.
        self.sequences: dict[int, SequenceState] = {}
        self.streams: list[ActiveChunk | None] = [None] * engine.n_streams
        self.frames = torch.zeros(0, 0)  # the current frame of each stream, float [n_streams, D]
        self.parts: deque[Tensor] = deque()  # random numbers for the rest of that frame
        self.failure: BaseException | None = None  # of the engine; its streams are lost

    def play(self, number: int) -> Iterator[Tensor]:
        """Yield the waveform of a sequence as it is generated; those before it are dropped.

        Yields:
            float [t], never empty.

        Raises:
            BaseException: The error of reading its latents, or of the engine.
        """
        if self.failure is not None:
            raise self.failure
        self._drop_before(number)
        sequence = self._sequence(number)
        while not sequence.is_over:
            self._advance(sequence)
            yield from _unless_empty(sequence.crossfader.take(last=False))
        if sequence.error is not None:
            raise sequence.error
        yield from _unless_empty(sequence.crossfader.take(last=True))

    def _drop_before(self, number: int) -> None:
        self.prefetcher.wanted = number
        self.sequences = {n: kept for n, kept in self.sequences.items() if n >= number}
        wanted = list(self.sequences.values())
        for place, active in enumerate(self.streams):
            if active is not None and active.sequence not in wanted:
                self.streams[place] = None

    def _sequence(self, number: int) -> SequenceState:
        if number not in self.sequences:
            self.sequences[number] = SequenceState(self.hop_length)
        return self.sequences[number]

    def _advance(self, sequence: SequenceState) -> None:
        """Generate a part of a frame of every stream; if all are idle, wait for latents."""
        if not self.parts:
            self._fill()
            if not any(self.streams):
                if not sequence.is_over:
                    self._read(wait=True)
                return
            self._begin_frame()
        try:
            waveform = self.mu_law.decode(self.engine.advance(self.frames, self.parts.popleft()))
        except BaseException as error:
            self.failure = error
            raise
        for place, active in enumerate(self.streams):
            if active is not None:
                active.sequence.crossfader.add(active.chunk, waveform[place])
        if not self.parts:
            self._end_frame()

    def _fill(self) -> None:
        """Begin chunks on idle streams as far as their latents are read."""
        for place, active in enumerate(self.streams):
            if active is None:
                begun = self._begin_chunk()
                if begun is None:
                    return
                self.engine.restart(place)
                self.streams[place] = begun

    def _begin_chunk(self) -> ActiveChunk | None:
        while True:
            for sequence in self.sequences.values():
                if (begun := sequence.begin_chunk()) is not None:
                    return begun
            if not self._read(wait=False):
                return None

    def _read(self, *, wait: bool) -> bool:
        """Pass the next item on to its sequence; return False if there is none."""
        item = self.prefetcher.take(wait=wait)
        if item is None:
            return False
        number, content = item
        if number >= self.prefetcher.wanted:
            self._sequence(number).read(content)
        return True

    def _begin_frame(self) -> None:
        latents = next(active.latents for active in self.streams if active is not None)
        # Idle streams are computed too: products of another shape are rounded in another way,
        # and a sample must not depend on how many other chunks there are.
        self.frames = latents.new_zeros(self.engine.n_streams, latents.shape[1])
        uniforms = torch.zeros(self.engine.n_streams, self.hop_length, dtype=torch.float64)
        for place, active in enumerate(self.streams):
            if active is not None:
                self.frames[place] = active.latents[active.n_done]
                done = active.n_done * self.hop_length
                own = draw_uniforms(self.seed, active.chunk.index, done, self.hop_length)
                uniforms[place] = torch.from_numpy(own)
        # Equal parts, and multiples of the samples that an engine computes ahead; where the hop
        # length cannot be divided so, the frame stays whole.
        parts = FRAME_PARTS if self.hop_length % (BLOCK * FRAME_PARTS) == 0 else 1
        self.parts.extend(uniforms.chunk(parts, dim=1))

    def _end_frame(self) -> None:
        for place, active in enumerate(self.streams):
            if active is not None:
                active.n_done += 1
                if active.n_done == len(active.latents):
                    active.sequence.n_active -= 1
                    self.streams[place] = None


def _unless_empty(waveform: Tensor) -> Iterator[Tensor]:
    if len(waveform):
        yield waveform
