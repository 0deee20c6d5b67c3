from __future__ import annotations

import pytest

from core.evaluation.score_card import card_of_one


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
