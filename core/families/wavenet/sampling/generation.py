"""Generation: latents in as they arrive, waveform out as soon as it can be played.

Latents are read and encoded on a thread of their own while the engine works, so a live
input is played while it arrives. How fast it arrives decides which stream takes a chunk and
when, but never a sample: those depend on the chunk's latents and draws alone.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from core.errors import UsageError
from core.families.wavenet import mulaw
from core.families.wavenet.sampling.chunks import Chunk, plan
from core.families.wavenet.sampling.cpu import CpuEngine
from core.families.wavenet.sampling.cuda import CudaEngine
from core.families.wavenet.sampling.draws import draws
from core.families.wavenet.sampling.joining import Joiner
from core.families.wavenet.sampling.reference import ReferenceEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.families.wavenet.network import WaveNet
    from core.families.wavenet.sampling.engine import Engine
    from core.families.wavenet.sampling.options import WaveNetOptions

BLOCKS_AHEAD = 2  # of latents, read before they are needed
FRAME_PARTS = 4  # what is complete of a frame is played: all streams' frames take seconds
POLL_SECONDS = 0.2
FAST_ENGINES = {"cpu": CpuEngine, "cuda": CudaEngine}  # by the device that they run on
REFERENCE_STREAMS = 8  # it runs them one after the other: more would not be faster


def generate(
    network: WaveNet, blocks: Iterator[Tensor], *, seed: int, options: WaveNetOptions
) -> Iterator[Tensor]:
    """Generate the waveform of latents; see `Decoder.generate`."""
    with closing(open_engine(network, options)) as engine:
        if options.exact:
            yield from _one_chain(engine, blocks, seed, network.hop_length)
        else:
            with _Reader(blocks) as reader:
                yield from _Chunks(engine, reader, seed, network.hop_length)


def open_engine(network: WaveNet, options: WaveNetOptions) -> Engine:
    """Return the engine that the options name, else the best one of the network's device.

    Raises:
        UsageError: The engine named does not run on that device.
    """
    device = network.output.weight.device.type
    name = options.engine
    if name == "auto":
        name = device if device in FAST_ENGINES else "reference"
    if name in FAST_ENGINES:
        if name != device:
            raise UsageError(f"engine={name} does not run on {device}; add --device {name}")
        streams = 1 if options.exact else None
        return FAST_ENGINES[name](network, temperature=options.temperature, n_streams=streams)
    n_streams = 1 if options.exact else REFERENCE_STREAMS
    return ReferenceEngine(network, temperature=options.temperature, n_streams=n_streams)


def _one_chain(
    engine: Engine, blocks: Iterator[Tensor], seed: int, hop_length: int
) -> Iterator[Tensor]:
    """Generate one unbroken chain of samples, a frame at a time."""
    n_samples = 0
    for block in blocks:
        for frame in block:
            uniforms = torch.from_numpy(draws(seed, 0, n_samples, hop_length))
            codes = engine.advance(frame.unsqueeze(0), uniforms.unsqueeze(0))
            n_samples += hop_length
            yield mulaw.decode(codes[0])


@dataclass
class _Stream:
    """A chunk in the making: its latents, float [n, D], and how many frames are done."""

    chunk: Chunk
    latents: Tensor
    n_done: int = 0


class _Chunks:
    """Generates chunk by chunk, as many side by side as the engine has streams."""

    def __init__(self, engine: Engine, reader: _Reader, seed: int, hop_length: int) -> None:
        self.engine = engine
        self.reader = reader
        self.seed = seed
        self.hop_length = hop_length
        self.plan = plan()
        self.next = next(self.plan)
        self.streams: list[_Stream | None] = [None] * engine.n_streams
        self.joiner = Joiner(hop_length)

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            self._fill()
            is_busy = any(self.streams)
            if is_busy:
                yield from self._advance()
            else:
                yield from self._take(last=True)
                return

    def _fill(self) -> None:
        """Start chunks on idle streams as far as their latents are there."""
        for place, stream in enumerate(self.streams):
            if stream is None:
                latents = self._latents_of_next(wait=not any(self.streams))
                if latents is None:
                    return
                self.engine.restart(place)
                self.joiner.open(self.next)
                self.streams[place] = _Stream(self.next, latents)
                self.next = next(self.plan)

    def _latents_of_next(self, *, wait: bool) -> Tensor | None:
        """Return the latents of the next chunk, None if there are not enough as yet or at all."""
        chunk = self.next
        latents = self.reader.read(chunk.warmup, chunk.end, wait=wait)
        if latents is None or chunk.warmup + len(latents) <= chunk.start:
            return None
        if chunk.warmup + len(latents) < chunk.end:  # the input ends within it
            self.next = Chunk(chunk.index, chunk.warmup, chunk.start, chunk.warmup + len(latents))
        return latents

    def _take(self, *, last: bool) -> Iterator[Tensor]:
        """Yield what can be played now, if there is anything."""
        waveform = self.joiner.take(last=last)
        if len(waveform):
            yield waveform

    def _advance(self) -> Iterator[Tensor]:
        """Generate a frame of every stream; yield what can be played before it is complete."""
        latents = next(stream.latents for stream in self.streams if stream is not None)
        # Idle streams are computed too: products keep their shape whatever there is to do.
        frames = latents.new_zeros(self.engine.n_streams, latents.shape[1])
        uniforms = torch.zeros(self.engine.n_streams, self.hop_length, dtype=torch.float64)
        for place, stream in enumerate(self.streams):
            if stream is not None:
                frames[place] = stream.latents[stream.n_done]
                done = stream.n_done * self.hop_length
                own = draws(self.seed, stream.chunk.index, done, self.hop_length)
                uniforms[place] = torch.from_numpy(own)
        # Equal parts, and multiples of what an engine computes ahead; else the frame is whole.
        parts = FRAME_PARTS if self.hop_length % (4 * FRAME_PARTS) == 0 else 1
        for numbers in uniforms.chunk(parts, dim=1):
            waveform = mulaw.decode(self.engine.advance(frames, numbers))
            for place, stream in enumerate(self.streams):
                if stream is not None:
                    self.joiner.add(stream.chunk, waveform[place])
            yield from self._take(last=False)
        for place, stream in enumerate(self.streams):
            if stream is not None:
                stream.n_done += 1
                if stream.n_done == len(stream.latents):
                    self.streams[place] = None


class _Reader:
    """Reads latents ahead on a thread of its own.

    The first block is read before that, on the caller's thread, with all of torch's threads.
    """

    def __init__(self, blocks: Iterator[Tensor]) -> None:
        self.blocks = blocks
        self.begin = 0  # frame number of `frames[0]`
        self.frames = next(blocks, torch.zeros(0, 0))
        self.has_ended = False
        self.queue: Queue[Tensor | BaseException | None] = Queue(BLOCKS_AHEAD)
        self.is_closed = Event()
        self.thread = Thread(target=self._run, name="umt-latents", daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed.set()
        # Not for longer: the thread may wait for a live input that says nothing.
        self.thread.join(2 * POLL_SECONDS)

    def read(self, start: int, stop: int, *, wait: bool) -> Tensor | None:
        """Return frames and forget those before them.

        Args:
            start: First frame, never less than in an earlier call.
            stop: One past the last.
            wait: Whether to wait for frames that are not there yet.

        Returns:
            float [n, D], fewer than asked for where the input ends; None if they are not
            there yet.
        """
        while self.begin + len(self.frames) < stop and not self.has_ended:
            try:
                item = self.queue.get(block=wait)
            except Empty:
                return None
            if isinstance(item, BaseException):
                raise item
            if item is None:
                self.has_ended = True
            else:
                self.frames = torch.cat([self.frames[max(0, start - self.begin) :], item])
                self.begin = max(self.begin, start)
        return self.frames[start - self.begin : stop - self.begin]

    def _run(self) -> None:
        try:
            for block in self.blocks:
                if not self._put(block):
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Tensor | BaseException | None) -> bool:
        """Hand over an item; False if nobody wants it any more."""
        while not self.is_closed.is_set():
            try:
                self.queue.put(item, timeout=POLL_SECONDS)
            except Full:
                continue
            return True
        return False
