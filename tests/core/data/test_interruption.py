"""Interruptions, full disks, and what else comes in between."""

from __future__ import annotations

import os
import signal

import pytest

from core.data import convert
from core.data.domain import load_domain
from core.data.prepare import prepare
from core.errors import DataError

from .conftest import RATE, prep, tree, wait_until, write_tones


def test_interrupted_run_leaves_complete_tracks_and_the_next_one_finishes(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 4)

    def interrupt(domain, n_done, n_total):
        if n_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prep(tmp_path / "bach", tmp_path / "data", progress=interrupt)
    left = tree(tmp_path / "data" / "bach")
    assert len(left) == 2
    assert all(name.endswith(".npy") for name in left)
    converted = []
    original = convert._convert
    monkeypatch.setattr(
        convert, "_convert", lambda *args: converted.append(args) or original(*args)
    )
    prep(tmp_path / "bach", tmp_path / "data")
    assert len(converted) == 2
    assert len(load_domain(tmp_path / "data" / "bach").tracks) == 4
    assert len(tree(tmp_path / "data" / "bach")) == 5


def test_interruption_within_a_track_leaves_no_file(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 1, seconds=5)
    blocks = iter([None, None, KeyboardInterrupt()])

    def interrupt():
        if isinstance(error := next(blocks, None), KeyboardInterrupt):
            raise error

    monkeypatch.setattr(convert, "check_stop", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prep(tmp_path / "bach", tmp_path / "data")
    assert tree(tmp_path / "data" / "bach") == []


@pytest.mark.parametrize("send", [os.killpg, os.kill])
def test_ctrl_c_ends_all_processes_at_once_and_quietly(converting, long_recordings, tmp_path, send):
    send(converting.pid, signal.SIGINT)
    _, errors = converting.communicate(timeout=60)
    assert converting.returncode == 130
    assert errors.decode() == ""
    assert tree(tmp_path / "data" / long_recordings.name) == []


def test_workers_do_not_outlive_a_killed_run(converting):
    converting.kill()
    converting.wait()
    wait_until(lambda: not is_group_alive(converting.pid))


def is_group_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_full_disk_is_an_error_of_the_data_folder_and_leaves_no_half_file(tmp_path, full_disk):
    write_tones(tmp_path / "bach", 2, seconds=20)
    expected = pytest.raises(DataError, match=r"cannot write .*data/bach.* another --out")
    with expected, full_disk(50_000):
        prep(tmp_path / "bach", tmp_path / "data")
    assert tree(tmp_path / "data" / "bach") == []


def test_data_folder_that_cannot_be_made_is_an_error(tmp_path):
    write_tones(tmp_path / "bach", 1)
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match="choose another --out"):
        prep(tmp_path / "bach", tmp_path / "data")


def test_recording_that_changes_while_it_is_read_is_a_failure(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 2)
    changed = tmp_path / "bach" / "1.wav"
    monkeypatch.setattr(convert, "file_sha256", lambda path: os.utime(changed) or str(path))
    report = prep(tmp_path / "bach", tmp_path / "data")
    ((source, reason),) = report.failures
    assert source == str(changed)
    assert "changed while it was being read" in reason


def test_progress_counts_the_recordings_of_each_domain_in_this_process(tmp_path):
    calls = []
    directories = [write_tones(tmp_path / "a", 3), write_tones(tmp_path / "b", 2)]
    prepare(
        directories,
        data=tmp_path / "data",
        sample_rate=RATE,
        jobs=2,
        progress=lambda *call: calls.append((*call, os.getpid())),
    )
    for domain, total in (("a", 3), ("b", 2)):
        counts = [call[1] for call in calls if call[0] == domain]
        assert counts == sorted(counts)
        assert set(counts) == set(range(total + 1))
        assert {call[2:] for call in calls if call[0] == domain} == {(total, os.getpid())}


def test_second_prep_into_the_same_domain_is_refused_while_the_first_is_at_work(
    converting, long_recordings, tmp_path
):
    other = tmp_path / "others" / long_recordings.name
    other.mkdir(parents=True)
    (other / "x.wav").write_bytes(b"never read")
    with pytest.raises(DataError, match=r"another umt prep is at work in .*run this again"):
        prep(other, tmp_path / "data")
    assert converting.poll() is None
