"""The classifier of the user's own domains: trained once, kept with the data, made anew in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from metrics_sounds import RATE, melody, organ, piano

from core.data.domain import Domain, Part, Track, write_domain_file
from core.evaluation.judge import CACHE_NAME, classifier_of, shipped_classifier

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
    calls = []
    first = classifier_of(prepared, tmp_path, on_training=lambda: calls.append(1))
    again = classifier_of(prepared, tmp_path, on_training=lambda: calls.append(1))
    assert calls == [1]
    assert (tmp_path / CACHE_NAME).is_file()
    heard = again.probabilities(piano(melody(7, 6)), RATE)
    assert heard["banjo"] > 0.8
    assert heard == first.probabilities(piano(melody(7, 6)), RATE)
    # Other recordings, and a cache that is no classifier, are reasons to train again.
    (tmp_path / CACHE_NAME).write_bytes(b"cut off")
    classifier_of(prepared, tmp_path, on_training=lambda: calls.append(2))
    assert calls == [1, 2]


def test_the_shipped_classifier_knows_the_starters_domains():
    from core.modelfile import find_model, read_header

    starter = find_model("starter", [], cwd=Path.cwd())
    assert shipped_classifier().domains == tuple(read_header(starter.path).domains)
