"""Listening tests: blind for the listener, and answers that add up."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest

from core.errors import DataError
from core.evaluation.listening import (
    CLIP_RMS_DB,
    CLIP_SECONDS,
    Answers,
    Choice,
    Lineup,
    RatedClip,
    Rating,
    guessing_probability,
    key_json,
    make_test,
    prepare_clip,
    read_answers,
    summarise_answers,
)

RATE = 8000


def sound(seed: int, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (level * values).astype(np.float32)


@pytest.fixture
def made():
    source, output = sound(0), sound(1)
    rated = [
        RatedClip("translation", "song", "piano", source, output),
        RatedClip("copy", "song", "piano", source, source),
    ]
    return make_test(rated, [Lineup("song", source, (output, sound(2)))], RATE)


def test_the_trials_give_away_nothing_of_the_key(made):
    shown = json.dumps(asdict(made.trials))
    for secret in ("translation", "copy", "song", "original"):
        assert secret not in shown
    assert {own.system for own in made.key.ratings.values()} == {"translation", "copy"}


def test_the_original_stands_anywhere_in_a_lineup():
    places = []
    for seed in range(40):
        test = make_test(
            [], [Lineup("x", sound(seed), (sound(seed + 99), sound(seed + 199)))], RATE
        )
        (trial,) = test.trials.lineups
        places.append(trial.clips.index(test.key.lineups[trial.id].original))
    assert set(places) == {0, 1, 2}


def test_clips_are_equally_long_and_loud():
    for seconds, level in product((1, 25), (0.001, 0.3)):
        clip = prepare_clip(sound(3, seconds, level), RATE)
        assert len(clip) == min(seconds, CLIP_SECONDS) * RATE
        assert 10 * np.log10(np.mean(clip**2)) == pytest.approx(CLIP_RMS_DB, abs=0.1)
    assert not prepare_clip(np.zeros(RATE, np.float32), RATE).any()


def test_a_test_without_clips_is_an_error():
    with pytest.raises(DataError, match="needs translations"):
        make_test([], [], RATE)


def answers_of(test, listener: str, *, quality: dict[str, int], is_right: bool) -> Answers:
    key = test.key
    ratings = [Rating(name, quality[own.system], 3) for name, own in key.ratings.items()]
    lineups = []
    for trial in test.trials.lineups:
        original = key.lineups[trial.id].original
        wrong = next(clip for clip in trial.clips if clip != original)
        lineups.append(Choice(trial.id, original if is_right else wrong))
    return Answers(key.test, listener, ratings, lineups)


def test_opinions_are_means_by_system_and_lineups_stand_beside_chance(made):
    answers = [
        answers_of(made, "a", quality={"translation": 2, "copy": 5}, is_right=True),
        answers_of(made, "b", quality={"translation": 3, "copy": 5}, is_right=False),
    ]
    found = summarise_answers(made.key, answers)
    opinions = {own.system: own for own in found.opinions}
    assert opinions["translation"].quality == 2.5
    assert opinions["translation"].quality_interval == (2, 3)
    assert opinions["copy"].quality_interval == (5, 5)
    assert found.lineup.accuracy == 0.5
    assert found.lineup.chance == pytest.approx(1 / 3)
    # One or two of two right, at one in three each.
    assert found.lineup.p_value == pytest.approx(5 / 9)


def test_one_listener_has_no_interval(made):
    own = answers_of(made, "a", quality={"translation": 2, "copy": 5}, is_right=True)
    found = summarise_answers(made.key, [own])
    assert found.opinions[0].quality_interval is None


def test_guessing_is_a_sum_of_unequal_coins():
    chances = [0.5, 0.25]
    assert guessing_probability(chances, 0) == 1
    assert guessing_probability(chances, 1) == pytest.approx(1 - 0.5 * 0.75)
    assert guessing_probability(chances, 2) == pytest.approx(0.125)


@pytest.fixture
def folder(made, tmp_path):
    (tmp_path / "key.json").write_text(key_json(made.key))
    for name in ("a", "b"):
        own = answers_of(made, name, quality={"translation": 2, "copy": 5}, is_right=True)
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"umt_listening_answers": 1, **asdict(own)})
        )
    return tmp_path


def test_answers_are_read_with_their_key(folder):
    assert read_answers([folder / "a.json", folder / "b.json"]).n_listeners == 2
    inner = folder / "answers"
    inner.mkdir()
    (folder / "a.json").rename(inner / "a.json")
    assert read_answers([inner / "a.json"]).n_listeners == 1


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"listener": "a"}, "has answered in"),
        ({"test": "other"}, "of another test"),
        ({"umt_listening_answers": 7}, "not the answers"),
        ({"ratings": [{"id": "x", "quality": 1, "success": 1}]}, "damaged"),
        ({"ratings": [{"quality": 1}]}, "damaged"),
    ],
)
def test_wrong_answers_are_one_clear_error(folder, changes, message):
    edit(folder / "b.json", **changes)
    with pytest.raises(DataError, match=message):
        read_answers([folder / "a.json", folder / "b.json"])


def test_a_rating_off_the_scale_is_refused(folder):
    own = json.loads((folder / "a.json").read_text())
    own["ratings"][0]["quality"] = 9
    (folder / "a.json").write_text(json.dumps(own))
    with pytest.raises(DataError, match="damaged"):
        read_answers([folder / "a.json"])


def test_a_file_that_is_no_key_is_refused_by_name(folder):
    (folder / "key.json").write_text("{}")
    with pytest.raises(DataError, match=r"key\.json: not the key of a listening test"):
        read_answers([folder / "a.json"])


def test_a_missing_key_is_an_error(folder):
    (folder / "key.json").unlink()
    with pytest.raises(DataError, match=r"no key\.json"):
        read_answers([folder / "a.json"])
