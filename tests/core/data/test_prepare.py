"""What `umt prep` skips, refuses or logs, and names of domains."""

from __future__ import annotations

import os
import resource
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.data import prepare as prepare_module
from core.data import sync
from core.data.domain import check_domain_name, load_domain, load_domains
from core.data.prepare import prepare
from core.errors import DataError, UsageError

from .conftest import RATE, prep, splits, tree, write_tone, write_tones


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.wav", b"hello, this is no audio", "cannot be read as audio"),
        ("empty.mp3", b"", "empty"),
        ("random.flac", b"fLaC" + bytes(range(200)), "cannot be"),
    ],
)
def test_unreadable_file_is_reported_with_its_reason_and_the_others_go_on(
    tmp_path, name, content, reason
):
    write_tones(tmp_path / "bach", 2)
    (tmp_path / "bach" / name).write_bytes(content)
    log = prep(tmp_path / "bach", tmp_path / "data")
    ((source, why),) = log.failures
    assert source == str(tmp_path / "bach" / name)
    assert reason in why
    assert why
    assert source not in why
    assert splits(log.domains[0].domain).keys() == {"0.wav", "1.wav"}


def test_dangling_link_is_a_failure_and_the_others_go_on(tmp_path):
    write_tones(tmp_path / "bach", 2)
    (tmp_path / "bach" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    log = prep(tmp_path / "bach", tmp_path / "data")
    assert log.failures == [(str(tmp_path / "bach/gone.wav"), "No such file or directory")]
    assert len(log.domains[0].domain.tracks) == 2


def test_devices_pipes_and_loops_are_failures_and_the_others_go_on(tmp_path):
    directory = write_tones(tmp_path / "bach", 2)
    os.mkfifo(tmp_path / "pipe")
    (directory / "pipe.wav").symlink_to(tmp_path / "pipe")
    (directory / "zero.wav").symlink_to("/dev/zero")
    (directory / "loop.wav").symlink_to("loop.wav")
    (directory / "above").symlink_to(directory)
    log = prep(directory, tmp_path / "data")
    assert log.failures == [
        (str(directory / "loop.wav"), "Too many levels of symbolic links"),
        (str(directory / "pipe.wav"), "is a device or a pipe, not a file"),
        (str(directory / "zero.wav"), "is a device or a pipe, not a file"),
    ]
    assert splits(log.domains[0].domain).keys() == {"0.wav", "1.wav"}


def test_directory_that_cannot_be_listed_is_a_failure_and_the_others_go_on(tmp_path, monkeypatch):
    directory = write_tones(tmp_path / "bach", 2)
    write_tone(directory / "secret" / "3.wav")

    def iterdir(path, real=Path.iterdir):
        if path.name == "secret":  # root may list anything
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    log = prep(directory, tmp_path / "data")
    assert log.failures == [(str(directory / "secret"), "cannot be listed: Permission denied")]
    assert splits(log.domains[0].domain).keys() == {"0.wav", "1.wav"}


def test_domain_that_fails_does_not_keep_the_others_from_being_prepared(tmp_path):
    directories = [write_tones(tmp_path / name, 2) for name in ("bach", "cello", "organ")]
    (tmp_path / "data" / "bach").mkdir(parents=True)
    (tmp_path / "data" / "bach" / "domain.json").write_text("{")
    (tmp_path / "data" / "cello").write_text("a file")
    log = prepare(directories, data=tmp_path / "data", sample_rate=RATE)
    assert [place for place, _ in log.failures] == [str(path) for path in directories[:2]]
    assert [prepared.domain.name for prepared in log.domains] == ["organ"]


@pytest.mark.parametrize("is_relative", ["directory", "data"])
def test_removed_working_directory_is_one_clear_error(tmp_path, monkeypatch, is_relative):
    directory = write_tones(tmp_path / "bach", 1)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(DataError, match="working directory was removed"):
        prep(
            Path("../bach") if is_relative == "directory" else directory,
            Path("data") if is_relative == "data" else tmp_path / "data",
        )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seconds": 0.99}, "is skipped: it is 0.99 s long, shorter than 1 s"),
        ({"peak": 0.0}, "is skipped: there is no sound in it"),
    ],
)
def test_short_and_silent_recordings_are_skipped_with_a_notice(tmp_path, options, reason):
    write_tones(tmp_path / "bach", 2)
    write_tone(tmp_path / "bach" / "odd.wav", **options)
    log = prep(tmp_path / "bach", tmp_path / "data")
    assert log.notices == [f"bach: odd.wav {reason}"]
    assert log.failures == []
    assert len(tree(tmp_path / "data" / "bach")) == 3  # two tracks and domain.json


def test_same_content_twice_is_kept_once(tmp_path):
    write_tones(tmp_path / "bach", 3)
    shutil.copy(tmp_path / "bach" / "0.wav", tmp_path / "bach" / "copy of 0.wav")
    for _ in range(2):
        log = prep(tmp_path / "bach", tmp_path / "data")
        assert log.notices == ["bach: copy of 0.wav is left out: it has the same content as 0.wav"]
        assert splits(log.domains[0].domain).keys() == {"0.wav", "1.wav", "2.wav"}


@pytest.mark.parametrize("content", [None, "notes.txt", ".hidden.wav"])
def test_directory_without_audio_fails_alone_and_leaves_nothing(tmp_path, content):
    (tmp_path / "empty").mkdir()
    if content:
        write_tones(tmp_path / "made", 1)
        shutil.move(tmp_path / "made" / "0.wav", tmp_path / "empty" / content)
    write_tones(tmp_path / "bach", 2)
    directories = [tmp_path / "empty", tmp_path / "bach"]
    log = prepare(directories, data=tmp_path / "data", sample_rate=RATE)
    ((source, reason),) = log.failures
    assert source == str(tmp_path / "empty")
    assert "holds no audio" in reason
    assert [prepared.domain.name for prepared in log.domains] == ["bach"]
    assert not (tmp_path / "data" / "empty").exists()


def test_domain_of_unusable_recordings_fails_and_leaves_nothing(tmp_path):
    write_tone(tmp_path / "bach" / "short.wav", seconds=0.5)
    write_tone(tmp_path / "bach" / "silent.wav", peak=0.0)
    log = prep(tmp_path / "bach", tmp_path / "data")
    assert log.domains == []
    assert log.failures == [(str(tmp_path / "bach"), "no recording in it can be used")]
    assert tree(tmp_path / "data") == []


def test_constant_is_no_recording(tmp_path):
    write_tones(tmp_path / "bach", 1)
    soundfile.write(tmp_path / "bach" / "offset.wav", np.full(2 * RATE, 0.02), RATE)
    log = prep(tmp_path / "bach", tmp_path / "data")
    assert log.notices == ["bach: offset.wav is skipped: there is no sound in it"]
    assert len(tree(tmp_path / "data" / "bach")) == 2


def test_missing_directory_changes_nothing(tmp_path):
    write_tones(tmp_path / "bach", 2)
    with pytest.raises(UsageError, match=r"nowhere does not exist"):
        prepare([tmp_path / "bach", tmp_path / "nowhere"], data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_file_in_place_of_a_directory_is_wrong_usage(tmp_path):
    write_tones(tmp_path / "bach", 1)
    with pytest.raises(UsageError, match="is a file"):
        prepare([tmp_path / "bach" / "0.wav"], data=tmp_path / "data")


@pytest.mark.parametrize(
    "names", [("x/bach", "y/bach"), ("x/Bach", "y/bach"), ("x/é", "y/e\u0301")]
)
def test_two_directories_with_one_name_are_refused_before_any_work(tmp_path, names):
    directories = [write_tones(tmp_path / name, 1) for name in names]
    with pytest.raises(UsageError, match="would both be the domain"):
        prepare(directories, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"jobs": 0},
        {"sample_rate": 10},
        {"split": (0.0, 0.5, 0.5)},
        {"split": (0.9, 0.2, -0.1)},
        {"split": (float("nan"), 0.1, 0.1)},
        {"split": (0.9, 0.1)},
        {"name": "a.b"},
    ],
)
def test_options_out_of_range_are_refused_before_any_work(tmp_path, options):
    write_tones(tmp_path / "bach", 1)
    with pytest.raises(UsageError, match="accepted"):
        prep(tmp_path / "bach", tmp_path / "data", **options)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["bach", "Solo Cello", "my_piano-2", "Händel", "日本", "सितार"])
def test_ordinary_names_are_accepted(name):
    assert check_domain_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "a.b", "a/b", "a,b", "-a", " a", "a ", "a\nb", "a:b", "x" * 65, "a\udcff"]
)
def test_name_that_cannot_be_a_domain_points_to_the_name_option(name):
    with pytest.raises(UsageError, match="--name"):
        check_domain_name(name)


def test_names_are_composed(tmp_path):
    write_tones(tmp_path / "Ha\u0308ndel", 2)
    prep(tmp_path / "Ha\u0308ndel", tmp_path / "data")
    assert [domain.name for domain in load_domains(tmp_path / "data", ["Ha\u0308ndel"])] == [
        "H\u00e4ndel"
    ]


def test_decomposed_directory_of_a_domain_is_used_and_not_made_twice(tmp_path):
    """As it is after copying the data from a file system that decomposes names."""
    directory = write_tones(tmp_path / "Händel", 2)
    prep(directory, tmp_path / "data")
    (tmp_path / "data" / "H\u00e4ndel").rename(tmp_path / "data" / "Ha\u0308ndel")
    log = prep(directory, tmp_path / "data")
    assert log.domains[0].n_converted == 0
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["Ha\u0308ndel"]


def test_name_option_names_a_single_directory(tmp_path):
    write_tones(tmp_path / "v1.2", 2)
    prep(tmp_path / "v1.2", tmp_path / "data", name="bach")
    assert load_domain(tmp_path / "data" / "bach").name == "bach"
    with pytest.raises(UsageError, match="--name goes with one directory"):
        prepare([tmp_path, tmp_path / "v1.2"], data=tmp_path / "data", name="bach")


def test_current_directory_has_its_own_name(tmp_path, monkeypatch):
    write_tones(tmp_path / "bach", 2)
    monkeypatch.chdir(tmp_path / "bach")
    prep(Path(), tmp_path / "data")
    assert (tmp_path / "data" / "bach" / "domain.json").exists()


def test_progress_counts_the_bytes_of_each_domains_recordings_in_this_thread(tmp_path):
    calls = []
    directories = [write_tones(tmp_path / "a", 3), write_tones(tmp_path / "b", 2)]
    write_tone(tmp_path / "a" / "long.wav", seconds=9)
    prepare(
        directories,
        data=tmp_path / "data",
        sample_rate=RATE,
        jobs=2,
        progress=lambda *call: calls.append((*call, threading.get_ident())),
    )
    for domain, n_files in (("a", 4), ("b", 2)):
        sizes = [path.stat().st_size for path in (tmp_path / domain).iterdir()]
        total = sum(sizes)
        for label in (f"reading {domain}", f"converting {domain}"):
            counts = [call[1] for call in calls if call[0] == label]
            assert (counts[0], counts[-1], len(counts)) == (0, total, n_files + 1)
            assert sorted(np.diff(counts)) == sorted(sizes)
            assert {call[2:] for call in calls if call[0] == label} == {
                (total, threading.get_ident())
            }


def test_jobs_are_as_many_as_usable_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "usable_cores", lambda: 3)
    seen = []
    monkeypatch.setattr(
        sync, "ThreadPoolExecutor", lambda n: seen.append(n) or ThreadPoolExecutor(n)
    )
    prep(write_tones(tmp_path / "bach", 1), tmp_path / "data")
    assert set(seen) == {3}


def test_jobs_are_no_more_than_open_files_allow(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        sync, "ThreadPoolExecutor", lambda n: seen.append(n) or ThreadPoolExecutor(n)
    )
    for limit in (8, 40, 1024):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        prep(write_tones(tmp_path / "bach", 1), tmp_path / f"data{limit}", jobs=20)
    assert seen == [1, 1, 3, 3, 20, 20]
