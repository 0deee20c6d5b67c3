"""Stored samples: checked where they are mapped, and kept while they are read."""

from __future__ import annotations

import numpy as np
import pytest

from core.data.domain import load_domain
from core.data.samples import reading, track_samples
from core.errors import DataError

from .conftest import prep, write_tone


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_bytes(file.read_bytes()[:1000]), "cannot be read"),
        (lambda file: file.write_bytes(b"RIFF" * 8064), "cannot be read"),
        (lambda file: np.save(file, np.zeros(8064, np.float32)), "holds float32 of 1 dimensions"),
        (lambda file: np.save(file, np.zeros((2, 8000), np.int16)), "holds int16 of 2 dimensions"),
        (lambda file: np.save(file, np.zeros(15999, np.int16)), "holds 15999 samples, not 16000"),
    ],
)
def test_samples_that_are_damaged_or_of_another_file_are_one_clear_error(bach, damage, reason):
    directory, data = bach
    before = load_domain(data / "bach")
    file = data / "bach" / before.tracks[2].file
    content = file.read_bytes()
    damage(file)
    with pytest.raises(DataError, match=f"{file.name} {reason}.*run the same `umt prep` again"):
        load_domain(data / "bach")
    prep(directory, data)
    assert file.read_bytes() == content


def test_samples_that_a_training_reads_stay_until_it_has_ended(bach):
    directory, data = bach
    domain = load_domain(data / "bach")
    write_tone(directory / "3.wav", hz=900)
    (directory / "4.wav").unlink()
    with reading([domain]):
        log = prep(directory, data)
        assert "samples that are no longer needed stay" in log.notices[-1]
        load_samples(domain)
    assert load_domain(data / "bach") != domain
    assert not prep(directory, data).notices
    with pytest.raises(DataError, match="is missing"):
        load_samples(domain)


def load_samples(domain):
    for track in domain.tracks:
        track_samples(domain.directory, track)


def test_training_does_not_begin_with_samples_that_were_removed_meanwhile(bach):
    directory, data = bach
    domain = load_domain(data / "bach")
    (directory / "4.wav").unlink()
    prep(directory, data)
    with pytest.raises(DataError, match=r"4-.*npy is missing"), reading([domain]):
        pytest.fail("training began")


def test_a_training_does_not_keep_prep_from_adding_recordings(bach):
    directory, data = bach
    write_tone(directory / "new.wav", hz=900)
    with reading([load_domain(data / "bach")]):
        log = prep(directory, data)
    assert log.domains[0].n_converted == 1
    assert log.notices == []
