"""A model on prepared domains: which segments are measured, and how progress is reported."""

from __future__ import annotations

import numpy as np
import pytest

from core.data.domain import Domain, Part, Track
from core.data.samples import READ_LOCK
from core.errors import DataError
from core.evaluation.model import MAX_SEGMENTS, count_segments, evaluate_model
from core.files import exclusive_lock
from core.translator import Translator
from tests.sounds import RATE, melody, organ

SPLITS = ("train", "validation", "test")


@pytest.fixture
def domain(tmp_path):
    """Audio for 5 segments to train on, one and a half to validate, and none to test."""
    length = RATE  # samples of a segment of the tiny WaveNets
    samples = (organ(melody(1, 7)) * 32767).astype(np.int16)
    np.save(tmp_path / "a.npy", samples)
    parts = (
        Part("train", 0, 5 * length),
        Part("validation", 5 * length, 6 * length + length // 2),
    )
    track = Track("a.npy", "a.wav", "0" * 64, 1, 1, len(samples), -20.0, parts)
    return Domain("organ", RATE, (track,), tmp_path)


def test_no_more_segments_are_measured_than_fit_into_a_split(domain, tiny):
    model = Translator.create(tiny, ["organ"])
    assert model.config.segment_length == RATE
    counts = [count_segments(model, [domain], [split]) for split in SPLITS]
    assert counts == [5, 2, 0]
    assert max(counts) < MAX_SEGMENTS


def test_progress_adds_up_to_the_number_of_segments(domain, tiny):
    model = Translator.create(tiny, ["organ"])
    reported = []
    found = evaluate_model(model, [domain], SPLITS, on_measured=reported.append)
    assert sum(reported) == count_segments(model, [domain], SPLITS)
    assert [row.split for row in found.domains] == ["train", "validation"]
    assert all("other latents" in row.baselines for row in found.domains)


def test_samples_cannot_be_removed_while_they_are_measured(domain, tiny):
    lock, tried = domain.directory / READ_LOCK, []

    def try_to_remove(_):
        with pytest.raises(DataError, match="read"), exclusive_lock(lock, DataError("is read")):
            pass
        tried.append(True)

    evaluate_model(Translator.create(tiny, ["organ"]), [domain], SPLITS, on_measured=try_to_remove)
    assert tried
    with exclusive_lock(lock, DataError("is read")):
        pass
