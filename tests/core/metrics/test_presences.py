"""Presences against notes that are known."""

from __future__ import annotations

import numpy as np
import pytest

from core.families.spectral import salience
from core.metrics.presences import LOWEST_KEY, N_KEYS, presences_db, separation_db


def presences(**levels):
    """Return three frames in which keys (k60=-20) have levels in dB and all others -80."""
    found = np.full((3, 88), -80.0, np.float32)
    for key, level in levels.items():
        found[:, int(key[1:]) - 21] = level
    return found


def test_keys_are_those_of_the_latents():
    assert (LOWEST_KEY, N_KEYS) == (salience.LOWEST_KEY, salience.N_KEYS)


def test_presences_are_read_from_their_tanh():
    latents = np.zeros((2, 200), np.float32)
    latents[:, 1] = np.tanh(0.5)
    latents[:, 2] = 1.05  # by the noise of training
    found = presences_db(latents)
    assert found.shape == (2, 88)
    np.testing.assert_allclose(found[:, :2], [[-40, -20]] * 2, atol=1e-4)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("levels", "keys", "expected"),
    [
        ({"k60": -20}, {60}, 60),
        ({"k60": -20, "k72": -30}, {60}, 10),
        ({"k60": -20, "k72": -10}, {60}, -10),
        ({"k60": -20, "k72": -30}, {60, 72}, 50),
        ({"k60": -20}, {60, 72}, 0),  # the octave was not found
    ],
)
def test_separation_is_from_the_quietest_key_played_to_the_loudest_other(levels, keys, expected):
    assert separation_db(presences(**levels), keys) == pytest.approx(expected)


def test_separation_is_that_of_most_frames():
    found = presences(k60=-20)
    found[0, 72 - 21] = 0
    assert separation_db(found, {60}) == pytest.approx(60)
