"""Strokes and steady sounds part, to the sample, whatever a stream is cut into."""

from __future__ import annotations

import numpy as np
import pytest

from core.audio.percussion import (
    REACH,
    PercussionSeparator,
    _running_median,
    split_percussion,
)

from .conftest import cut

RATE = 44_100


def split(blocks, sample_rate=RATE) -> tuple[np.ndarray, np.ndarray]:
    harmonic, percussive = zip(*split_percussion(blocks, sample_rate), strict=True)
    return np.concatenate(harmonic), np.concatenate(percussive)


def energy_db(part: np.ndarray, whole: np.ndarray) -> float:
    return 10 * np.log10(np.square(part, dtype=np.float64).sum() / np.square(whole).sum())


@pytest.fixture
def chord() -> np.ndarray:
    seconds = np.arange(3 * RATE) / RATE
    tones = [np.sin(2 * np.pi * hertz * seconds) for hertz in (262.0, 330.0, 1318.0)]
    return (0.1 * np.sum(tones, axis=0)).astype(np.float32)


@pytest.fixture
def strokes(generator) -> np.ndarray:
    samples = np.zeros(3 * RATE, np.float32)
    length = RATE // 20
    for start in range(RATE // 4, len(samples) - length, RATE // 2):
        decay = np.exp(-np.arange(length) / (0.1 * length))
        samples[start : start + length] = 0.5 * decay * generator.standard_normal(length)
    return samples


@pytest.mark.parametrize("shape", [(17, 1), (40, 3), (17 + 1000, 100)])
def test_the_median_of_shared_runs_is_the_median(generator, shape):
    values = generator.integers(0, 30, shape).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(values, 2 * REACH + 1, axis=0)
    np.testing.assert_array_equal(_running_median(values), np.median(windows, axis=-1))


def test_a_chord_is_harmonic_and_strokes_are_percussive(chord, strokes):
    inside = slice(RATE // 2, -RATE // 2)  # where a chord begins and ends it is a stroke, too
    assert energy_db(split([chord])[1][inside], chord[inside]) < -25
    assert energy_db(split([strokes])[0], strokes) < -7
    harmonic, percussive = split([chord + strokes])
    assert energy_db((percussive - strokes)[inside], strokes[inside]) < -7
    assert energy_db((harmonic - chord)[inside], chord[inside]) < -10


@pytest.mark.parametrize("n_samples", [1, 100, 2048, 4097, 30_000, 88_200])
@pytest.mark.parametrize("sample_rate", [1_000, 16_000, 48_000, 384_000])
def test_parts_are_as_long_as_the_stream_and_add_up_to_it(generator, n_samples, sample_rate):
    samples = generator.uniform(-1, 1, n_samples).astype(np.float32)
    harmonic, percussive = split([samples], sample_rate)
    assert len(harmonic) == len(percussive) == n_samples
    np.testing.assert_allclose(harmonic + percussive, samples, atol=2e-7)


def test_a_stream_without_samples_has_no_parts():
    assert list(split_percussion([], RATE)) == []
    assert list(split_percussion([np.zeros((0, 2), np.float32)], RATE)) == []


@pytest.mark.parametrize("longest", [700, 9_000, 100_000])
def test_how_a_stream_is_cut_changes_nothing(chord, strokes, generator, longest):
    samples = np.stack([chord + strokes, strokes], axis=1)
    whole, pieces = split([samples]), split(cut(samples, generator, longest))
    for own, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(own, other)


def test_two_equal_channels_are_split_as_one_is(chord, strokes):
    mono = chord + strokes
    for own, other in zip(split([mono]), split([np.stack([mono, mono], axis=1)]), strict=True):
        np.testing.assert_array_equal(own, other[:, 0])
        np.testing.assert_array_equal(own, other[:, 1])


def test_what_is_heard_on_one_side_stays_there(chord, strokes):
    harmonic, percussive = split([np.stack([chord + strokes, np.zeros_like(chord)], axis=1)])
    assert not harmonic[:, 1].any()
    assert not percussive[:, 1].any()


def test_no_more_is_held_back_than_the_lookahead(chord):
    separator = PercussionSeparator(RATE)
    n_split = 0
    for start in range(0, len(chord), 1000):
        n_split += len(separator.push(chord[start : start + 1000])[0])
        assert start + 1000 - n_split <= separator.lookahead + separator.hop
    assert n_split + len(separator.finish()[1]) == len(chord)


def test_nothing_beyond_the_lookahead_changes_a_sample(chord, strokes):
    edge = RATE
    later = chord.copy()
    later[edge:] += strokes[edge:]
    lookahead = PercussionSeparator(RATE).lookahead
    for own, other in zip(split([chord]), split([later]), strict=True):
        np.testing.assert_array_equal(own[: edge - lookahead], other[: edge - lookahead])
        assert not np.array_equal(own[edge - lookahead : edge], other[edge - lookahead : edge])
