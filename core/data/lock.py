"""The lock of a domain's folder: two `umt prep` at once would undo each other's work."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Keep a folder for this process alone; the lock ends with the process.

    Args:
        directory: Made if it is missing, with its parent, and removed if then left empty.

    Raises:
        DataError: It cannot be made, or another process holds it.
    """
    missing = [path for path in (directory, directory.parent) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise DataError(
            f"cannot make {directory}: {error.strerror}; choose another --out"
        ) from error
    try:
        _lock(handle, directory)
        yield
    finally:
        os.close(handle)
        with suppress(OSError):  # what holds something stays
            for path in missing:
                path.rmdir()


def _lock(handle: int, directory: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(
            f"another umt prep is at work in {directory}; run this again when it has ended"
        ) from error
