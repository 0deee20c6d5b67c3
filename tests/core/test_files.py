"""Files that are complete or absent, who may read them, and locks that end with their process."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from core import files
from core.errors import DataError
from core.files import atomic_write, exclusive_lock, shared_lock

ROOT = Path(__file__).resolve().parents[2]
BUSY = DataError("busy")


@contextmanager
def another_process(code, *arguments):
    """Run code until it prints a line; it goes on until the block ends."""
    command = [sys.executable, "-c", f"import os, sys, time\n{code}\ntime.sleep(60)", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def write(path, content=b"new", **options):
    with atomic_write(path, **options) as part:
        part.write_bytes(content)


def write_half(path):
    with atomic_write(path) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt


def write_too_late(path):
    with atomic_write(path, overwrite=False) as part:
        part.write_bytes(b"new")
        path.write_bytes(b"quicker")


def fail_with(code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


def only(directory):
    return [path.name for path in directory.iterdir()]


def test_the_data_is_on_the_disk_before_the_name_and_the_name_at_the_end(tmp_path, monkeypatch):
    calls = []

    def fsync(handle, real=os.fsync):
        calls.append(("fsync", Path(f"/proc/self/fd/{handle}").resolve()))
        real(handle)

    def replace(source, target, real=os.replace):
        calls.append(("replace", Path(target)))
        real(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    path = tmp_path / "x.bin"
    with atomic_write(path) as part:
        part.write_bytes(b"new")
        assert not calls
    assert calls == [("fsync", part), ("replace", path), ("fsync", tmp_path)]
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path, old):
    path = tmp_path / "x.bin"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert only(tmp_path) == ([] if old is None else ["x.bin"])
    assert old is None or path.read_bytes() == old


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "x.bin"
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path) as part:
        part.unlink()
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="No space") as caught, atomic_write(path):
        fail_with(errno.ENOSPC)()
    assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path):
        Path("other").stat()
    assert caught.value.filename == "other"
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "no" / "x.bin"):
        pass
    assert caught.value.filename == str(tmp_path / "no" / "x.bin")


def write_tensors(path):
    save_file({"x": np.zeros(3)}, path)


def test_permissions_are_those_of_any_new_file_without_a_touch_of_the_umask(tmp_path, monkeypatch):
    """The umask belongs to the process: other threads make files at the same time."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.delattr(os, "umask")
            for name, fill in (("x.bin", Path.touch), ("x.safetensors", write_tensors)):
                with atomic_write(tmp_path / name) as part:
                    fill(part)
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path.name


def test_a_replaced_file_passes_its_permissions_on(tmp_path):
    path = tmp_path / "x.safetensors"
    path.touch(mode=0o600)
    with atomic_write(path) as part:
        write_tensors(part)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_link_points_to_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/x.bin")
    for content in (b"first", b"second"):
        write(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there" / "x.bin").read_bytes() == content


def test_names_as_long_as_the_file_system_takes_are_written(tmp_path):
    write(tmp_path / ("x" * 255))
    assert only(tmp_path) == ["x" * 255]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_exists_or_appears_meanwhile_is_kept(tmp_path, monkeypatch, has_links):
    if not has_links:
        monkeypatch.setattr(os, "link", fail_with(errno.EPERM))
    path = tmp_path / "x.bin"
    with pytest.raises(FileExistsError) as caught:
        write_too_late(path)
    assert caught.value.filename == str(path)
    with pytest.raises(FileExistsError), atomic_write(path, overwrite=False):
        pytest.fail("work was done for a file that cannot be written")
    assert path.read_bytes() == b"quicker"
    path.unlink()
    write(path, overwrite=False)
    assert path.read_bytes() == b"new"
    assert only(tmp_path) == ["x.bin"]


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("fsync", errno.EINVAL),
        ("fsync", errno.ENOSYS),
        ("chmod", errno.EPERM),
        ("replace", errno.EEXIST),
        ("replace", errno.ENOSYS),
    ],
)
def test_a_file_system_that_lacks_something_costs_a_notice_once(
    tmp_path, monkeypatch, caplog, function, code
):
    path = tmp_path / "x.safetensors"
    path.touch()
    monkeypatch.setattr(os, function, fail_with(code))
    for _ in range(2):
        with atomic_write(path) as part:
            write_tensors(part)
    assert path.stat().st_size
    assert only(tmp_path) == [path.name]
    (message,) = caplog.messages
    assert str(tmp_path) in message


def test_a_directory_that_cannot_be_synced_is_not_worth_a_notice(tmp_path, monkeypatch, caplog):
    def fsync(handle, real=os.fsync):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == b"new"
    assert not caplog.messages


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_data_that_does_not_reach_the_disk_is_an_error(tmp_path, monkeypatch, code):
    monkeypatch.setattr(os, "fsync", fail_with(code))
    with pytest.raises(OSError, match=os.strerror(code)):
        write(tmp_path / "x.bin")
    assert only(tmp_path) == []


def test_rename_that_fails_in_both_ways_puts_the_old_file_back(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def rename(source, target, real=os.rename):
        if Path(source).name == "x.bin" and Path(target) == path:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", fail_with(errno.EEXIST))
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        write(path)
    assert path.read_bytes() == b"old"
    assert only(tmp_path) == ["x.bin"]


WRITER = """
from pathlib import Path
from core.files import atomic_write
with atomic_write(Path(sys.argv[1])) as part:
    part.with_name("of a library").write_bytes(b"half")
    print(part, flush=True)
    time.sleep(60)
"""


def test_leftovers_of_a_killed_process_are_cleared_and_those_of_a_living_one_are_not(tmp_path):
    with (
        another_process(WRITER, tmp_path / "dead.bin") as (killed, dead),
        another_process(WRITER, tmp_path / "alive.bin") as (_, alive),
    ):
        killed.kill()
        killed.wait()
        assert Path(dead).exists()
        write(tmp_path / "x.bin")
        assert Path(alive).exists()
        assert not Path(dead).parent.exists()
    assert (tmp_path / "x.bin").read_bytes() == b"new"


def test_without_locks_nothing_is_taken_for_a_leftover(tmp_path, monkeypatch):
    with another_process(WRITER, tmp_path / "alive.bin") as (_, alive):
        monkeypatch.setattr(fcntl, "flock", fail_with(errno.ENOLCK))
        write(tmp_path / "x.bin")
        assert Path(alive).exists()


def test_directory_that_is_cleared_before_its_lock_is_held_is_made_anew(tmp_path, monkeypatch):
    made = []

    def mkdtemp(*args, real=files.tempfile.mkdtemp):
        made.append(real(*args))
        if len(made) == 1:
            files._clear_leftovers.__wrapped__(tmp_path)
        return made[-1]

    monkeypatch.setattr(files.tempfile, "mkdtemp", mkdtemp)
    write(tmp_path / "x.bin")
    assert len(made) == 2
    assert only(tmp_path) == ["x.bin"]


LOCK = """
from pathlib import Path
from core.errors import DataError
from core.files import exclusive_lock, shared_lock
path = Path(sys.argv[1])
with {lock}:
    if not os.fork():  # stays behind, as a loader's worker does for some seconds
        print(os.getpid(), flush=True)
    time.sleep(60)
"""
EXCLUSIVE = LOCK.format(lock="exclusive_lock(path, DataError(''))")
SHARED = LOCK.format(lock="shared_lock(path)")


@pytest.mark.parametrize("code", [EXCLUSIVE, SHARED])
def test_lock_of_another_process_is_respected_until_it_ends(tmp_path, code):
    with another_process(code, tmp_path / "lock") as (process, child):
        with pytest.raises(DataError, match="busy"), exclusive_lock(tmp_path / "lock", BUSY):
            pass
        process.kill()
        process.wait()
        with exclusive_lock(tmp_path / "lock", BUSY):
            os.kill(int(child), signal.SIGKILL)


def test_lock_is_one_for_threads_too_and_ends_with_the_block(tmp_path):
    for _ in range(2):
        with (
            exclusive_lock(tmp_path / "lock", BUSY),
            pytest.raises(DataError, match="busy"),
            exclusive_lock(tmp_path / "lock", BUSY),
        ):
            pass


def test_shared_locks_go_together(tmp_path):
    with another_process(SHARED, tmp_path / "lock") as (_, child), shared_lock(tmp_path / "lock"):
        os.kill(int(child), signal.SIGKILL)


def test_shared_lock_waits_for_an_exclusive_one(tmp_path):
    entered = threading.Event()

    def read():
        with shared_lock(tmp_path / "lock"):
            entered.set()

    thread = threading.Thread(target=read)
    with exclusive_lock(tmp_path / "lock", BUSY):
        thread.start()
        assert not entered.wait(0.1)
    thread.join(timeout=10)
    assert entered.is_set()


@pytest.mark.parametrize("code", [errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_a_notice_and_not_somebody_else(
    tmp_path, monkeypatch, caplog, code
):
    monkeypatch.setattr(fcntl, "flock", fail_with(code))
    for _ in range(2):
        with exclusive_lock(tmp_path / "lock", BUSY), shared_lock(tmp_path / "lock"):
            pass
    (message,) = caplog.messages
    assert f"{tmp_path}: the file system has no locks" in message
    assert os.strerror(code) in message


def test_shared_lock_of_a_directory_that_may_only_be_read_is_left_out(tmp_path, monkeypatch):
    def refuse(path, flags, *_):
        raise OSError(errno.EROFS if flags & os.O_CREAT else errno.ENOENT, "no", path)

    monkeypatch.setattr(os, "open", refuse)
    with shared_lock(tmp_path / "lock"):
        pass
    with pytest.raises(OSError, match="no"), exclusive_lock(tmp_path / "lock", BUSY):
        pass


def test_lock_whose_file_was_removed_is_not_taken_for_held(tmp_path, monkeypatch):
    """Two processes would else hold one lock: of the removed file, and of the one made anew."""
    path = tmp_path / "lock"

    def flock(descriptor, operation, real=fcntl.flock):
        if not removed:
            removed.append(path.unlink())
        real(descriptor, operation)

    removed = []
    monkeypatch.setattr(fcntl, "flock", flock)
    with ExitStack() as stack:
        stack.enter_context(exclusive_lock(path, BUSY))
        with pytest.raises(DataError, match="busy"):
            stack.enter_context(exclusive_lock(path, BUSY))
