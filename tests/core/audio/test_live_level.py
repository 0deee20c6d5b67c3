"""The level of what is played along with: right from the first sound on, however it is cut."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core.audio.levels import measure_level_db
from core.audio.live_level import LiveLevel, RunningLevel
from core.audio.loudness import LoudnessMeter

from .conftest import cut, join

RATE = 16_000
LONGEST = [1, 100, 9_000]  # samples a block
TARGET_DB = -20


def tone(seconds: float, level_db: float, *, hertz: float = 400.0) -> np.ndarray:
    """A sine whose RMS is at a level."""
    t = np.arange(round(seconds * RATE)) / RATE
    return (10 ** (level_db / 20) * math.sqrt(2) * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def raised(sound: np.ndarray) -> np.ndarray:
    return join(LiveLevel(RATE).raise_input(iter([sound]), TARGET_DB))


def played(blocks, make=lambda block: block, *, target_db=TARGET_DB):
    """Raise and lower a stream, with what makes the translation in between."""
    level = LiveLevel(RATE)
    heard = level.listen(level.raise_input(blocks, target_db))
    return level.match_output(map(make, heard), lambda _: None)


def loudness_db(sound: np.ndarray) -> float:
    meter = LoudnessMeter(0.1)
    meter.push(sound, RATE)
    return meter.loudness_db()


def test_a_running_level_is_that_of_the_whole():
    sound = np.concatenate([tone(2, -20), tone(2, -45), tone(1.2, -25), tone(2, -90)])
    level = RunningLevel(0.1)
    for step in np.split(sound, range(RATE // 10, len(sound), RATE // 10)):
        level.push(float(np.mean(np.square(step, dtype=float))))
    assert level.level_db() == pytest.approx(measure_level_db([sound], RATE), abs=0.1)


def test_the_level_of_quiet_input_is_reached_within_a_fiftieth_of_a_second():
    made = raised(tone(2, -40))
    assert measure_level_db([made[RATE // 50 :]], RATE) == pytest.approx(TARGET_DB, abs=0.05)
    np.testing.assert_array_equal(made[: RATE // 100], tone(0.01, -40))


def test_an_offset_is_taken_out_where_the_level_is_followed():
    made = raised(tone(2, -40) + np.float32(0.1))
    np.testing.assert_allclose(made[RATE // 4 :], 10 * tone(2, -40)[RATE // 4 :], atol=0.02)


def test_a_bass_note_has_no_offset():
    low = tone(2, -40, hertz=30)
    gains = raised(low)[10::100] / low[10::100]
    assert gains.min() >= 1


@pytest.mark.parametrize("noise_db", [-120, -70])
def test_what_comes_before_the_music_does_not_hide_its_level(noise_db):
    """Silence, or noise that was raised itself; and music that begins within a step."""
    sound = np.concatenate([tone(1.033, noise_db), tone(1, -40)])
    made = raised(sound)[round(1.1 * RATE) :]
    assert measure_level_db([made], RATE) == pytest.approx(TARGET_DB, abs=1)


def test_loud_sound_is_left_alone_where_the_level_is_followed():
    np.testing.assert_array_equal(raised(tone(2, -18)), tone(2, -18))


def test_a_gain_that_follows_falls_when_the_music_grows_louder():
    """The loud part counts for all: what is 10 dB below it is no longer measured."""
    sound = np.concatenate([tone(2, -50), tone(2, -30)])
    made = raised(sound)
    assert measure_level_db([made[RATE // 5 : 2 * RATE]], RATE) == pytest.approx(TARGET_DB, abs=0.1)
    assert measure_level_db([made[-RATE:]], RATE) == pytest.approx(TARGET_DB, abs=0.1)


def test_silence_is_not_raised_and_stays_silent():
    made = raised(np.concatenate([tone(1, -90), tone(1, -40)]))
    np.testing.assert_array_equal(made[:RATE], tone(1, -90))
    hiss = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    assert not join(played([np.zeros(RATE, np.float32)], lambda _: hiss)).any()


def test_input_is_raised_without_waiting():
    """What has come in comes out, however little it is."""
    consumed = []

    def blocks():
        for _ in range(5):
            consumed.append(True)
            yield tone(0.01, -40)

    stream = LiveLevel(RATE).raise_input(blocks(), TARGET_DB)
    for number in range(1, 6):
        assert len(next(stream)) == RATE // 100
        assert len(consumed) == number


def test_output_waits_for_no_more_than_two_steps():
    consumed = []

    def blocks():
        for block in np.split(tone(2, -40), 200):
            consumed.append(len(block))
            yield block

    stream = played(blocks())
    n_done = sum(len(next(stream)) for _ in range(20))
    assert sum(consumed) - n_done <= 2 * 0.05 * RATE


@pytest.mark.parametrize(
    ("level_db", "louder_db"), [(-45, 0), (-45, -6), (-23, 0), (-23, -6), (-8, -5), (-8, -9)]
)
def test_the_first_second_is_as_loud_as_what_follows(level_db, louder_db):
    """Of translations that are as much quieter than the raised source as models' are."""
    source = np.concatenate([np.zeros(3000, np.float32), tone(5, level_db)])
    made = join(played(np.split(source, 100), lambda own: own * np.float32(10 ** (louder_db / 20))))
    assert made.shape == source.shape
    later = loudness_db(made[-2 * RATE :])
    assert later == pytest.approx(loudness_db(source[3000:]), abs=0.2)
    for start in (0, 0.1, 0.3, 0.6, 1):
        own = made[3000 + round(start * RATE) :][: RATE // 5]
        assert loudness_db(own) == pytest.approx(later, abs=3.1)


@pytest.mark.parametrize("level_db", [-60, -40])
def test_a_note_that_a_model_begins_early_is_no_louder(level_db):
    """By 20 ms, as its frames are long, and with the gain that comes after them."""
    source = np.concatenate([np.zeros(3333, np.float32), tone(2, level_db)])
    level = LiveLevel(RATE)
    raised = join(level.listen(level.raise_input([source], TARGET_DB)))
    early = np.concatenate([np.zeros(3013, np.float32), tone(2.02, TARGET_DB)])
    made = join(level.match_output([early[: len(raised)]], lambda _: None))
    assert np.abs(made).max() < 10 ** (4 / 20) * np.abs(source).max()


def test_a_gain_that_matches_has_no_steps():
    source = np.concatenate([tone(2, -50), tone(2, -30)])
    level = LiveLevel(RATE)
    raised = join(level.listen(level.raise_input([source], TARGET_DB)))
    made = join(level.match_output([raised], lambda _: None))
    heard = np.abs(source) > 1e-3
    heard[: RATE // 10] = False  # where the model has not begun to play what was raised
    assert np.abs(np.diff(np.log(made[heard] / source[heard]))).max() < 0.02


@pytest.mark.parametrize("longest", LONGEST)
def test_following_does_not_depend_on_the_cutting(generator, longest):
    """The sound begins in the middle of a step, and ends in one."""
    sound = np.concatenate([tone(0.333, -120), tone(0.5, -50), tone(0.517, -25), tone(0.1, -120)])

    def made(blocks):
        return join(played(blocks, lambda own: np.float32(0.3) * own))

    whole = made([sound])
    assert np.abs(whole).max() > 0.01
    np.testing.assert_allclose(made(cut(sound, generator, longest)), whole, atol=1e-6)
