"""Run many tasks on several cores, and stop at once when asked.

In: a function that pickles and its tasks. Out: results as they come, in any order.
Knows nothing of audio.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.synchronize import Event
    from types import TracebackType

ResultT = TypeVar("ResultT")


class Stopped(Exception):  # noqa: N818 - not an error: the parent asked for it
    """A worker gave up its task because the whole run is being stopped."""


class Workers:
    """A pool of spawned processes, or this process alone.

    Use as a context manager. When the block ends by an exception (Ctrl-C too), tasks not
    yet begun are dropped and running ones end at their next `check_stop()`.

    Args:
        jobs: How many tasks may run at once; 1 runs them in this process.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._executor: ProcessPoolExecutor | None = None
        self._stop: Event | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._executor is None or self._stop is None:
            return
        if kind is not None:
            self._stop.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def run(
        self, function: Callable[..., ResultT], tasks: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, ResultT]]:
        """Call the function with each task's arguments.

        Yields:
            The task's index and its result, as soon as it is there.

        Raises:
            DataError: A worker process died.
        """
        if self._jobs == 1 or (len(tasks) == 1 and self._executor is None):
            for index, task in enumerate(tasks):
                yield index, function(*task)
            return
        if not tasks:
            return
        try:
            executor = self._started()
            with _interrupts_held():
                futures = {
                    executor.submit(function, *task): index for index, task in enumerate(tasks)
                }
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process died, perhaps for lack of memory; what is finished is kept: "
                "run it again, with --jobs 1"
            ) from error

    def _started(self) -> ProcessPoolExecutor:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            # Starts multiprocessing's resource tracker, which lets interrupts through when it
            # starts: so this must come before `_interrupts_held`.
            self._stop = context.Event()
            self._executor = ProcessPoolExecutor(
                self._jobs, context, initializer=_start_worker, initargs=(self._stop,)
            )
        return self._executor


_stop_event: Event | None = None  # set in worker processes only


def check_stop() -> None:
    """Raise `Stopped` in a worker whose parent is stopping; long tasks call it often."""
    if _stop_event is not None and _stop_event.is_set():
        raise Stopped


def _start_worker(stop: Event) -> None:
    global _stop_event  # noqa: PLW0603 - one per worker process, set once
    _stop_event = stop
    # Ctrl-C goes to the whole group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # returns also when the parent was killed
        os._exit(1)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from processes that are just starting; it arrives afterwards."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
