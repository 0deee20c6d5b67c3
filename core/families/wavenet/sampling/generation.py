"""The way into sampling: latents in as they arrive, waveform out as soon as it can be played.

Latents are read and encoded on a thread of their own while the engine works (`prefetch`), so a
live input is played while it arrives; several sequences share the engine's streams (`scheduler`).
This module stands apart from `scheduler` because an exact chain needs no scheduler.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from core.errors import UsageError
from core.families.base import GenerationOptions
from core.families.wavenet.sampling.cpu import CpuEngine
from core.families.wavenet.sampling.cuda import CudaEngine
from core.families.wavenet.sampling.engine import draw_uniforms
from core.families.wavenet.sampling.prefetch import Prefetcher
from core.families.wavenet.sampling.reference import ReferenceEngine
from core.families.wavenet.sampling.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor

    from core.families.wavenet.decoder import WaveNetDecoder
    from core.families.wavenet.sampling.engine import Engine

ENGINES = ("auto", "cpu", "cuda", "reference")
FAST_ENGINES = {"cpu": CpuEngine, "cuda": CudaEngine}  # by the device that they run on
REFERENCE_STREAMS = 8  # it runs them one after the other: more would not be faster


@dataclass(frozen=True)
class WaveNetOptions(GenerationOptions):
    """Generation options of the WaveNet family.

    Attributes:
        temperature: Divides the logits before the softmax: 1 draws from the model's own
            distribution, less is safer and duller, 0 always takes the likeliest code.
        engine: What runs the network, one of `ENGINES`; `auto` goes by the device.
        exact: Whether the whole is one unbroken chain of samples, as the network was
            defined, instead of chunks that are made side by side and joined.
    """

    temperature: float = 1.0
    engine: str = "auto"
    exact: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature={self.temperature}: expected a number from 0 up")
        if self.engine not in ENGINES:
            raise UsageError(f"unknown engine {self.engine!r}; known: {', '.join(ENGINES)}")


def generate(
    network: WaveNetDecoder,
    sequences: Sequence[Iterator[Tensor]],
    *,
    seed: int,
    options: WaveNetOptions,
) -> Generator[Iterator[Tensor]]:
    """Generate the waveforms of sequences of latents; see `Decoder.generate_all`."""
    with closing(open_engine(network, options)) as engine:
        if options.exact:
            for blocks in sequences:
                engine.restart(0)
                yield _generate_chain(engine, network, blocks, seed)
        else:
            with Prefetcher(sequences) as prefetcher:
                scheduler = Scheduler(engine, network, prefetcher, seed)
                for number in range(len(sequences)):
                    yield scheduler.play(number)


def open_engine(network: WaveNetDecoder, options: WaveNetOptions) -> Engine:
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


def _generate_chain(
    engine: Engine, network: WaveNetDecoder, blocks: Iterator[Tensor], seed: int
) -> Iterator[Tensor]:
    """Generate one unbroken chain of samples, a frame at a time."""
    n_samples, hop_length = 0, network.hop_length
    for block in blocks:
        for frame in block:
            uniforms = torch.from_numpy(draw_uniforms(seed, 0, n_samples, hop_length))
            codes = engine.advance(frame.unsqueeze(0), uniforms.unsqueeze(0))
            n_samples += hop_length
            yield network.mu_law.decode(codes[0])
