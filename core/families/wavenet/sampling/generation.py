"""Generation: latents in as they arrive, waveform out as soon as it can be played.

Latents are read and encoded on a thread of their own while the engine works (`reading`), so a
live input is played while it arrives; several sequences share the engine's streams (`sharing`).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import torch

from core.errors import UsageError
from core.families.wavenet import mulaw
from core.families.wavenet.sampling.cpu import CpuEngine
from core.families.wavenet.sampling.cuda import CudaEngine
from core.families.wavenet.sampling.draws import draws
from core.families.wavenet.sampling.prefetch import Reader
from core.families.wavenet.sampling.reference import ReferenceEngine
from core.families.wavenet.sampling.scheduler import SharedBatch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor

    from core.families.wavenet.network import WaveNet
    from core.families.wavenet.sampling.engine import Engine
    from core.families.wavenet.sampling.options import WaveNetOptions

FAST_ENGINES = {"cpu": CpuEngine, "cuda": CudaEngine}  # by the device that they run on
REFERENCE_STREAMS = 8  # it runs them one after the other: more would not be faster


def generate(
    network: WaveNet, sequences: Sequence[Iterator[Tensor]], *, seed: int, options: WaveNetOptions
) -> Generator[Iterator[Tensor]]:
    """Generate the waveforms of sequences of latents; see `Decoder.generate_all`."""
    with closing(open_engine(network, options)) as engine:
        if options.exact:
            for blocks in sequences:
                engine.restart(0)
                yield _one_chain(engine, blocks, seed, network.hop_length)
        else:
            with Reader(sequences) as reader:
                batch = SharedBatch(engine, reader, seed, network.hop_length)
                for number in range(len(sequences)):
                    yield batch.play(number)


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
