"""Score cards as text: decimals, marks and ranges."""

from __future__ import annotations

import pytest

from core.evaluation.score_card import Estimate
from core.metrics.catalogue import METRICS, TRUSTED_AUC, calibration
from umtcli.eval import tables


def test_a_figure_just_below_zero_is_shown_as_zero():
    estimate = Estimate(value=-0.001, interval=(-0.004, 0.002), score=-0.001)
    metric = METRICS["kernel_distance"]
    assert tables.value_text(metric, estimate) == "0.00"
    assert tables.interval_text(metric, estimate) == "0.00 to 0.00"
    assert tables.score_text(estimate) == "0%"


@pytest.mark.parametrize("name", METRICS)
def test_metrics_that_calibration_found_wanting_are_marked(name):
    is_doubtful = calibration()["metrics"][name]["auc"] < TRUSTED_AUC
    assert ("(!)" in tables.metric_label(METRICS[name])) == is_doubtful
