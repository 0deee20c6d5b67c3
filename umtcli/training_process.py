"""What `umt train` does with its process: signals and memory."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from umtcli.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


STOPS = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED}
# A launcher passes on the signal that a terminal or a cluster has sent to all processes.
SAME_REQUEST_SECONDS = 1.0
CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def stop_requests() -> Iterator[Callable[[], str | None]]:
    """Turn Ctrl-C and SIGTERM into a request to save and stop; a second one acts at once.

    Yields:
        A function that returns the name of the signal that arrived first, or None.
    """
    received: list[tuple[str, float]] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        received.append((signal.Signals(number).name, now))
        handler = previous[signal.Signals(number)]
        if now - received[0][1] > SAME_REQUEST_SECONDS and callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield lambda: received[0][0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let this process have its share of the memory that is free, where Linux reports it.

    Linux promises more than there is and kills the processes that make use of it. Beyond this
    limit torch's allocator fails instead, which is an error of one line. Processes of one machine
    share evenly. With a GPU there is no limit: its driver may map memory that nobody uses.
    """
    import torch

    if torch.cuda.is_available() or not Path("/proc/self/statm").exists():
        yield
        return
    import resource

    import psutil

    share = available_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    allowed = psutil.Process().memory_info().data + share
    before = resource.getrlimit(resource.RLIMIT_DATA)
    set_already = [limit for limit in before if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([allowed, *set_already]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def available_memory() -> int:
    """Return how many bytes this process's machine, or its container, has left."""
    import psutil

    free: int = psutil.virtual_memory().available + psutil.swap_memory().free
    return min([free, *_left_in_cgroups(Path("/proc/self/cgroup"), CGROUPS)])


def _left_in_cgroups(own: Path, mounted: Path) -> Iterator[int]:
    """Yield how many bytes each control group of this process has left.

    Args:
        own: Lists the groups of a process, a line a hierarchy: `0::/a/b` in version 2,
            `4:memory:/a/b` in version 1.
        mounted: Where the hierarchies are; a container often sees its own group as the root.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, files = mounted, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, files = mounted / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = root / path.strip("/")
        for directory in (group, *group.parents):
            limit, usage = (_read_integer(directory / name) for name in files)
            if limit is not None and usage is not None:
                # Cached files count as used, and give way.
                yield max(0, limit - usage + _inactive_file_bytes(directory))
            if directory == root:
                break


def _read_integer(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" means no limit
        return None


def _inactive_file_bytes(directory: Path) -> int:
    try:
        lines = (directory / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    counts = dict(line.split(" ", 1) for line in lines if " " in line)
    own = counts.get("total_inactive_file") or counts.get("inactive_file") or "0"
    return int(own) if own.isdecimal() else 0
