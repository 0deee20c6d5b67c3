from __future__ import annotations

import numpy as np
import pytest
import torch

from core.errors import DataError
from core.metrics.timbre.training import train_classifier
from tests.sounds import RATE, noise

from .conftest import INSTRUMENTS


def test_training_depends_on_data_and_seed_alone(classifier, prepared):
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = train_classifier(dict(reversed(prepared.items())), RATE, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights, others = classifier.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize(
    ("tracks", "reason"),
    [
        ({"piano": [noise(40)]}, "needs two domains or more, not 1"),
        ({"a": [], "b": [noise(40)]}, "domain a: 0 s of sound"),
        ({"a": [noise(9), noise(9)], "b": [noise(40)]}, "domain a: 16 s of sound"),
        ({"a": [np.zeros(40 * RATE, np.int16)], "b": [noise(40)]}, "domain a: 0 s of sound"),
    ],
)
def test_too_little_training_data_is_refused(tracks, reason):
    with pytest.raises(DataError, match=reason):
        train_classifier(tracks, RATE)


def test_references_hold_the_distribution_of_every_quality_figure(classifier):
    for domain in INSTRUMENTS:
        reference = classifier.references[domain]
        for low, middle, high in reference.quality.values():
            assert low <= middle <= high
        assert reference.quality["out_of_band_share"][1] < 0.05
        assert reference.quality["harmonic_share"][1] > 0.8
        assert 500 < reference.rolloff_hz < RATE / 2
