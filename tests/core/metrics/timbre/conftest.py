"""A classifier of two synthetic instruments."""

from __future__ import annotations

import numpy as np
import pytest

from core.metrics.timbre.training import train_classifier
from tests.sounds import RATE, melody, organ, piano

INSTRUMENTS = {"organ": organ, "piano": piano}


def recordings(seeds, seconds=20.0, **colour):
    return {
        name: [play(melody(seed, seconds), **colour) for seed in seeds]
        for name, play in INSTRUMENTS.items()
    }


def as_prepared(track):
    """Return a track as `umt prep` stores it."""
    return np.round(32_767 * track).astype(np.int16)


@pytest.fixture(scope="session")
def prepared():
    tracks = recordings(range(2), 18.0)
    return {name: [as_prepared(track) for track in tracks[name]] for name in tracks}


@pytest.fixture(scope="session")
def classifier(prepared):
    return train_classifier(prepared, RATE, seed=0)
