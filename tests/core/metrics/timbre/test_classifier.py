from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from core.errors import ModelError
from core.evaluation.analysis import Analysis, target_figures
from core.metrics import timbre
from tests.sounds import RATE, melody, noise, organ

from .conftest import INSTRUMENTS, recordings

NAMES = ["target_probability", "source_probability", "frechet_distance", "kernel_distance"]


@pytest.fixture(scope="module")
def held_out():
    return {name: tracks[0] for name, tracks in recordings([7], 12.0, brightness=1.6).items()}


def measure(classifier, waveform, target, source=None):
    return target_figures(Analysis(waveform, RATE, classifier), target, source)


def probabilities_of(classifier, waveform, sample_rate=RATE):
    return Analysis(waveform, sample_rate, classifier).probabilities


@pytest.mark.parametrize("domain", INSTRUMENTS)
def test_held_out_pieces_with_another_tone_colour_are_recognised(classifier, held_out, domain):
    probabilities = probabilities_of(classifier, held_out[domain])
    assert list(probabilities) == ["organ", "piano"]
    assert sum(probabilities.values()) == pytest.approx(1)
    assert probabilities[domain] > 0.8


def test_the_target_is_nearer_than_the_source(classifier, held_out):
    hit, miss = (
        measure(classifier, held_out[domain], "piano", "organ") for domain in ("piano", "organ")
    )
    assert list(hit) == NAMES
    assert hit["target_probability"] > 0.8
    assert miss["target_probability"] < 0.2
    assert hit["source_probability"] == pytest.approx(1 - hit["target_probability"], abs=1e-5)
    assert hit["frechet_distance"] < miss["frechet_distance"]
    assert hit["kernel_distance"] < miss["kernel_distance"]


def test_without_a_source_of_its_own_there_is_no_source_probability(classifier, held_out):
    figures = measure(classifier, held_out["piano"], "piano")
    assert list(figures) == [NAMES[0], *NAMES[2:]]
    assert measure(classifier, held_out["piano"], "piano", "piano") == figures


def test_probabilities_do_not_depend_on_level_or_pauses(classifier, held_out):
    expected = probabilities_of(classifier, held_out["piano"])
    quiet = probabilities_of(classifier, 0.01 * held_out["piano"])
    paused = probabilities_of(classifier, np.pad(held_out["piano"], (0, 10 * RATE)))
    assert quiet == pytest.approx(expected, abs=1e-3)
    assert paused == pytest.approx(expected, abs=0.1)


def test_a_higher_sample_rate_changes_little(classifier):
    double = organ(melody(7, 12.0), 2 * RATE)
    assert probabilities_of(classifier, double, 2 * RATE)["organ"] > 0.8


def test_silence_and_the_shortest_clips_have_no_figures(classifier):
    for waveform in (np.zeros(5 * RATE, np.float32), noise(0.2), noise(0.0001)):
        assert probabilities_of(classifier, waveform) == {}
        figures = measure(classifier, waveform, "piano", "organ")
        assert figures == dict.fromkeys(NAMES)


def test_one_second_is_classified_but_too_short_for_a_distance(classifier, held_out):
    second = held_out["organ"][RATE : 2 * RATE]
    figures = measure(classifier, second, "organ", "piano")
    assert figures["target_probability"] > 0.5
    assert figures["frechet_distance"] is figures["kernel_distance"] is None


def test_noise_gets_finite_figures(classifier):
    figures = measure(classifier, noise(12), "piano", "organ")
    assert np.isfinite(list(figures.values())).all()


def test_saving_and_loading_keep_every_figure(classifier, held_out, tmp_path):
    path = tmp_path / "timbre.safetensors"
    classifier.save(path)
    loaded = timbre.TimbreClassifier.load(path)
    assert (loaded.domains, loaded.training) == (classifier.domains, classifier.training)
    first, again = (measure(own, held_out["organ"], "piano") for own in (classifier, loaded))
    assert first == again
    for domain in INSTRUMENTS:
        assert loaded.references[domain].quality == classifier.references[domain].quality
        assert loaded.references[domain].rolloff_hz == classifier.references[domain].rolloff_hz


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"", "cannot be read"),
        (b"RIFF....WAVEfmt ", "cannot be read"),
        ({"format": 1, "features": 99}, "not a timbre classifier of this version"),
        ({}, "not a timbre classifier of this version"),
        ({"format": 1, "features": 1, "domains": ["a"], "references": {}}, "damaged"),
    ],
)
def test_other_files_are_refused_by_name(content, reason, tmp_path):
    path = tmp_path / "other.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save_file({"a": torch.zeros(1)}, path, metadata={"umt_timbre": json.dumps(content)})
    with pytest.raises(ModelError, match=f"other.safetensors: .*{reason}"):
        timbre.TimbreClassifier.load(path)
