"""Files that are complete or absent, and locks that end with their process.

Works on any file system. Where one lacks what is asked of it (locks, permissions, renaming over
a file), a line is logged once per directory and the work goes on without it.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

try:
    import fcntl
except ImportError:  # Windows, where things are done without locks
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.errors import UmtError

_logger = logging.getLogger(__name__)

_PREFIX, _SUFFIX = ".umt-", ".part"  # of the directory that a file is written in
_LOCK_NAME = ".lock"  # in that directory, held as long as its process lives
_LACKING = {  # what an operation answers where the file system does not have it
    errno.EBADF,  # flock on NFS, of a file that may only be read
    errno.EINVAL,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EACCES,
    errno.EMLINK,
    errno.EXDEV,
}


@contextmanager
def atomic_write(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path for a file that takes its place when the block succeeds.

    The data reaches the disk before the name does, so that after a crash the file is either the
    old one or the whole new one. On an error nothing is left and `path` is as before. A
    symbolic link stays, and the file that it points to is replaced. A replaced file passes its
    permissions on; a new one gets those of any new file.

    Writing into a directory also clears what killed processes left there.

    Args:
        path: The file to be written; its directory exists.
        overwrite: Whether an existing file may be replaced.

    Yields:
        An empty file of the same name, in a hidden directory beside the final one. It may be
        written to or replaced, and other files may be put beside it.

    Raises:
        FileExistsError: The file exists, also where it appeared during the block, and
            `overwrite` is false.
        OSError: The file system's, with `path` as its file name.
    """
    with _errors_named(path), ExitStack() as stack:
        target = Path(os.path.realpath(path))
        if not overwrite and target.exists():
            raise _exists(path)
        directory = stack.enter_context(_part_directory(target.parent))
        part = directory / target.name
        part.touch(exist_ok=False)
        # A library may replace the file by one with other permissions, as safetensors does.
        permissions = stat.S_IMODE((target if target.is_file() else part).stat().st_mode)
        yield part
        # Windows gives only files open for writing to the disk.
        with part.open("rb" if fcntl else "rb+") as written:
            _sync(written.fileno(), target.parent)
        _set_permissions(part, permissions)
        if overwrite:
            _replace(part, target)
        else:
            _publish(part, target, path)
        with suppress(OSError):  # of directories, many file systems cannot
            _sync_directory(target.parent)


@contextmanager
def exclusive_lock(path: Path, held: UmtError) -> Iterator[None]:
    """Hold a lock that no other process or thread has; it ends with this process at the latest.

    Child processes do not inherit it.

    Args:
        path: The lock's file, which is made where it is missing, and stays.
        held: Raised where somebody else has the lock, or a shared one of the same file.

    Raises:
        OSError: The file cannot be made.
    """
    descriptor = _try_lock(path, is_reported=True)
    if descriptor is None:
        raise held
    try:
        yield
    finally:
        _unlock(descriptor)


@contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Hold a lock that others may share, but that none can have exclusively meanwhile.

    Waits while another process has the lock exclusively. Where the lock's file is missing and
    cannot be made, as in a directory that is read only, the block runs without a lock.

    Args:
        path: The lock's file, which is made where it is missing, and stays.
    """
    try:
        descriptor = _try_lock(path, is_shared=True, is_reported=True)
    except OSError:
        descriptor = None
    try:
        yield
    finally:
        if descriptor is not None:
            _unlock(descriptor)


_locked: set[int] = set()  # descriptors of the locks that this process holds


def _close_inherited() -> None:
    """Close a forked child's copies: a lock lasts as long as any copy is open."""
    for descriptor in _locked:
        with suppress(OSError):
            os.close(descriptor)
    _locked.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_close_inherited)


def _try_lock(path: Path, *, is_shared: bool = False, is_reported: bool = False) -> int | None:
    """Return the descriptor of a locked file; None where another process holds the lock.

    Args:
        path: The file.
        is_shared: Whether others may share the lock; it is waited for then.
        is_reported: Whether a line is logged where the file system has no locks.
    """
    while True:
        try:
            # For writing, without which NFS gives no exclusive lock.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            descriptor = os.open(path, os.O_RDONLY)  # somebody else's
        _locked.add(descriptor)
        try:
            _flock(descriptor, is_shared=is_shared)
        except BlockingIOError:
            _unlock(descriptor)
            return None
        except OSError as error:
            if is_reported:
                _report_lacking(path.parent, "has no locks: use it by one command at a time", error)
        if _is_at(path, descriptor):
            return descriptor
        _unlock(descriptor)  # the file was removed, with its directory, before it was locked


def _flock(descriptor: int, *, is_shared: bool = False) -> None:
    """Lock an open file: exclusively and at once, or shared, when that can be had."""
    if fcntl is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    fcntl.flock(descriptor, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(descriptor: int) -> None:
    if descriptor in _locked:  # else this is a forked child, which has closed it
        _locked.remove(descriptor)
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def _part_directory(parent: Path) -> Iterator[Path]:
    """Make a directory that others can tell from those that killed processes left behind.

    A directory and not a file, because libraries make temporary files of their own beside the
    one that they are given.
    """
    _clear_leftovers(parent)
    lock = None
    while lock is None:
        directory = Path(tempfile.mkdtemp(_SUFFIX, _PREFIX, parent))
        # Another process may take the new directory for a leftover until the lock is held.
        with suppress(FileNotFoundError):
            lock = _try_lock(directory / _LOCK_NAME)
    try:
        yield directory
    finally:
        if fcntl is None:  # Windows does not remove open files
            _unlock(lock)
            shutil.rmtree(directory, ignore_errors=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
            _unlock(lock)


@cache  # once a process: a directory of thousands of files would be listed for each of them
def _clear_leftovers(parent: Path) -> None:
    """Remove the unfinished files of processes that are no more."""
    for directory in parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            try:
                descriptor = os.open(directory / _LOCK_NAME, os.O_RDWR)
            except FileNotFoundError:
                directory.rmdir()  # its process ended, or makes another one
                continue
            try:
                # Fails where its process lives, and where nothing can tell.
                _flock(descriptor)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(descriptor)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Let errors of the temporary file name the file that was asked for."""
    try:
        yield
    except OSError as error:
        is_ours = error.filename is None or _PREFIX in str(error.filename)
        if not is_ours or error.errno is None or isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace(part: Path, target: Path) -> None:
    try:
        part.replace(target)
    except OSError as error:
        if not target.is_file() or error.errno not in {*_LACKING, errno.EEXIST}:
            raise
        # Set the old file aside, where it is removed with the rest.
        previous = part.with_name(".previous")
        target.rename(previous)
        try:
            part.rename(target)
        except OSError:
            previous.rename(target)
            raise
        _report_lacking(target.parent, "cannot rename over a file in one step", error)


def _publish(part: Path, target: Path, path: Path) -> None:
    """Give the file its name, unless somebody was quicker."""
    try:
        target.hardlink_to(part)  # unlike a rename, fails where the name is taken
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        if error.errno not in _LACKING:
            raise
        try:
            target.touch(exist_ok=False)  # claims the name
        except FileExistsError:
            raise _exists(path) from error
        try:
            _replace(part, target)
        except OSError:
            target.unlink()
            raise


def _exists(path: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _set_permissions(part: Path, permissions: int) -> None:
    if stat.S_IMODE(part.stat().st_mode) == permissions:
        return
    try:
        part.chmod(permissions)
    except OSError as error:
        _report_lacking(part.parent.parent, "does not keep permissions", error)


def _sync(descriptor: int, directory: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _LACKING:
            raise
        _report_lacking(directory, "cannot tell when files have reached the disk", error)


def _sync_directory(directory: Path) -> None:
    """Put the names of a directory's files on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_reported: set[tuple[Path, str]] = set()


def _report_lacking(directory: Path, what: str, error: OSError) -> None:
    if (directory, what) not in _reported:
        _reported.add((directory, what))
        _logger.warning("%s: the file system %s (%s)", directory, what, error.strerror)


class TemporaryFile:
    """A file in the temporary directory, written once and then read.

    A full temporary directory is reported as such, with the variable that moves it: it need
    not be on the disk that results are written to.

    Attributes:
        stream: The open file; its `name` is the path.
    """

    def __init__(self, stream: BinaryIO, error: type[UmtError]) -> None:
        self.stream = stream
        self._error = error

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            UmtError: There is no room.
        """
        try:
            self.stream.write(data)
        except OSError as cause:
            raise _no_room(cause, self._error) from None

    def rewind(self) -> None:
        """Complete the file and go to its beginning.

        Raises:
            UmtError: There is no room.
        """
        try:
            self.stream.flush()
        except OSError as cause:
            raise _no_room(cause, self._error) from None
        self.stream.seek(0)


@contextmanager
def temporary_file(*, error: type[UmtError]) -> Iterator[TemporaryFile]:
    """Make a file in the temporary directory, and remove it at the end.

    Args:
        error: What is raised where there is no room for it.

    Raises:
        UmtError: As `error`.
    """
    try:
        file = tempfile.NamedTemporaryFile(prefix="umt-")  # noqa: SIM115 - closed below
    except OSError as cause:
        raise _no_room(cause, error) from None
    try:
        yield TemporaryFile(cast("BinaryIO", file), error)
    finally:
        with suppress(OSError):  # of bytes that are still in the buffer
            file.close()


def _no_room(cause: OSError, error: type[UmtError]) -> UmtError:
    # Raised without its cause: to that the command line adds advice about the results' disk.
    return error(
        f"cannot write to the temporary directory {tempfile.gettempdir()} ({cause.strerror}); "
        "set TMPDIR to a directory with room"
    )
