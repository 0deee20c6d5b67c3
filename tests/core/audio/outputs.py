"""Write with umt and look at the result with others; shared by the tests of writing."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from core.audio.writer import open_writer

from .conftest import RATE

if TYPE_CHECKING:
    from pathlib import Path


def write(destination, samples, provenance=None, *, is_known=True, **options) -> None:
    n_samples = len(samples) if is_known else None
    with open_writer(
        destination, sample_rate=RATE, n_samples=n_samples, provenance=provenance, **options
    ) as writer:
        for block in np.array_split(samples, 7):
            writer.write(block)
        assert writer.n_written == len(samples)


def piped(samples, provenance=None, **options) -> bytes:
    """What comes out of a real pipe."""
    read_end, write_end = os.pipe()
    received = []

    def receive() -> None:
        with os.fdopen(read_end, "rb") as stream:
            received.append(stream.read())

    thread = threading.Thread(target=receive)
    thread.start()
    with os.fdopen(write_end, "wb") as stream:
        write(stream, samples, provenance, **options)
    thread.join()
    return received[0]


def codes_of(samples: np.ndarray) -> np.ndarray:
    return np.round(samples.astype(np.float64) * 32768).clip(-32768, 32767).astype(np.int16)


def read_by_libsndfile(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0]
