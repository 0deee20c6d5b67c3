"""How much of its time an exported model takes, block by block, as nn~ calls it.

A host computes a block while the next one is played: the share of the deadline is the time for a
block over its length. A share over 1 is a gap in the sound. The music is that of
`benchmarks.live`, and the first second, in which TorchScript compiles, is not counted.

    umt export starter --to piano --format nn~ -o piano.ts
    python -m benchmarks.exported piano.ts --blocks 1000 --busy 2
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
import warnings

import numpy as np
import torch

from benchmarks.live import RATE, music

SKIPPED_SECONDS = 1.0


def main() -> None:
    """Measure, and print one row for each block size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="A file of `umt export --format nn~`.")
    parser.add_argument("--sizes", default="1024,2048,4096", help="Samples of a block.")
    parser.add_argument("--blocks", type=int, default=1000, help="How many are counted of each.")
    parser.add_argument("--busy", type=int, default=0, help="Processes that never wait, beside it.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    neighbours = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(options.busy)]
    for neighbour in neighbours:
        neighbour.start()
    print("share of the deadline: block   median   99 %   worst   processor")
    for size in map(int, options.sizes.split(",")):
        shares, busy = measure(options.model, size, options.blocks)
        median, late, worst = np.quantile(shares, (0.5, 0.99, 1))
        print(f"{size:28d}{median:9.2f}{late:7.2f}{worst:8.2f}{busy:12.2f}")
    for neighbour in neighbours:
        neighbour.terminate()


def measure(path: str, size: int, n_blocks: int) -> tuple[np.ndarray, float]:
    """Return the share of the deadline of each block, and the processor's of them all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.load(path).eval()
    n_skipped = round(SKIPPED_SECONDS * RATE / size)
    seconds = (n_skipped + n_blocks) * size / RATE
    samples = torch.from_numpy(music(seconds, 1)[:, 0] / np.float32(2**15))
    times, began = [], 0.0
    with torch.inference_mode():
        for number, block in enumerate(samples.float().split(size)):
            if number == n_skipped:
                began = time.process_time()
            start = time.perf_counter()
            model.forward(block.view(1, 1, -1))
            times.append(time.perf_counter() - start)
    n_counted = len(times) - n_skipped
    deadline = size / RATE
    busy = (time.process_time() - began) / (n_counted * deadline)
    return np.array(times[n_skipped:]) / deadline, busy


def _spin() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(10_000))


if __name__ == "__main__":
    main()
