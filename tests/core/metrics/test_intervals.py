"""Bootstrap intervals, on figures whose spread is known, and how well two groups separate."""

from __future__ import annotations

import numpy as np
import pytest

from core.metrics.intervals import figure_interval, mean_interval, separation


def observations(n: int = 400) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(n)


def test_a_mean_lies_within_two_standard_errors():
    values = observations()
    low, high = mean_interval(values.tolist())
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_what_belongs_together_is_drawn_together():
    values = np.repeat(observations(40), 10)
    alone, together = (
        mean_interval(values.tolist(), groups) for groups in (None, [n // 10 for n in range(400)])
    )
    width = alone[1] - alone[0]
    assert together[1] - together[0] == pytest.approx(width * 10**0.5, rel=0.15)


def test_a_figure_that_is_a_mean_has_the_interval_of_a_mean():
    values = observations()
    groups = [n // 4 for n in range(400)]
    expected = mean_interval(values.tolist(), groups)
    found = figure_interval(values.mean(), groups, lambda numbers: values[numbers].mean())
    assert found == pytest.approx(expected, abs=0.04)


def test_a_figure_that_repetition_makes_smaller_stays_inside_its_interval():
    """What is drawn twice leaves fewer different values: every resampling is off to one side."""
    values = observations(40)
    n_different = len(np.unique(values))
    low, high = figure_interval(
        n_different, list(range(40)), lambda numbers: len(np.unique(values[numbers]))
    )
    assert low < n_different < high


def test_one_group_says_nothing_about_the_next():
    assert mean_interval([1.0, 2.0], ["a", "a"]) is None
    assert figure_interval(1.0, ["a", "a"], len) is None
    assert figure_interval(1.0, ["a", "b"], lambda _: None) is None


def test_separation_counts_ties_half():
    assert separation([2, 3], [0, 1]) == 1
    assert separation([1, 1], [1, 1]) == 0.5
    assert separation([0, 2], [1]) == 0.5
    assert separation([], [1]) is None
