"""The classifier of the user's own domains: trained once, kept with the data, made anew in time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from core.data.domain import Domain, Part, Track, write_domain_file
from core.evaluation.classifier_cache import CACHE_NAME, classifier_of, shipped_classifier
from core.metrics.timbre import TimbreClassifier, training
from tests.sounds import RATE, melody, organ, piano

SECONDS = 36


@pytest.fixture
def prepared(tmp_path):
    """Two domains; what they validate on is not what they train on."""
    domains = []
    for name, play in (("banjo", piano), ("bagpipe", organ)):
        directory = tmp_path / name
        directory.mkdir()
        samples = (play(melody(1, SECONDS + 4)) * 32767).astype(np.int16)
        np.save(directory / "a.npy", samples)
        parts = (
            Part("train", 0, SECONDS * RATE),
            Part("validation", SECONDS * RATE, len(samples)),
        )
        track = Track("a.npy", "a.wav", "0" * 64, 1, 1, len(samples), -20.0, parts)
        domains.append(Domain(name, RATE, (track,), directory))
        write_domain_file(domains[-1])
    return domains


def test_a_classifier_is_trained_once_and_kept_with_the_data(prepared, tmp_path):
    notices = []
    first = classifier_of(prepared, tmp_path, notice=notices.append)
    again = classifier_of(prepared, tmp_path, notice=notices.append)
    assert notices == ["training a timbre classifier on the prepared domains, once"]
    assert (tmp_path / CACHE_NAME).is_file()
    found, expected = (
        own.probabilities_of(own.embed(piano(melody(7, 6)), RATE)) for own in (again, first)
    )
    assert found["banjo"] > 0.8
    assert found == expected


def other_recording(domains):
    first, *others = domains
    track = replace(first.tracks[0], source_sha256="1" * 64)
    return [replace(first, tracks=(track,)), *others]


def other_split(domains):
    first, *others = domains
    track = first.tracks[0]
    shorter = replace(track.parts[0], stop=track.parts[0].stop - RATE)
    return [replace(first, tracks=(replace(track, parts=(shorter, track.parts[1])),)), *others]


def other_name(domains):
    return [replace(domains[0], name="mandolin"), *domains[1:]]


@pytest.fixture
def trainings(monkeypatch):
    """Train nothing; list what would have been trained on, as lengths by domain."""
    done = []

    def train(recordings, sample_rate):
        done.append({name: sum(map(len, own)) for name, own in recordings.items()})
        known = shipped_classifier()
        return TimbreClassifier(known.network, known.domains, known.references, {})

    monkeypatch.setattr(training, "train_classifier", train)
    return done


@pytest.mark.parametrize("change", [other_recording, other_split, other_name])
def test_other_data_need_another_classifier(prepared, tmp_path, trainings, change):
    classifier_of(prepared, tmp_path)
    classifier_of(change(prepared), tmp_path)
    classifier_of(change(prepared), tmp_path)
    assert len(trainings) == 2


def test_only_the_train_split_is_learnt_from(prepared, tmp_path, trainings):
    classifier_of(prepared, tmp_path)
    assert trainings == [{"banjo": SECONDS * RATE, "bagpipe": SECONDS * RATE}]


def test_a_cache_that_cannot_be_read_is_made_again(prepared, tmp_path, trainings):
    (tmp_path / CACHE_NAME).write_bytes(b"cut off")
    classifier_of(prepared, tmp_path)
    classifier_of(prepared, tmp_path)
    assert len(trainings) == 1


@pytest.mark.parametrize("reason", ["taken", "full"])
def test_a_classifier_that_cannot_be_kept_is_used(
    prepared, tmp_path, trainings, monkeypatch, reason
):
    if reason == "taken":
        (tmp_path / CACHE_NAME).mkdir()
    else:
        monkeypatch.setattr("core.metrics.timbre.classifier.save_file", disk_full)
    notices = []
    classifier = classifier_of(prepared, tmp_path, notice=notices.append)
    assert len(trainings) == 1
    assert classifier.training["data"]
    assert f"{tmp_path / CACHE_NAME} cannot be written" in notices[-1]
    assert not list(tmp_path.rglob("*.part"))


def disk_full(*_, **__):
    raise SafetensorError("No space left on device")


def test_the_shipped_classifier_knows_the_starters_domains():
    from core.model_file import find_model, read_header

    starter = find_model("starter", [], cwd=Path.cwd())
    assert shipped_classifier().domains == tuple(read_header(starter.path).domains)
