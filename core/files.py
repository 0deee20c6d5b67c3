"""Writing files so that they are complete or absent."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block succeeds.

    The data is on the disk before the name is: after a crash the file is either the old one
    or the whole new one. On an error the temporary file is removed and `path` is as before.

    Args:
        path: The file to be written; its directory exists.

    Yields:
        The path to write to.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    temporary.touch(exist_ok=False)
    rights = temporary.stat().st_mode
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        # safetensors puts a file of its own in the place, which only its owner can read.
        temporary.chmod(rights)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every file system can
        _sync_names(path.parent)


def _sync_names(directory: Path) -> None:
    """Put the names of a directory's files on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
