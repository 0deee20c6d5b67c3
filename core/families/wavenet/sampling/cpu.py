"""The CPU engine: the streams are divided among workers, one thread to a core.

Within a step each product waits for the one before, and is too small to be shared by two
cores without waiting longer for each other than for the product. So no product is shared:
each worker runs its own streams with single-threaded products, and they meet once a frame.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from core.families.wavenet.sampling.batch import StreamBatch, bytes_per_stream
from core.families.wavenet.sampling.engine import Engine
from core.families.wavenet.sampling.weights import prepare_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from core.families.wavenet.decoder import WaveNetDecoder

STREAMS_PER_WORKER = 64
MEMORY_BYTES = 1.2e9  # for the past inputs of all streams


class CpuEngine(Engine):
    """Batches of streams on as many threads as torch is set to use.

    Args:
        network: The network whose distribution is drawn from; not changed.
        temperature: See `WaveNetOptions`.
        n_streams: How many streams; None for as many as are worth it.
    """

    def __init__(
        self, network: WaveNetDecoder, *, temperature: float, n_streams: int | None = None
    ) -> None:
        n_workers = torch.get_num_threads() if n_streams is None else 1
        each = streams_per_worker(network, n_workers) if n_streams is None else n_streams
        self.n_streams = n_workers * each
        self._stopping = torch.tensor(False)
        weights = prepare_weights(network)
        self._batches = [
            StreamBatch(
                weights,
                temperature=temperature,
                n_streams=each,
                hop_length=network.hop_length,
                stopping=self._stopping,
            )
            for _ in range(n_workers)
        ]
        self._each = each
        self._pool = ThreadPoolExecutor(
            n_workers,
            thread_name_prefix="umt-sampling",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )

    def restart(self, stream: int) -> None:
        """See `Engine.restart`."""
        worker, place = divmod(stream, self._each)
        self._batches[worker].restart(place)

    def advance(self, frames: Tensor, uniforms: Tensor) -> Tensor:
        """See `Engine.advance`."""
        with single_threaded_products():
            codes = self._pool.map(
                StreamBatch.advance,
                self._batches,
                torch.split(frames, self._each),
                torch.split(uniforms, self._each),
            )
            return torch.cat(list(codes))

    def close(self) -> None:
        """See `Engine.close`."""
        self._stopping.fill_(True)
        self._pool.shutdown()


def streams_per_worker(network: WaveNetDecoder, n_workers: int) -> int:
    """Return how many streams fit, in eights; a function of the network and of the workers."""
    fitting = int(MEMORY_BYTES / n_workers / bytes_per_stream(network))
    return max(8, min(STREAMS_PER_WORKER, fitting // 8 * 8))


@contextmanager
def single_threaded_products() -> Iterator[None]:
    """Keep each thread's products on that thread for the time of the context.

    Set here as well as in each worker: torch keeps one part of its thread count for the whole
    process (MKL's) and another for each thread.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
