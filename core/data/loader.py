"""The batches of a run, made by worker processes while the networks learn."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader

from core.cores import usable_cores
from core.data.dataset import Batch
from core.errors import TrainingError, UmtError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from multiprocessing.process import BaseProcess

    from core.data.dataset import Batches

MOST_WORKERS = 8  # that prepare batches for one GPU
# On Linux as it was before Python 3.14: a worker is there at once, with the signals held back that
# are held back here. Elsewhere Python chooses.
START_METHOD = "fork" if sys.platform == "linux" else None


@contextmanager
def load_batches(batches: Batches, steps: range, *, on_gpu: bool) -> Iterator[Iterator[Batch]]:
    """Make the batches of some steps; all workers end with the block.

    Args:
        batches: Those of the run.
        steps: Which of them, in this order.
        on_gpu: Whether a GPU will learn from them.

    Yields:
        The batches.

    Raises:
        TrainingError: A worker failed, or was killed.
        DataError: The data is not what it was.
    """
    loader = DataLoader(
        batches,
        sampler=steps,
        batch_size=None,
        # One makes what a CPU can learn from; a GPU's own cores have little else to do.
        num_workers=min(MOST_WORKERS, usable_cores()) if on_gpu else 1,
        collate_fn=Batch.share_memory,  # type: ignore[arg-type]
        pin_memory=on_gpu,
        worker_init_fn=_leave_signals_to_the_loop,
        multiprocessing_context=START_METHOD,
    )
    others = set(multiprocessing.active_children())
    made = _make(loader)
    try:
        yield made
    except RuntimeError as error:
        # Raised by a signal handler, wherever the main thread is when the worker dies.
        if "DataLoader worker" not in str(error):
            raise
        raise _failed(error) from error
    finally:
        made.close()
        _kill(set(multiprocessing.active_children()) - others)


def _make(loader: DataLoader[Batch]) -> Generator[Batch, None, None]:
    try:
        with _signals_held_back():
            iterator = iter(loader)
        yield from iterator
    except (OSError, RuntimeError, UmtError) as error:
        # Its frames hold the iterator, which ends the workers when nothing refers to it.
        traceback.clear_frames(error.__traceback__)
        raise _failed(error) from error


def _failed(error: Exception) -> UmtError:
    """Return an error of one line for what went wrong in a worker."""
    # What comes from a worker is its whole traceback.
    cause = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    if isinstance(error, UmtError):
        return type(error)(cause.removeprefix(f"{type(error).__module__}.{type(error).__name__}: "))
    return TrainingError(
        f"a worker could not make a batch or pass it on: {cause}; is there shared "
        "memory left, and is the data still there? Then run the same command again"
    )


def _kill(workers: set[BaseProcess]) -> None:
    """End workers that did not end by themselves.

    They ignore the SIGTERM that Python would send to them when it exits, and it would wait for
    them for ever.
    """
    for worker in workers:
        worker.kill()
        worker.join()


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Hold signals back from processes that begin here: they would die before they ignore them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
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
