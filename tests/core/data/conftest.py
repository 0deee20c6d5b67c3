"""Recordings of tones, and what `umt prep` made of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.data import sync
from core.data.prepare import LOCK_FILE, prepare

RATE = 8000
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
REPOSITORY = Path(__file__).parents[3]


def write_tone(path, *, seconds=2.0, sample_rate=RATE, n_channels=1, hz=220.0, peak=0.3, **options):
    """Write a tone, the same in all channels; another `hz` is another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time_seconds = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = peak * np.sin(2 * np.pi * hz * time_seconds)
    kind = path.suffix[1:].upper()
    with path.open("wb") as file:  # soundfile cannot encode every name
        soundfile.write(
            file, np.tile(tone[:, None], n_channels), sample_rate, format=kind, **options
        )
    return path


def write_tones(directory, n_tracks, *, seconds=2.0):
    for index in range(n_tracks):
        write_tone(directory / f"{index}.wav", seconds=seconds, hz=200 + 10 * index)
    return directory


def prep(directory, data, **options):
    return prepare([directory], data=data, **{"sample_rate": RATE, **options})


def splits(domain):
    return {track.source: {part.split for part in track.parts} for track in domain.tracks}


def stored(domain, source):
    (track,) = (track for track in domain.tracks if track.source == source)
    return np.load(domain.directory / track.file, mmap_mode="r")


def tree(directory):
    """Return the paths below a directory, apart from the lock's."""
    paths = (path.relative_to(directory) for path in directory.rglob("*"))
    return sorted(str(path) for path in paths if path.name != LOCK_FILE)


@contextmanager
def no_reading(monkeypatch):
    """Make any look into a recording fail the test."""

    def refuse(*_):
        raise AssertionError("a recording was read")

    with monkeypatch.context() as patch:
        patch.setattr(sync, "hash_source", refuse)
        patch.setattr(sync, "store_track", refuse)
        yield


SHAPES = [
    ("mono.wav", {"sample_rate": 8000, "subtype": "PCM_16"}),
    ("one second.wav", {"sample_rate": 11025, "seconds": 1.0}),
    ("deep/er/high rate.wav", {"sample_rate": 96000, "subtype": "PCM_24"}),
    ("surround.wav", {"sample_rate": 48000, "n_channels": 6}),
    ("Händel/Für Elise №1.flac", {"sample_rate": 44100, "n_channels": 2}),
    ("float.wav", {"sample_rate": 22050, "subtype": "FLOAT"}),
    ("a.ogg", {"sample_rate": 44100, "n_channels": 2}),
    ("A.MP3", {"sample_rate": 48000, "n_channels": 2}),
    ("a.aiff", {"sample_rate": 32000}),
    ("dots.in.name.wav", {"sample_rate": 16000}),
    ("日本.flac", {"sample_rate": 16000}),
    (os.fsdecode(b"not utf-8 \xff.wav"), {"sample_rate": 16000}),
]


@pytest.fixture(scope="session")
def real_tree(tmp_path_factory):
    """A directory as people have them, prepared by two processes."""
    root = tmp_path_factory.mktemp("real")
    for index, (name, options) in enumerate(SHAPES):
        write_tone(root / "My piano" / name, hz=300 + 20 * index, **options)
    (root / "My piano" / "notes.txt").write_text("not audio")
    (root / "My piano" / "deep" / "loop").symlink_to(root / "My piano")
    report = prepare([root / "My piano"], data=root / "data", sample_rate=44100, jobs=2)
    return root, report


@pytest.fixture
def bach(tmp_path):
    """A directory of six recordings, prepared."""
    write_tones(tmp_path / "bach", 6)
    prep(tmp_path / "bach", tmp_path / "data")
    return tmp_path / "bach", tmp_path / "data"


@pytest.fixture(scope="session")
def long_recordings(tmp_path_factory):
    directory = tmp_path_factory.mktemp("long")
    for index in range(2):
        write_tone(directory / f"{index}.wav", seconds=300, hz=200 + index)
    return directory


@pytest.fixture
def converting(long_recordings, tmp_path):
    """A process group that is in the middle of converting two long recordings."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pathlib; from core.data.prepare import prepare\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        directory, data = map(pathlib.Path, sys.argv[1:])\n"
        "        prepare([directory], data=data, sample_rate=192000, jobs=2)\n"
        "    except KeyboardInterrupt: sys.exit(130)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script, long_recordings, tmp_path / "data"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until(lambda: list(tmp_path.rglob("*.part")))
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
