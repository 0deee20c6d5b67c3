"""Scores: how they are stored, and what a roll of them claims to know."""

from __future__ import annotations

from threading import Event

import numpy as np
import pytest

from core.data import score
from core.data.score import (
    RejectedScore,
    find_score,
    misfit,
    read_notes,
    score_roll,
    store_score,
)
from core.errors import DataError
from core.families.spectral import salience

from .test_midi import midi, off, on

FRAME = 0.02  # seconds


@pytest.mark.parametrize("name", ["x.mid", "x.midi", "x.MID"])
def test_a_score_has_the_stem_of_its_recording(tmp_path, name):
    recording = tmp_path / "x.flac"
    assert find_score(recording) is None
    (tmp_path / name).write_bytes(b"")
    assert find_score(recording) == tmp_path / name


def store(directory, content, seconds=5.0):
    path = directory / "x.mid"
    path.write_bytes(content)
    np.save(directory / "x-0123456789.npy", np.zeros(round(8000 * seconds), np.int16))
    return store_score(path, "x-0123456789.npy", seconds, directory, Event())


def test_notes_are_stored_under_a_name_that_follows_from_the_content(tmp_path):
    name = store(tmp_path, midi(on(0, 60), off(1, 60)))
    assert name.startswith("x-0123456789.")
    np.testing.assert_array_equal(read_notes(tmp_path / name), [[0, 1, 60, 1, 1]])
    assert store(tmp_path, midi(on(0, 60), off(1, 60))) == name
    assert store(tmp_path, midi(on(0, 61), off(1, 61))) != name


def test_damaged_notes_are_an_error_and_are_stored_again(tmp_path):
    content = midi(on(0, 60), off(1, 60))
    path = tmp_path / store(tmp_path, content)
    for damage in (b"", path.read_bytes()[:-1]):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=r"run the same `umt prep` again"):
            read_notes(path)
        store(tmp_path, content)
        assert len(read_notes(path)) == 1
    np.save(path, np.zeros((3, 4), np.float32))
    with pytest.raises(DataError, match="no list of notes"):
        read_notes(path)


def test_the_score_of_a_longer_recording_is_refused(tmp_path):
    content = midi(on(0, 60), off(1, 60), on(6, 60), off(7, 60))
    rejected = store(tmp_path, content)
    assert isinstance(rejected, RejectedScore)
    assert "a note at 6.0 s of a recording of 5.0 s" in rejected.reason
    assert isinstance(store(tmp_path, content, seconds=6.5), str)


RATE = 16_000


def played(*keys, seconds=0.5, cents=0):
    """Return a melody of tones with harmonics, int16, and its notes."""
    t = np.arange(round(seconds * RATE)) / RATE
    tones = [
        sum(
            np.sin(2 * np.pi * h * 440 * 2 ** ((key + cents / 100 - 69) / 12) * t) / h
            for h in range(1, 6)
        )
        * np.exp(-3 * t)
        for key in keys
    ]
    starts = seconds * np.arange(len(keys))
    notes = np.stack([starts, starts + seconds, keys, 0 * starts + 0.5, 0 * starts + 1], axis=1)
    return (6000 * np.concatenate(tones)).astype(np.int16), notes.astype(np.float32)


MELODY = (60, 64, 67, 72, 71, 67, 62, 55, 57, 60)


@pytest.mark.parametrize("cents", [0, 35, -35])
def test_the_score_of_a_recording_is_kept(cents):
    """If it is a little out of tune, too."""
    samples, notes = played(*MELODY, cents=cents)
    assert misfit(notes, samples, len(samples) / RATE) is None
    drone, notes = played(*[60] * 10)
    assert misfit(notes, drone, len(drone) / RATE) is None


def test_the_score_of_something_else_is_refused():
    samples, notes = played(*MELODY)
    seconds = len(samples) / RATE
    for moved in (-1, 1, 5):
        other = notes + np.float32([0, 0, moved, 0, 0])
        assert f"moved by {-moved:+d} semitones" in misfit(other, samples, seconds)
    early = notes * np.float32([0.2, 0.2, 1, 1, 1])
    assert "% of what sounds, so it is not its score" in misfit(early, samples, seconds)


def test_of_silence_or_too_little_sound_no_score_is_refused():
    samples, notes = played(*MELODY)
    other = notes + np.float32([0, 0, 1, 0, 0])
    assert misfit(other, 0 * samples, len(samples) / RATE) is None
    assert misfit(other, samples[:3000], 3000 / RATE) is None


def test_a_score_that_does_not_fit_is_not_stored(tmp_path):
    samples, _ = played(*MELODY)
    path = tmp_path / "x.mid"
    path.write_bytes(midi(on(0, 60), off(1, 60)))
    np.save(tmp_path / "x-0123456789.npy", samples)
    rejected = store_score(path, "x-0123456789.npy", len(samples) / RATE, tmp_path, Event())
    assert isinstance(rejected, RejectedScore)
    assert not list(tmp_path.glob("*.notes.npy"))


def roll_of(*notes, n_frames=100):
    """Return the roll of (start, end, key) in frames."""
    array = [[start * FRAME, end * FRAME, key, 0.5, 1] for start, end, key in notes]
    return score_roll(np.array(array, np.float32).reshape(-1, 5), n_frames, FRAME)


def key_of(roll, key, channel=0):
    return roll[:, channel, key - 21]


def test_keys_are_those_of_the_latents():
    assert (score.LOWEST_KEY, score.N_KEYS) == (salience.LOWEST_KEY, salience.N_KEYS)


def test_without_a_score_nothing_is_known():
    assert np.isnan(score_roll(None, 7, FRAME)).all()
    assert score_roll(None, 7, FRAME).shape == (7, 2, 88)


def test_a_score_without_notes_says_that_nothing_sounds():
    assert not roll_of().any()


def test_a_note_sounds_between_its_ends_and_others_do_not():
    roll = roll_of((20.5, 40.5, 60))
    sounding = key_of(roll, 60)
    assert (sounding[22:39] == 0.5).all()
    assert not sounding[:19].any()
    assert np.isnan(sounding[[20, 40, 41, 85]]).all()  # blurred, then ringing on
    assert not sounding[94:].any()
    onset = key_of(roll, 60, 1)
    assert onset[20] == 1
    assert np.isnan(onset[[19, 21]]).all()
    assert not onset[:19].any()
    assert not onset[22:].any()
    others = np.delete(roll, 60 - 21, axis=2)
    assert not others.any()  # known to be silent, not unknown


def test_a_note_that_is_held_for_long_may_have_faded():
    sounding = key_of(roll_of((0.0, 99.0, 60)), 60)
    assert (sounding[1:50] == 0.5).all()
    assert np.isnan(sounding[51:]).all()
    higher = key_of(roll_of((0.0, 99.0, 84)), 84)
    assert (higher[1:25] == 0.5).all()
    assert np.isnan(higher[26:]).all()


def test_a_key_that_is_struck_again_while_it_rings_is_known_to_sound():
    roll = roll_of((0, 10, 60), (15, 30, 60))
    assert key_of(roll, 60, 1)[15] == 1
    assert (key_of(roll, 60)[16:28] == 0.5).all()


def test_the_order_of_notes_does_not_matter():
    notes = [(0, 10, 60), (15, 30, 60), (12, 40, 72)]
    np.testing.assert_array_equal(roll_of(*notes), roll_of(*reversed(notes)))


@pytest.mark.parametrize(("key", "beside"), [(60.3, 61), (59.7, 59)])
def test_the_neighbour_of_a_detuned_note_is_not_known(key, beside):
    roll = roll_of((20, 40, key))
    assert (key_of(roll, 60)[22:38] == 0.5).all()
    assert np.isnan(key_of(roll, beside)[22:38]).all()
    assert not key_of(roll, 120 - beside).any()


def test_a_note_between_two_keys_is_known_at_neither():
    roll = roll_of((20, 40, 60.5))
    assert np.isnan(key_of(roll, 60)[22:38]).all()
    assert np.isnan(key_of(roll, 61)[22:38]).all()


def test_a_note_that_began_before_the_first_frame_sounds_on():
    sounding = key_of(roll_of((-10, 20, 60)), 60)
    assert (sounding[:18] == 0.5).all()
    assert key_of(roll_of((-10, 20, 60)), 60, 1).sum() == 0


def test_after_a_bend_a_note_sounds_at_the_new_pitch_and_does_not_begin_there():
    notes = [[0, 0.4, 60, 1, 1], [0.4, 0.44, 61, 1, 0], [0.44, 1, 62, 1, 0]]
    roll = score_roll(np.array(notes, np.float32), 60, FRAME)
    assert (key_of(roll, 62)[24:48] == 1).all()
    assert not (key_of(roll, 62, 1) == 1).any()
    assert np.isnan(key_of(roll, 62, 1)[21:24]).all()
    assert not (key_of(roll, 61) > 0).any()  # only passed through
    assert np.isnan(key_of(roll, 61)[20:60]).all()


@pytest.mark.parametrize("key", [12, 20.4, 109, 120])
def test_notes_beyond_the_keys_are_passed_over(key):
    roll = roll_of((20, 40, key))
    assert not np.nan_to_num(roll).any()
