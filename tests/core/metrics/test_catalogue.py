"""The catalogue of metrics and its published calibration."""

from __future__ import annotations

import pytest

from core.metrics.catalogue import COPY, METRICS, TRUE, TRUSTED_AUC, calibration


def test_every_metric_is_calibrated_on_enough_music():
    published = calibration()
    assert set(published["metrics"]) == set(METRICS)
    assert published["pieces"] >= 20
    assert len(published["renderings"]) >= 3
    for name, found in published["metrics"].items():
        for row in (METRICS[name].positive, METRICS[name].negative):
            assert found["rows"][row]["n"] >= 40, (name, row)


@pytest.mark.parametrize("name", ["spectral_contrast_db", "harmonic_share"])
def test_smeared_sound_is_told_from_clean(name):
    assert calibration()["metrics"][name]["auc"] >= TRUSTED_AUC


@pytest.mark.parametrize("name", METRICS)
def test_means_stand_in_the_order_that_the_metric_claims(name):
    metric, rows = METRICS[name], calibration()["metrics"][name]["rows"]
    sign = 1 if metric.is_higher_better else -1
    assert sign * rows[metric.positive]["mean"] > sign * rows[metric.negative]["mean"]
    if metric.question in {"content", "target"}:
        assert sign * rows["other_rendering"]["mean"] > sign * rows[metric.negative]["mean"]


@pytest.mark.parametrize(
    ("name", "copy", "true", "score"),
    [
        ("target_probability", 0.2, 0.8, 0.5),
        ("target_probability", 0.97, 0.96, None),  # the source is in the target's domain
        ("frechet_distance", 0.8, 0.2, 0.5),
        ("frechet_distance", 0.2, 0.8, None),
    ],
)
def test_a_score_needs_a_best_baseline_that_is_better(name, copy, true, score):
    assert METRICS[name].score(0.5, {COPY: copy, TRUE: true}) == (score and pytest.approx(score))


@pytest.mark.parametrize(
    ("name", "value", "is_unusual"),
    [
        ("harmonic_share", 0.64, True),
        ("harmonic_share", 0.95, False),
        ("harmonic_share", 1.0, True),  # quality is two-sided
        ("chroma", 0.2, True),
        ("chroma", 1.0, False),  # closer to the source than a true rendering
        ("frechet_distance", 0.0, False),
        ("frechet_distance", 30.0, True),
        ("clipped_fraction", 0.00004, False),  # as displayed it is the same as 0
    ],
)
def test_figures_outside_what_recordings_show_are_unusual(name, value, is_unusual):
    metric = METRICS[name]
    assert metric.is_unusual(value, metric.calibrated_range) == is_unusual
