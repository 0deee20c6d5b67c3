from __future__ import annotations

import pytest

from core.evaluation.classifier_cache import shipped_classifier
from core.evaluation.score_card import card_of_one, usual_ranges
from core.metrics.catalogue import METRICS


@pytest.mark.parametrize(("heard", "has_score"), [(0.1, True), (0.9, False)])
def test_a_source_in_the_targets_domain_has_no_score_of_the_target(heard, has_score):
    rows = {
        "translation": {"target_probability": 0.5, "frechet_distance": 2.0, "chroma": 0.9},
        "copy": {"target_probability": heard, "frechet_distance": 3.0, "chroma": 1.0},
        "wrong_piece": {"target_probability": 0.95, "frechet_distance": 1.0, "chroma": 0.5},
    }
    card = card_of_one(rows, {})
    for name in ("target_probability", "frechet_distance"):
        assert (card[name]["translation"].score is not None) == has_score
    assert card["chroma"]["translation"].score == pytest.approx(0.8)


def test_the_targets_own_recordings_give_the_ranges_of_quality():
    classifier = shipped_classifier()
    of_any, of_piano = (usual_ranges(classifier, target) for target in (None, "piano"))
    low, _, high = classifier.references["piano"].quality["harmonic_share"]
    assert of_piano["harmonic_share"] == (low, high)
    assert of_any["harmonic_share"] == METRICS["harmonic_share"].calibrated_range
    assert of_piano["chroma"] == of_any["chroma"]
    assert set(of_piano) <= set(METRICS)  # the file has a figure of an earlier version, too


def test_the_calibration_holds_for_no_timbre_classifier_of_the_users_own():
    classifier = shipped_classifier()
    classifier.training["data"] = "of the user"
    timbre = {name for name, metric in METRICS.items() if metric.question == "target"}
    assert not timbre & set(usual_ranges(classifier, None))
    assert timbre <= set(usual_ranges(shipped_classifier(), None))
