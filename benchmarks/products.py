"""The limit that `sampling` measures against: a song's matrix products by `torch.mm` alone."""

from __future__ import annotations

import math
import time
from collections import Counter
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import torch

from core.families.wavenet import mulaw
from core.families.wavenet.sampling.batch import BLOCK
from core.families.wavenet.sampling.chunks import plan
from core.presets import get_preset

if TYPE_CHECKING:
    from core.families.wavenet.sampling.cpu import CpuEngine


def least_seconds(preset: str, engine: CpuEngine, seconds: float) -> tuple[float, float]:
    """Return how long all products of a song would take as `torch.mm`, and nothing else.

    Returns:
        Seconds by the clock, and of processor time.
    """
    model = get_preset(preset).model
    n_workers = torch.get_num_threads()
    each = engine.n_streams // n_workers
    channels, skip = model.residual_channels, model.skip_channels
    shapes: Counter[tuple[int, int, int]] = Counter()  # two of them may be the same
    for layer in range(model.decoder_layers):
        block = math.gcd(min(BLOCK, 2**layer), model.hop_length)
        shapes[each * block, channels, 2 * channels] += model.decoder_blocks / block
        shapes[each, channels, 2 * channels] += model.decoder_blocks
        shapes[each, channels, channels + skip] += model.decoder_blocks
    shapes[each, skip, skip] += 1
    shapes[each, skip, mulaw.N_CLASSES] += 1
    times = [(count, *_mm_seconds(shape, n_workers)) for shape, count in shapes.items()]
    rounds = n_rounds(engine.n_streams, seconds * model.sample_rate / model.hop_length)
    n_steps = model.hop_length * rounds
    by_clock = n_steps * sum(count * clock for count, clock, _ in times)
    return by_clock, n_steps * n_workers * sum(count * cpu for count, _, cpu in times)


def n_rounds(n_streams: int, n_frames: float) -> int:
    """Return how many times the engine advances by a frame until a song is complete."""
    free = [0] * n_streams
    for chunk in plan():
        if chunk.start >= n_frames:
            return max(free)
        first = free.index(min(free))
        free[first] += min(chunk.end, round(n_frames)) - chunk.warmup
    raise AssertionError


def products(x: torch.Tensor, weights: list[torch.Tensor], out: torch.Tensor) -> None:
    """Multiply by one matrix after the other; compiled, so that Python's lock costs nothing."""
    for weight in weights:
        torch.mm(x, weight, out=out)


def _mm_seconds(shape: tuple[int, int, int], n_workers: int) -> tuple[float, float]:
    """Return the time of one product when all workers do theirs at once, over many weights.

    Returns:
        Seconds by the clock, and of one worker's processor time; the best of some tries.
    """
    rows, inner, columns = shape
    clocks, cpus = [], []
    together = Barrier(n_workers)
    multiply = torch.jit.script(products)

    def work() -> None:
        torch.set_num_threads(1)  # MKL keeps its number for each thread
        x, out = torch.randn(rows, inner), torch.empty(rows, columns)
        # As many weights as the paper's layers have: they do not all fit a core's cache.
        weights = [torch.randn(inner, columns) for _ in range(40)]
        for _ in range(8):
            together.wait()
            start, cpu_start = time.perf_counter(), time.thread_time()
            for _ in range(4):
                multiply(x, weights, out)
            clocks.append((time.perf_counter() - start) / (4 * len(weights)))
            cpus.append((time.thread_time() - cpu_start) / (4 * len(weights)))

    threads = [Thread(target=work) for _ in range(n_workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.set_num_threads(n_workers)
    return min(clocks), min(cpus)
