"""Calibration and the page made of it: true renderings score better than copies or wrong pieces.

On additive instruments, with a classifier trained on others of their kind.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from core.evaluation.paired import find_pieces
from core.metrics.catalogue import COPY, METRICS, OTHER_RENDERING, ROWS, TRUE, WRONG_PIECE
from core.metrics.timbre.training import train_classifier
from tests.paired_music import DOMAINS, write_paired_music
from tests.sounds import RATE, melody

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def recipe(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"recipes/calibration/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


calibrate = recipe("calibrate")

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
    return list(calibrate.observe(pieces, train_classifier(training, RATE)))


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
    ("name", "degradation"),
    [
        ("spectral_flatness", "hissing"),
        ("clipped_fraction", "clipped"),
        ("silence_fraction", "interrupted"),
        ("out_of_band_share", "noise"),
    ],
)
def test_a_degradation_is_detected_by_its_metric(observations, name, degradation):
    for _, rows in observations:
        assert rows[degradation][name] > rows[TRUE][name]


def test_shuffled_labels_give_figures_that_tell_nothing(observations):
    """Swap what is true and what is wrong in half of the pairs: no metric may still separate."""
    swapped = []
    for number, (rendering, rows) in enumerate(observations * 2):
        turned = {**rows, TRUE: rows[WRONG_PIECE], WRONG_PIECE: rows[TRUE]}
        swapped.append((rendering, turned if number < len(observations) else rows))
    found = calibrate.summarise(swapped, None)
    assert found["chroma"]["auc"] == pytest.approx(0.5)
    assert calibrate.summarise(observations, None)["chroma"]["auc"] == 1


def test_a_summary_covers_every_metric_that_has_figures(observations):
    found = calibrate.summarise(observations, "bright")
    optional = {"pitch_correlation", "note_f1_150ms", "note_f1_50ms"}
    assert set(METRICS) - set(found) <= optional
    for own in found.values():
        assert 0 <= own["auc"] <= 1
        assert all(row["low"] <= row["high"] for row in own["rows"].values())


def test_the_tables_of_the_page_are_those_of_the_package():
    assert recipe("page").filled(PAGE) == PAGE, "run recipes/calibration/page.py"


def test_the_page_has_all_rows_and_options():
    for row in ROWS[1:]:
        assert f"`{row}`" in PAGE
    source = (ROOT / "umtcli/commands/eval.py").read_text(encoding="utf-8")
    for option in ("--reference", "--html", "--paired", "--listening-test", "--ratings", "--data"):
        assert option in PAGE
        assert option[2:].replace("-", "_") in source
