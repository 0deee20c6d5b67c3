"""How `umt train` is asked to stop, and which of several processes says why they ended."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import typer

from umtcli.errors import ExitCode, exit_code, show_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from umtcli.console import Environment

STOPS = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED}


@contextmanager
def one_speaks(env: Environment, stopped_by: Callable[[], str | None]) -> Iterator[None]:
    """Leave it to one of several processes to say what strikes all, or cuts them off from it."""
    try:
        yield
    except Exception as error:
        is_alone = os.environ.get("WORLD_SIZE", "1") == "1"
        stop = None if os.environ.get("RANK", "0") == "0" else stopped_by()
        if is_alone or (stop is None and _is_first_to_fail()):
            raise
        show_traceback(env, error)
        # Asked to stop, the first process may have left the others in the middle of an update.
        raise typer.Exit(exit_code(error) if stop is None else STOPS[stop]) from error


def _is_first_to_fail() -> bool:
    """Tell whether no other process has failed; a node's first one, before they know each other."""
    from torch import distributed

    if distributed.group.WORLD is None:
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        return distributed.group.WORLD.get_group_store().add("umt/failed", 1) == 1
    except RuntimeError:  # the first process, which had the store, has failed
        return False


@contextmanager
def stop_requests() -> Iterator[Callable[[], str | None]]:
    """Turn Ctrl-C and SIGTERM into a request to save and stop; a second one acts at once.

    Any thread may ask for it: the number of a signal is in the pipe as soon as it arrives, also
    where the main thread is too busy for its handler.
    """
    received: list[str] = []
    handled: list[int] = []
    numbers = [signal.Signals[name] for name in STOPS]
    previous = {number: signal.getsignal(number) for number in numbers}
    reading, writing = os.pipe()

    def handle(number: int, frame: Any) -> None:
        handled.append(number)
        handler = previous[signal.Signals(number)]
        if len(handled) > 1 and callable(handler):
            handler(number, frame)

    def reason() -> str | None:
        with suppress(BlockingIOError):
            arrived = os.read(reading, 64)  # of workers' deaths, too
            received.extend(signal.Signals(n).name for n in arrived if n in numbers)
        return received[0] if received else None

    for end in (reading, writing):
        os.set_blocking(end, False)
    previous_pipe = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, handle)
    try:
        yield reason
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_pipe)
        os.close(reading)
        os.close(writing)
