"""`umt prep` interrupted, killed, on a full disk, and beside other commands."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.data import convert
from core.data.domain import load_domain
from core.data.prepare import prepare
from core.data.samples import reading

from ..core.data.conftest import prep, tree, write_tone, write_tones

ROOT = Path(__file__).resolve().parents[2]
CONVERTING = """
import os, pathlib, sys
from core.data import convert
from core.data.prepare import prepare

def write_samples(*args, real=convert._write_samples):
    os.write(1, b"converting\\n")
    return real(*args)

convert._write_samples = write_samples
directory, data = map(pathlib.Path, sys.argv[1:])
try:
    prepare([directory], data=data, sample_rate=192000, jobs=2)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(scope="session")
def long_recordings(tmp_path_factory):
    directory = tmp_path_factory.mktemp("long")
    for index in range(2):
        write_tone(directory / f"{index}.wav", seconds=300, hz=200 + index)
    return directory


@pytest.fixture
def converting(long_recordings, tmp_path):
    """A process in the middle of converting two long recordings."""
    process = subprocess.Popen(
        [sys.executable, "-c", CONVERTING, long_recordings, tmp_path / "data"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stdout.readline() == b"converting\n"
        yield process
        process.kill()


def test_interrupted_run_leaves_complete_tracks_and_the_next_one_finishes(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 4)

    def interrupt(label, n_done, n_total):
        if label.startswith("converting") and n_done == n_total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prep(tmp_path / "bach", tmp_path / "data", jobs=1, progress=interrupt)
    left = tree(tmp_path / "data" / "bach")
    assert len(left) >= 2  # the third may have ended, too
    assert all(name.endswith(".npy") for name in left)
    converted = []
    original = convert._convert
    monkeypatch.setattr(
        convert, "_convert", lambda *args: converted.append(args) or original(*args)
    )
    prep(tmp_path / "bach", tmp_path / "data")
    assert len(converted) == 4 - len(left)
    assert len(load_domain(tmp_path / "data" / "bach").tracks) == 4
    assert len(tree(tmp_path / "data" / "bach")) == 5


def test_recording_that_is_being_converted_ends_with_the_run_and_leaves_nothing(
    tmp_path, monkeypatch
):
    write_tones(tmp_path / "bach", 2, seconds=5)
    is_waiting = threading.Event()
    read = convert._read

    def read_until_stopped(recording, sample_rate, stop):
        if recording.relative == "0.wav":
            is_waiting.set()
            assert stop.wait(60)
        else:
            assert is_waiting.wait(60)
            raise ZeroDivisionError  # stands for whatever ends the run
        yield from read(recording, sample_rate, stop)

    monkeypatch.setattr(convert, "_read", read_until_stopped)
    with pytest.raises(ZeroDivisionError):
        prep(tmp_path / "bach", tmp_path / "data", jobs=2)
    assert tree(tmp_path / "data") == []


@pytest.mark.parametrize("send", [os.killpg, os.kill])
def test_ctrl_c_ends_the_process_quietly_and_leaves_no_file(
    converting, long_recordings, tmp_path, send
):
    send(converting.pid, signal.SIGINT)
    _, errors = converting.communicate(timeout=60)
    assert converting.returncode == 130
    assert errors.decode() == ""
    # Where it came while a thread was being started, nobody waits for that to remove the directory.
    assert set(tree(tmp_path / "data")) <= {long_recordings.name}


def test_what_a_killed_run_left_is_cleared_by_the_next(converting, long_recordings, tmp_path):
    converting.kill()
    converting.wait()
    directory = tmp_path / "data" / long_recordings.name
    assert any(".part" in name for name in tree(directory))
    other = write_tones(tmp_path / "others" / long_recordings.name, 1)
    log = prep(other, tmp_path / "data")
    assert log.failures == []
    assert len(tree(directory)) == 2  # a track and domain.json


def test_second_prep_into_the_same_domain_is_refused_while_the_first_is_at_work(
    converting, long_recordings, tmp_path
):
    other = tmp_path / "others" / long_recordings.name
    other.mkdir(parents=True)
    (other / "x.wav").write_bytes(b"never read")
    ((place, reason),) = prep(other, tmp_path / "data").failures
    assert place == str(other)
    assert "another umt prep is at work in" in reason
    assert converting.poll() is None


def test_full_disk_is_an_error_of_the_data_directory_and_leaves_no_half_file(tmp_path, full_disk):
    write_tones(tmp_path / "bach", 2, seconds=20)
    with full_disk(50_000):
        log = prep(tmp_path / "bach", tmp_path / "data")
    ((place, reason),) = log.failures
    assert place == str(tmp_path / "bach")
    assert f"cannot write {tmp_path}/data/bach/" in reason
    assert "free some space and run this again" in reason
    assert tree(tmp_path / "data") == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", place]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


def test_full_disk_keeps_what_is_finished_and_the_next_run_goes_on(
    tmp_path, small_disk, monkeypatch
):
    write_tones(tmp_path / "bach", 40)  # 32 KB each
    ((_, reason),) = prep(tmp_path / "bach", small_disk / "data", jobs=1).failures
    assert "No space left on device; free some space and run this again" in reason
    left = tree(small_disk / "data" / "bach")
    assert len(left) > 5
    assert all(name.endswith(".npy") for name in left)
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert prep(tmp_path / "bach", small_disk / "data", jobs=1).failures == []
    assert len(load_domain(small_disk / "data" / "bach").tracks) == 40


def test_full_disk_ends_the_run_for_all_domains(tmp_path, full_disk):
    directories = [write_tones(tmp_path / name, 1, seconds=20) for name in "abc"]
    with full_disk(50_000):
        log = prepare(directories, data=tmp_path / "data", sample_rate=8000)
    assert [place for place, _ in log.failures] == [str(directories[0])]


def test_data_directory_that_cannot_be_made_is_an_error(tmp_path):
    write_tones(tmp_path / "bach", 1)
    (tmp_path / "data").write_text("a file")
    ((_, reason),) = prep(tmp_path / "bach", tmp_path / "data").failures
    assert "choose another --out" in reason


def fail_with(code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("function", ["fsync", "replace", "mkdir"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EMFILE])
def test_failing_call_is_one_clear_error_and_the_next_run_finishes(
    tmp_path, monkeypatch, function, code
):
    directory = write_tones(tmp_path / "bach", 2)
    prep(directory, tmp_path / "data")
    write_tone(directory / "new.wav", hz=900)
    before = tree(tmp_path / "data")
    with monkeypatch.context() as patched:
        patched.setattr(os, function, fail_with(code))
        ((place, reason),) = prep(directory, tmp_path / "data").failures
    assert place == str(directory)
    assert re.fullmatch(
        rf"cannot write {tmp_path}/data/bach/\S+: {os.strerror(code)}; .*--(out|jobs).*", reason
    )
    assert tree(tmp_path / "data") == before
    assert prep(directory, tmp_path / "data").domains[0].n_converted == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_recording_that_cannot_be_read_is_a_failure_and_the_others_go_on(
    tmp_path, monkeypatch, code, call
):
    """The first call hashes it, the others look at it and decode it."""
    directory = write_tones(tmp_path / "bach", 3)
    calls = []

    def open_path(path, *args, real=Path.open, **options):
        if path.name == "1.wav":
            calls.append(path)
            if len(calls) >= call:
                raise OSError(code, os.strerror(code), str(path))
        return real(path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", open_path)
        log = prep(directory, tmp_path / "data")
    ((place, reason),) = log.failures
    assert place == str(directory / "1.wav")
    assert os.strerror(code) in reason
    assert len(log.domains[0].domain.tracks) == 2
    assert prep(directory, tmp_path / "data").domains[0].n_converted == 1


@pytest.mark.parametrize("code", [errno.EBADF, errno.ENOLCK, errno.ENOSYS])
def test_file_system_without_locks_costs_a_notice(tmp_path, monkeypatch, caplog, code):
    monkeypatch.setattr(fcntl, "flock", fail_with(code))
    directory = write_tones(tmp_path / "bach", 2)
    for _ in range(2):
        log = prep(directory, tmp_path / "data")
        assert log.failures == []
        with reading([log.domains[0].domain]):
            pass
    (message,) = caplog.messages
    assert f"{tmp_path}/data/bach: the file system has no locks" in message
