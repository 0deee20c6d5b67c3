from __future__ import annotations

import os
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pytest
import soundfile

from core.audio.provenance import Provenance
from core.audio.reader import open_audio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RATE = 16_000


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def noise(generator: np.random.Generator) -> np.ndarray:
    """Two and a bit seconds at 16 kHz, low-pass so that lossy formats keep it."""
    white = generator.standard_normal(36_013) * 0.3
    return np.convolve(white, np.ones(8) / 8, "same").astype(np.float32)


@pytest.fixture
def wav(tmp_path, noise) -> Path:
    soundfile.write(tmp_path / "song.wav", noise, RATE, subtype="FLOAT")
    return tmp_path / "song.wav"


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(
        tool="umt 0.1.0",
        model_id="3f2a",
        model="starter",
        domain="piano",
        seed=7,
        options={"temperature": 0.5, "exact": True, "engine": "plain", "tuning": None},
        start_seconds=1.5,
        seconds=None,
        source="Été/song 1.wav",
        source_sha256="00" * 32,
    )


@pytest.fixture
def pipe() -> Iterator[Callable[..., BinaryIO]]:
    """Make OS pipes that a thread fills with the pieces given; with `is_open`, without an end."""
    opened: list[BinaryIO] = []

    def make(*pieces: bytes, is_open: bool = False) -> BinaryIO:
        read_end, write_end = os.pipe()

        def fill() -> None:
            try:
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(write_end, view) :]
            except BrokenPipeError:
                pass
            if not is_open:
                os.close(write_end)

        thread = threading.Thread(target=fill, daemon=True)
        thread.start()
        stream = os.fdopen(read_end, "rb")
        opened.append(stream)
        if is_open:
            opened.append(os.fdopen(write_end, "wb", closefd=True))
        return stream

    yield make
    for stream in opened:
        stream.close()


def cut(samples: np.ndarray, generator: np.random.Generator, longest: int) -> list[np.ndarray]:
    """Cut into blocks of random lengths, some of them empty."""
    edges = [0]
    while edges[-1] < len(samples):
        edges.append(min(edges[-1] + int(generator.integers(0, longest + 1)), len(samples)))
    return [samples[start:stop] for start, stop in pairwise(edges)]


def join(blocks: object) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *blocks])  # type: ignore[misc]


def read(source, **part) -> np.ndarray:
    with open_audio(source, **part) as audio:
        return join(audio.blocks())
