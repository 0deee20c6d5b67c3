"""Several sequences of latents that share a batch: all of one song's chunks, then the next's.

A chunk takes the first stream that is idle. A song begins when all chunks of the one before
have, so what shares the batch is the end of one song and the beginning of others. What is made
of those is kept until the first is over: no more than streams make while its last chunks end.
How fast latents arrive and what else there is decides which stream takes a chunk and when, but
never a sample: those depend on the chunk's latents and draws alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.families.wavenet import mulaw
from core.families.wavenet.sampling.batch import BLOCK
from core.families.wavenet.sampling.chunks import Chunk, plan
from core.families.wavenet.sampling.crossfade import Joiner
from core.families.wavenet.sampling.draws import draws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.families.wavenet.sampling.engine import Engine
    from core.families.wavenet.sampling.prefetch import Reader

FRAME_PARTS = 4  # each is played when it is complete: a frame of all streams takes seconds


class Song:
    """One sequence of latents: what is read of it and not yet begun, and what is made.

    Args:
        hop_length: Samples per latent frame.

    Attributes:
        error: What went wrong when it was read.
        n_making: Chunks that have begun and are not complete.
    """

    def __init__(self, hop_length: int) -> None:
        self.joiner = Joiner(hop_length)
        self.error: BaseException | None = None
        self.n_making = 0
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
        """Whether nothing is left to read, to begin or to make; or it cannot be read."""
        is_begun = self._has_ended and self._next.start >= self.n_read
        return self.error is not None or (is_begun and not self.n_making)

    def read(self, item: Tensor | BaseException | None) -> None:
        """Take a block, float [l, D], the end, or what went wrong; see `Reader`."""
        if isinstance(item, Tensor):
            kept = self._frames[max(0, self._next.warmup - self._begin) :]
            self._begin = max(self._begin, self._next.warmup)
            self._frames = torch.cat([kept, item]) if len(kept) else item
        elif item is None:
            self._has_ended = True
        else:
            self.error = item

    def begin(self) -> tuple[Chunk, Tensor] | None:
        """Return the next chunk with its latents, float [n, D]; None if they are not there."""
        chunk = self._next
        end = min(chunk.end, self.n_read)
        if end <= chunk.start or (end < chunk.end and not self._has_ended):
            return None
        latents = self._frames[chunk.warmup - self._begin : end - self._begin]
        chunk = replace(chunk, end=end)
        self._next = next(self._plan)
        self.n_making += 1
        self.joiner.open(chunk)
        return chunk, latents


@dataclass
class Stream:
    """A chunk in the making: its latents, float [n, D], and how many frames are done."""

    song: Song
    chunk: Chunk
    latents: Tensor
    n_done: int = 0


class SharedBatch:
    """Generates chunk by chunk, as many side by side as the engine has streams.

    Args:
        engine: Makes the samples.
        reader: Gives the latents.
        seed: Seed of the draws, the same for every sequence.
        hop_length: Samples per latent frame.
    """

    def __init__(self, engine: Engine, reader: Reader, seed: int, hop_length: int) -> None:
        self.engine = engine
        self.reader = reader
        self.seed = seed
        self.hop_length = hop_length
        self.songs: dict[int, Song] = {}  # by number, in order; those before have been played
        self.streams: list[Stream | None] = [None] * engine.n_streams
        self.frames = torch.zeros(0, 0)  # one of each stream, float [n_streams, D]
        self.parts: deque[Tensor] = deque()  # draws for what is left of them
        self.failure: BaseException | None = None  # of the engine; its streams are lost

    def play(self, number: int) -> Iterator[Tensor]:
        """Yield the waveform of a sequence as it is made; those before it are dropped.

        Yields:
            float [t], never empty.

        Raises:
            BaseException: What was raised when its latents were read, or by the engine.
        """
        if self.failure is not None:
            raise self.failure
        self._drop_before(number)
        song = self._song(number)
        while not song.is_over:
            self._advance(song)
            yield from _unless_empty(song.joiner.take(last=False))
        if song.error is not None:
            raise song.error
        yield from _unless_empty(song.joiner.take(last=True))

    def _drop_before(self, number: int) -> None:
        self.reader.wanted = number
        self.songs = {n: song for n, song in self.songs.items() if n >= number}
        wanted = list(self.songs.values())
        for place, stream in enumerate(self.streams):
            if stream is not None and stream.song not in wanted:
                self.streams[place] = None

    def _song(self, number: int) -> Song:
        if number not in self.songs:
            self.songs[number] = Song(self.hop_length)
        return self.songs[number]

    def _advance(self, song: Song) -> None:
        """Generate a part of a frame of every stream; wait for a song's latents if all are idle."""
        if not self.parts:
            self._fill()
            if not any(self.streams):
                if not song.is_over:
                    self._read(wait=True)
                return
            self._begin_frame()
        try:
            waveform = mulaw.decode(self.engine.advance(self.frames, self.parts.popleft()))
        except BaseException as error:
            self.failure = error
            raise
        for place, stream in enumerate(self.streams):
            if stream is not None:
                stream.song.joiner.add(stream.chunk, waveform[place])
        if not self.parts:
            self._end_frame()

    def _fill(self) -> None:
        """Begin chunks on idle streams as far as their latents are there."""
        for place, stream in enumerate(self.streams):
            if stream is None:
                begun = self._begin_chunk()
                if begun is None:
                    return
                self.engine.restart(place)
                self.streams[place] = begun

    def _begin_chunk(self) -> Stream | None:
        while True:
            for song in self.songs.values():
                if (begun := song.begin()) is not None:
                    return Stream(song, *begun)
            if not self._read(wait=False):
                return None

    def _read(self, *, wait: bool) -> bool:
        """Give the reader's next item to its song; False if there is none."""
        item = self.reader.take(wait=wait)
        if item is None:
            return False
        number, content = item
        if number >= self.reader.wanted:
            self._song(number).read(content)
        return True

    def _begin_frame(self) -> None:
        latents = next(stream.latents for stream in self.streams if stream is not None)
        # Idle streams are computed too: products keep their shape whatever there is to do.
        self.frames = latents.new_zeros(self.engine.n_streams, latents.shape[1])
        uniforms = torch.zeros(self.engine.n_streams, self.hop_length, dtype=torch.float64)
        for place, stream in enumerate(self.streams):
            if stream is not None:
                self.frames[place] = stream.latents[stream.n_done]
                done = stream.n_done * self.hop_length
                own = draws(self.seed, stream.chunk.index, done, self.hop_length)
                uniforms[place] = torch.from_numpy(own)
        # Equal parts, and multiples of what an engine computes ahead; else the frame is whole.
        parts = FRAME_PARTS if self.hop_length % (BLOCK * FRAME_PARTS) == 0 else 1
        self.parts.extend(uniforms.chunk(parts, dim=1))

    def _end_frame(self) -> None:
        for place, stream in enumerate(self.streams):
            if stream is not None:
                stream.n_done += 1
                if stream.n_done == len(stream.latents):
                    stream.song.n_making -= 1
                    self.streams[place] = None


def _unless_empty(waveform: Tensor) -> Iterator[Tensor]:
    if len(waveform):
        yield waveform
