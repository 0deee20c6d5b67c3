"""`docs/evaluation.md` says what the package does, and the calibration is there to be believed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from core.metrics.catalogue import METRICS, ROWS, TRUSTED_AUC, calibration

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def recipe():
    spec = importlib.util.spec_from_file_location("page", ROOT / "recipes/calibration/page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_package():
    assert recipe().filled(PAGE) == PAGE, "run recipes/calibration/page.py"


def test_every_metric_is_calibrated_on_enough_music():
    published = calibration()
    assert set(published["metrics"]) == set(METRICS)
    assert published["pieces"] >= 20
    assert len(published["renderings"]) >= 3
    for name, found in published["metrics"].items():
        for row in (METRICS[name].positive, METRICS[name].negative):
            assert found["rows"][row]["n"] >= 40, (name, row)


def test_what_cannot_tell_right_from_wrong_is_marked():
    from umtcli.evaluating.tables import metric_label, warning_of

    for name, metric in METRICS.items():
        is_doubtful = calibration()["metrics"][name]["auc"] < TRUSTED_AUC
        assert ("(!)" in metric_label(metric)) == is_doubtful
        assert (warning_of([name]) is not None) == is_doubtful


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


def test_all_rows_and_options_are_told():
    for row in ROWS[1:]:
        assert f"`{row}`" in PAGE
    source = (ROOT / "umtcli/commands/eval.py").read_text(encoding="utf-8")
    for option in ("--reference", "--html", "--paired", "--listening-test", "--ratings", "--data"):
        assert option in PAGE
        assert option[2:].replace("-", "_") in source
