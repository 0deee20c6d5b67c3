"""Tunes to evaluate, and what the JSON of an evaluation holds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile

from core.data.domain import Domain, Part, Track, write_domain_file
from tests.umtcli.conftest import leaves


def melody(*, base_hz: float, decay: float, seconds: int = 10) -> np.ndarray:
    """Return up to twenty half-second tones with harmonics, float32 (T,)."""
    rate = 22050
    t = np.arange(rate // 2) / rate
    steps = [0, 4, 7, 12, 9, 5, 2, 7, 11, 0, 5, 9, 12, 16, 14, 7, 4, 2, 11, 0]
    tones = [
        sum(np.sin(2 * np.pi * base_hz * 2 ** (s / 12) * k * t) / k for k in range(1, 5))
        * np.exp(-decay * t)
        for s in steps[: 2 * seconds]
    ]
    return (0.15 * np.concatenate(tones)).astype(np.float32)


@pytest.fixture
def tune(tmp_path):
    """Four seconds, where nothing is said about chance or intervals."""
    soundfile.write(tmp_path / "tune.wav", melody(base_hz=262, decay=4, seconds=4), 22050)
    return tmp_path / "tune.wav"


@pytest.fixture
def long_tune(tmp_path):
    """Long enough for chance, distances of timbre and intervals."""
    soundfile.write(tmp_path / "tune.wav", melody(base_hz=262, decay=4), 22050)
    return tmp_path / "tune.wav"


def figures(ran) -> dict:
    content = json.loads(ran.stdout)
    assert (content["command"], content["version"]) == ("eval", 2)
    assert not any(isinstance(v, float) and math.isnan(v) for v in leaves(content))
    return content["results"][0]


def row(found: dict, metric: str, name: str = "translation") -> dict:
    return found["metrics"][metric]["rows"][name]


def prepare(tmp_path, name: str) -> None:
    directory = tmp_path / "data" / name
    directory.mkdir(parents=True)
    samples = (melody(base_hz=262, decay=3, seconds=6) * 32767).astype(np.int16)
    np.save(directory / "a.npy", np.repeat(samples, 2))
    half = len(samples)
    parts = (Part("train", 0, half), Part("validation", half, 2 * half))
    track = Track("a.npy", "a.wav", "0" * 64, 1, 1, 2 * half, -20.0, parts)
    write_domain_file(Domain(name, 44100, (track,), directory))
