"""How many cores this process may use, which are not always those of the machine."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return how many cores this process may use: its share where several are launched.

    OMP_NUM_THREADS is obeyed as a user sets it, but not below a launcher (torchrun, accelerate
    launch), which sets it to 1 of its own accord.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    if "LOCAL_WORLD_SIZE" in os.environ:
        return max(1, cores // _positive(os.environ["LOCAL_WORLD_SIZE"], 1))
    # A list has a number for each level of nesting.
    return min(cores, _positive(os.environ.get("OMP_NUM_THREADS", "").split(",")[0], cores))


def _positive(text: str, default: int) -> int:
    """Return a positive integer, or the default where the text is none."""
    try:
        return int(text) if int(text) > 0 else default
    except ValueError:
        return default
