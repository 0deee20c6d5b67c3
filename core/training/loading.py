"""The batches of a run as they are needed, made by worker processes while the networks learn."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader

from core.data.dataset import Batch
from core.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from core.data.dataset import Batches

MOST_WORKERS = 8  # that prepare batches for one GPU


def load_batches(batches: Batches, steps: range, *, on_gpu: bool) -> Generator[Batch, None, None]:
    """Yield the batches of some steps; closing the generator ends the workers.

    Args:
        batches: Those of the run.
        steps: Which of them, in this order.
        on_gpu: Whether a GPU will learn from them.

    Raises:
        TrainingError: A worker failed.
    """
    loader = DataLoader(
        batches,
        sampler=steps,
        batch_size=None,
        # One makes what a CPU can learn from; a GPU's own cores have little else to do.
        num_workers=min(MOST_WORKERS, own_cores()) if on_gpu else 1,
        collate_fn=Batch.share_memory,  # type: ignore[arg-type]
        pin_memory=on_gpu,
        worker_init_fn=_leave_signals_to_the_loop,
    )
    try:
        with _signals_held_back():
            batches_made = iter(loader)
        yield from batches_made
    except (OSError, RuntimeError) as error:
        cause = str(error).strip().splitlines()[-1]
        raise TrainingError(
            f"a worker could not make a batch or pass it on: {cause}; is there shared "
            "memory left, and is the data still there? Then run the same command again"
        ) from error


def own_cores() -> int:
    """Return this process's share of the cores that it may use."""
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // local_processes)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Hold signals back from processes that begin here: they would die before they ignore them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_the_loop(worker: int) -> None:
    """Live on when Ctrl-C or a cluster's SIGTERM reaches the whole process group."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
