"""The learning rate against values worked by hand."""

from __future__ import annotations

import pytest

from core.config import TrainingConfig
from core.training.optimizers import learning_rate


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 1e-3), (9_999, 1e-3), (10_000, 0.98e-3), (25_000, 0.9604e-3), (500_000, 3.6417e-4)],
)
def test_exponential_falls_by_a_fiftieth_every_10000_updates(step, rate):
    assert learning_rate(TrainingConfig(), step) == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 1e-3), (25, 7.5e-4), (99, 1e-5), (100, 0), (200, 0)]
)
def test_linear_falls_evenly_to_the_last_step_and_stays_at_zero(step, rate):
    training = TrainingConfig(schedule="linear", steps=100)
    assert learning_rate(training, step) == pytest.approx(rate, rel=1e-4)
