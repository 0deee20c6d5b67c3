"""Recordings of tones, and what `umt prep` made of them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.data import sync
from core.data.domain import WRITE_LOCK
from core.data.prepare import prepare
from core.data.samples import READ_LOCK

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
    """Return the paths below a directory, apart from the locks'."""
    paths = (path.relative_to(directory) for path in directory.rglob("*"))
    return sorted(str(path) for path in paths if path.name not in (READ_LOCK, WRITE_LOCK))


@contextmanager
def no_reading(monkeypatch):
    """Make any look into a recording fail the test."""

    def refuse(*_):
        raise AssertionError("a recording was read")

    with monkeypatch.context() as patch:
        patch.setattr(sync, "hash_recording", refuse)
        patch.setattr(sync, "store_recording", refuse)
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
    """A directory as people have them, prepared by two threads."""
    root = tmp_path_factory.mktemp("real")
    for index, (name, options) in enumerate(SHAPES):
        write_tone(root / "My piano" / name, hz=300 + 20 * index, **options)
    (root / "My piano" / "notes.txt").write_text("not audio")
    (root / "My piano" / "deep" / "loop").symlink_to(root / "My piano")
    log = prepare([root / "My piano"], data=root / "data", sample_rate=44100, jobs=2)
    return root, log


@pytest.fixture
def bach(tmp_path):
    """A directory of six recordings, prepared."""
    write_tones(tmp_path / "bach", 6)
    prep(tmp_path / "bach", tmp_path / "data")
    return tmp_path / "bach", tmp_path / "data"
