"""The CUDA engine: the CPU engine's steps on a GPU, replayed as CUDA graphs.

A step is some 250 small kernels, and launching them one by one takes longer than running them. So
samples are captured as graphs and replayed, in pieces whose length divides both a frame and the
longest dilation: one graph for each place of a piece within that dilation. Everything is float32,
and torch leaves TF32 off for matrix products by default; in half precision too few draws agree
with the reference's (`benchmarks/README.md`).

On a GPU, an H200 with torch 2.11, the tests marked `gpu` passed but for those that need two, and
it was far slower than hoped (`benchmarks/README.md`). On the CPU tests record and repeat the
operations of a piece as a graph would.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch

from core.families.wavenet.sampling import batch
from core.families.wavenet.sampling.engine import Engine
from core.families.wavenet.sampling.weights import prepare_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from core.families.wavenet.decoder import WaveNetDecoder

MOST_STREAMS = 2048
MEMORY_BYTES = 8e9  # for the past inputs of all streams


class CudaEngine(Engine):
    """One batch of streams on one device.

    Args:
        network: The network whose distribution is drawn from; not changed.
        temperature: See `WaveNetOptions`.
        n_streams: How many streams; None for as many as are worth it.
    """

    def __init__(
        self, network: WaveNetDecoder, *, temperature: float, n_streams: int | None = None
    ) -> None:
        self.n_streams = fitting_streams(network) if n_streams is None else n_streams
        self._stopping = torch.tensor(False)
        self._batch = _RecordedBatch(
            prepare_weights(network),
            temperature=temperature,
            n_streams=self.n_streams,
            hop_length=network.hop_length,
            stopping=self._stopping,
        )

    def restart(self, stream: int) -> None:
        """See `Engine.restart`."""
        self._batch.restart(stream)

    def advance(self, frames: Tensor, uniforms: Tensor) -> Tensor:
        """See `Engine.advance`."""
        return self._batch.advance(frames, uniforms.to(frames.device)).cpu()

    def close(self) -> None:
        """See `Engine.close`."""
        self._stopping.fill_(True)


def fitting_streams(network: WaveNetDecoder) -> int:
    """Return how many streams are worth it and fit; a function of the network alone."""
    return min(MOST_STREAMS, int(MEMORY_BYTES / batch.bytes_per_stream(network)))


class _RecordedBatch(batch.StreamBatch):
    """A batch whose steps read and write tensors that stay in place, so they can be replayed."""

    @torch.inference_mode()
    def _advance(self, conditions: list[Tensor], uniforms: Tensor) -> Tensor:
        longest = max(layer.dilation for layer in self.layers)
        piece = math.gcd(len(uniforms), longest)
        if self.n_samples == 0:
            self._prepare(conditions, piece)
        for kept, condition in zip(self.conditions, conditions, strict=True):
            kept.copy_(condition)
        codes = torch.zeros_like(uniforms, dtype=torch.int64)
        for start in range(0, len(uniforms), piece):
            if bool(self.stopping):
                break
            self.uniforms.copy_(uniforms[start : start + piece])
            place = (self.n_samples + start) % longest
            if place not in self.replays:
                self.replays[place] = self.record(partial(self._steps, place))
            self.replays[place]()
            codes[start : start + piece] = self.codes
        return codes

    def _prepare(self, conditions: list[Tensor], piece: int) -> None:
        n_streams = self.history.shape[1]
        self.replays: dict[int, Callable[[], None]] = {}
        self.record = recorder(self.history.device)
        self.conditions = [torch.zeros_like(condition) for condition in conditions]
        self.uniforms = self.ends.mix.new_zeros(piece, n_streams, dtype=torch.float64)
        self.codes = self.history.new_full((piece, n_streams), self.weights.silence)
        self.never = torch.tensor(False)  # a graph cannot branch on a value
        # cuBLAS and others allocate at first use, which cannot be captured.
        self._steps(0)
        for stream in range(n_streams):
            self.restart(stream)

    def _steps(self, place: int) -> None:
        codes = batch.advance(
            self.layers,
            self.ends,
            self.conditions,
            newest=self.history[1],
            second=self.history[0],
            time=place,
            uniforms=self.uniforms,
            temperature=self.temperature,
            stopping=self.never,
        )
        self.codes.copy_(codes)
        self.history.copy_(torch.cat([self.history, codes])[-2:])


def recorder(device: torch.device) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Return a function that captures work and returns its replay.

    On a device without CUDA graphs the replay is the work itself.
    """
    if device.type != "cuda":
        return lambda work: work
    # Graphs may share memory: nothing that one allocates is used after its replay.
    pool = torch.cuda.graph_pool_handle()
    # The stream that torch keeps for capturing is one of the device that it was first used on.
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def record(work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(device),
            # Thread-local: the encoder's thread may allocate on the same device meanwhile.
            torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
        ):
            work()
        return graph.replay

    return record
