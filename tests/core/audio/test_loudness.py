"""Loudness, measured as ITU-R BS.1770 has it, and two streams brought to the same."""

from __future__ import annotations

import numpy as np
import pytest

from core.audio.loudness import LoudnessMeter, match_running, match_whole

RATE = 16_000


def tone(seconds, level_db, *, rate=RATE, hertz=997.0):
    time = np.arange(round(seconds * rate)) / rate
    return (10 ** (level_db / 20) * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def measured(*blocks, rate=RATE):
    meter = LoudnessMeter()
    for block in blocks:
        meter.push(block, rate)
    return meter


def loudness(*blocks, rate=RATE):
    return measured(*blocks, rate=rate).loudness_db()


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 96_000])
def test_a_sine_of_one_kilohertz_has_the_loudness_that_the_standard_says(rate):
    assert loudness(tone(3, 0, rate=rate), rate=rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness(tone(3, -23, rate=rate), rate=rate) == pytest.approx(-26.01, abs=0.05)


def test_low_tones_count_less_and_high_ones_more():
    low, middle, high = (loudness(tone(2, -20, hertz=hertz)) for hertz in (40, 997, 4000))
    assert low < middle - 3
    assert high > middle + 2


def test_silence_and_what_is_far_below_the_rest_do_not_count():
    loud = loudness(tone(4, -20))
    assert loudness(tone(4, -20), tone(8, -35)) == pytest.approx(loud, abs=0.1)
    assert loudness(tone(4, -20), np.zeros(9 * RATE, np.float32)) == pytest.approx(loud, abs=0.1)
    assert loudness(np.zeros(RATE, np.float32)) == -np.inf
    assert loudness() == -np.inf


def test_it_does_not_depend_on_how_the_stream_is_cut(generator):
    noise = generator.standard_normal(3 * RATE).astype(np.float32)
    assert loudness(*np.array_split(noise, 17)) == pytest.approx(loudness(noise), abs=1e-9)


def test_two_channels_that_are_the_same_are_as_loud_as_one():
    mono = tone(2, -20)
    assert loudness(np.stack([mono, mono], axis=1)) == pytest.approx(loudness(mono), abs=1e-9)
    one_side = loudness(np.stack([mono, 0 * mono], axis=1))
    assert one_side == pytest.approx(loudness(mono) - 3.01, abs=0.01)


def test_less_than_a_block_is_measured_too():
    assert np.isfinite(loudness(tone(0.1, -20)))


@pytest.mark.parametrize("found_db", [-40, -20, -5])
@pytest.mark.parametrize("how", ["whole", "running"])
def test_a_stream_is_brought_to_the_loudness_of_another(found_db, how):
    source, gains = measured(tone(25, -20, hertz=440)), []
    blocks = np.array_split(tone(25, found_db, hertz=1500), 11)
    if how == "whole":
        made = list(match_whole([iter(blocks)], [1], RATE, source, gains.append))
        assert [len(own) for own in made] == [len(own) for own in blocks]
        assert len(gains) == 1
    else:
        made = list(match_running(blocks, RATE, source, gains.append, seconds=4))
    assert loudness(*made) == pytest.approx(source.loudness_db(), abs=0.1)
    assert sum(map(len, made)) == 25 * RATE


def test_a_running_gain_moves_without_steps_and_after_what_was_heard():
    """The second half of the source is quieter than its translation."""
    source = measured(tone(20, -20), tone(20, -20))
    stream = np.concatenate([tone(20, -30), tone(20, -10)])
    made = np.concatenate(list(match_running([stream], RATE, source, lambda _: None, seconds=4)))
    gains = made[np.abs(stream) > 0.01] / stream[np.abs(stream) > 0.01]
    assert 20 * np.log10(gains[0]) == pytest.approx(10, abs=0.1)
    assert 20 * np.log10(gains[-1]) < -5
    assert np.abs(np.diff(np.log(gains))).max() < 0.01


def matched_whole(stream, source, report=lambda _: None):
    return match_whole([iter([stream])], [1], RATE, source, report)


def test_parts_of_a_sum_are_as_loud_as_their_shares_tell():
    """Whatever their own levels, and the sum is as loud as the source."""
    source, gains = measured(tone(4, -20)), []
    parts = [tone(4, -35, hertz=440), tone(4, -12, hertz=1500)]
    cut = [iter(np.array_split(own, n)) for own, n in zip(parts, (7, 3), strict=True)]
    made = np.concatenate(list(match_whole(cut, [0.7, 0.3], RATE, source, gains.append)))
    assert loudness(made) == pytest.approx(source.loudness_db(), abs=0.1)
    levels = [
        loudness(own / np.dot(own, own) * np.dot(made, own))
        for own in parts  # apart again
    ]
    assert levels[0] - levels[1] == pytest.approx(20 * np.log10(7 / 3), abs=0.1)


def test_a_silent_source_has_a_silent_translation():
    noise = tone(2, -60)
    for made in (
        matched_whole(noise, measured(np.zeros(2 * RATE, np.float32))),
        match_running(
            [noise], RATE, measured(np.zeros(2 * RATE, np.float32)), lambda _: None, seconds=1
        ),
    ):
        assert not np.concatenate(list(made)).any()


def test_what_is_hardly_there_is_not_raised_to_noise():
    gains = []
    list(matched_whole(tone(2, -75), measured(tone(2, -10)), gains.append))
    assert gains == [24.0]


def test_a_full_temporary_directory_is_named_as_such(full_disk):
    from core.errors import AudioError

    with full_disk(10_000), pytest.raises(AudioError, match="TMPDIR"):
        list(matched_whole(tone(2, -20), measured(tone(2, -20))))
