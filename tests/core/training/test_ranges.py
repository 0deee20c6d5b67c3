"""The keys of domains, in the model file of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from core.data.domain import write_domain_file
from core.key_range import KeyRange
from core.model_file import read_header
from core.training.ranges import heard_ranges, score_range
from core.training.warm_start import WarmStart
from core.translator import Translator

from .conftest import spectral_config, stop_after, store_music, tiny_config

SPECTRAL_RATE = 44_100


def with_score(domain, *keys):
    """Return a domain whose track has a score of these keys."""
    notes = np.array([[k / 10, k / 10 + 0.1, key, 0.5, 1] for k, key in enumerate(keys)], "<f4")
    np.save(domain.directory / "0.notes.npy", notes)
    (track,) = domain.tracks
    scored = replace(domain, tracks=(replace(track, notes="0.notes.npy"),))
    write_domain_file(scored)
    return scored


def test_a_score_has_the_range_and_glides_do_not_widen_it(tmp_path):
    (domain,) = store_music(tmp_path, bass=3.0)
    domain = with_score(domain, 40, 52.2, 63.8)
    path = domain.directory / "0.notes.npy"
    glide = np.array([[0.4, 0.5, 80, 0.5, 0]], "<f4")  # on the way, where no note begins
    np.save(path, np.concatenate([np.load(path), glide]))
    assert score_range(domain) == KeyRange(40, 64)


def test_a_domain_with_a_recording_without_score_has_to_be_heard(tmp_path):
    (domain,) = store_music(tmp_path, bass=3.0)
    assert score_range(domain) is None


def test_the_encoder_finds_the_notes_that_are_played(tmp_path):
    """`music` plays keys 45 to 68."""
    domains = store_music(tmp_path, SPECTRAL_RATE, bass=12.0)
    keys = heard_ranges(Translator.create(spectral_config(), ["bass"]), domains, None)["bass"]
    assert abs(keys.lowest - 45) <= 1
    assert abs(keys.highest - 68) <= 1


def test_a_run_writes_the_ranges_of_scores_and_of_what_is_heard(tmp_path, train):
    scored, heard = store_music(tmp_path / "data", SPECTRAL_RATE, bass=3.0, reed=3.0)
    domains = [with_score(scored, 30, 45), heard]
    run = tmp_path / "run"
    config = spectral_config(steps=2, validate_steps=2)
    train(config, domains, run, should_stop=stop_after(1))
    before = read_header(run / "model.safetensors").ranges
    assert before == {"bass": KeyRange(30, 45)}  # a validation would find the other
    train(config, domains, run)
    ranges = read_header(run / "model.safetensors").ranges
    assert ranges["bass"] == KeyRange(30, 45)
    assert 30 < ranges["reed"].lowest < ranges["reed"].highest < 100
    assert Translator.load(run / "model.safetensors").ranges == ranges


def test_an_added_domain_gets_a_range_and_the_others_keep_theirs(tmp_path, train):
    own, _ = store_music(tmp_path / "data", SPECTRAL_RATE, bass=3.0, reed=3.0)
    base = Translator.create(spectral_config(), ["reed"])
    base.ranges = {"reed": KeyRange(50, 70)}
    base.save(tmp_path / "base.safetensors")
    run, config = tmp_path / "run", spectral_config(steps=1)
    warm_start = WarmStart(tmp_path / "base.safetensors", added_domain="bass")
    train(config, [with_score(own, 30, 45)], run, warm_start=warm_start)
    ranges = read_header(run / "model.safetensors").ranges
    assert ranges == {"reed": KeyRange(50, 70), "bass": KeyRange(30, 45)}


def test_wavenets_have_no_ranges(duo, tmp_path, train):
    train(tiny_config(steps=1), duo, tmp_path / "run")
    assert read_header(tmp_path / "run" / "model.safetensors").ranges == {}
