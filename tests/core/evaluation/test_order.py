"""What metrics are for: the truth beats a look-alike, that beats a copy or the wrong piece.

On additive instruments, with a classifier trained on others of their kind.
"""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation.calibration import observe, summarise
from core.evaluation.paired import find_pieces
from core.evaluation.score_card import card_of_one
from core.metrics.catalogue import COPY, METRICS, OTHER_RENDERING, TRUE, WRONG_PIECE
from core.metrics.timbre_training import train_classifier
from tests.paired_music import DOMAINS, write_paired_music
from tests.sounds import RATE, melody

# Three pieces, one pair each: metrics whose means over so few stand far apart.
CHECKED = ("chroma", "aligned_chroma", "onset", "log_spectral_distance_db", "target_probability")


@pytest.fixture(scope="module")
def observations(tmp_path_factory):
    pieces = find_pieces(write_paired_music(tmp_path_factory.mktemp("pairs")), tuple(DOMAINS))
    training = {
        name: [
            play(melody(100 + n, 12), RATE, brightness)
            for n, brightness in enumerate((1, 1.15, 1.3))
        ]
        for name, play in DOMAINS.items()
    }
    return list(observe(pieces, train_classifier(training, RATE)))


def means(observations, name: str) -> dict[str, float]:
    """Return each row's mean, turned round where less is better."""
    sign = 1 if METRICS[name].is_higher_better else -1
    rows = observations[0][1]
    return {
        row: float(np.mean([sign * own[row][name] for _, own in observations]))
        for row in rows
        if name in rows[row] and rows[row][name] is not None
    }


@pytest.mark.parametrize("name", CHECKED)
def test_the_truth_beats_what_the_metric_says_it_beats(observations, name):
    found = means(observations, name)
    worst = WRONG_PIECE if METRICS[name].question == "content" else COPY
    assert found[TRUE] > found[worst] + 0.3
    assert found[OTHER_RENDERING] > found[worst] + 0.2
    if name == "log_spectral_distance_db":
        assert found[TRUE] == pytest.approx(0, abs=1e-3)
        assert found[TRUE] > found[OTHER_RENDERING] > found[WRONG_PIECE]


@pytest.mark.parametrize("name", ["spectral_contrast_db", "harmonic_share"])
def test_smeared_audio_loses_to_clean(observations, name):
    for _, rows in observations:
        assert rows["smeared"][name] < rows[TRUE][name]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("spectral_flatness", "hissing"),
        ("clipped_fraction", "clipped"),
        ("silence_fraction", "interrupted"),
        ("out_of_band_share", "noise"),
    ],
)
def test_damage_is_heard_by_its_metric(observations, name, damage):
    for _, rows in observations:
        assert rows[damage][name] > rows[TRUE][name]


def test_shuffled_labels_give_figures_that_tell_nothing(observations):
    """Swap what is true and what is wrong in half of the pairs: no metric may still separate."""
    swapped = []
    for number, (rendering, rows) in enumerate(observations * 2):
        turned = {**rows, TRUE: rows[WRONG_PIECE], WRONG_PIECE: rows[TRUE]}
        swapped.append((rendering, turned if number < len(observations) else rows))
    found = summarise(swapped, None)
    assert found["chroma"]["auc"] == pytest.approx(0.5)
    assert summarise(observations, None)["chroma"]["auc"] == 1


def test_a_summary_covers_every_metric_that_has_figures(observations):
    found = summarise(observations, "bright")
    optional = {"pitch_correlation", "note_f1_150ms", "note_f1_50ms"}
    assert set(METRICS) - set(found) <= optional
    for own in found.values():
        assert 0 <= own["auc"] <= 1
        assert all(row["low"] <= row["high"] for row in own["rows"].values())


@pytest.mark.parametrize(
    ("name", "copy", "true", "share"),
    [
        ("target_probability", 0.2, 0.8, 0.5),
        ("target_probability", 0.97, 0.96, None),  # the source is in the target's domain
        ("frechet_distance", 0.8, 0.2, 0.5),
        ("frechet_distance", 0.2, 0.8, None),
    ],
)
def test_share_of_the_way_needs_a_way_up(name, copy, true, share):
    assert METRICS[name].share(0.5, {COPY: copy, TRUE: true}) == (share and pytest.approx(share))


@pytest.mark.parametrize(("heard", "has_share"), [(0.1, True), (0.9, False)])
def test_source_that_is_heard_as_the_target_already_has_no_way_to_go(heard, has_share):
    rows = {
        "translation": {"target_probability": 0.5, "frechet_distance": 2.0, "chroma": 0.9},
        "copy": {"target_probability": heard, "frechet_distance": 3.0, "chroma": 1.0},
        "wrong_piece": {"target_probability": 0.95, "frechet_distance": 1.0, "chroma": 0.5},
    }
    card = card_of_one(rows, {})
    for name in ("target_probability", "frechet_distance"):
        assert (card[name]["translation"].share is not None) == has_share
    assert card["chroma"]["translation"].share == pytest.approx(0.8)
