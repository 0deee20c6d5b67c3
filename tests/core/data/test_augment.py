"""Distortions: each changes what it should and no more."""

from __future__ import annotations

import numpy as np
import pytest

from core.config import DistortionConfig
from core.data.augment import NOISE_RANGE_DB, distort, shift_pitch

RATE = 16000
NOTHING = DistortionConfig(pitch_semitones=0)
EVERYTHING = DistortionConfig(
    equalizer_db=9, noise_db=-24, room_seconds=0.6, gain_db=6, reshape_share=1
)


@pytest.fixture
def noise() -> np.ndarray:
    """One second of white noise, float32."""
    return np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * np.float32(0.1)


def tone(hz: float, seconds: float = 1.0, sample_rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.3 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def peak_hz(waveform: np.ndarray, sample_rate: int) -> float:
    """Return the strongest frequency, interpolated between bins."""
    n_fft = 8 * len(waveform)
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), n_fft))
    return float(np.argmax(spectrum)) * sample_rate / n_fft


def response_db(distorted: np.ndarray, original: np.ndarray, low_hz: float, high_hz: float):
    """Return how much louder a band has become."""
    hz = np.fft.rfftfreq(len(original), 1 / RATE)
    band = (low_hz <= hz) & (hz < high_hz)
    powers = [np.sum(np.abs(np.fft.rfft(x)[band]) ** 2) for x in (distorted, original)]
    return 10 * np.log10(powers[0] / powers[1])


@pytest.mark.parametrize("n_samples", [1, 799, 16000, 16001])
@pytest.mark.parametrize("sample_rate", [2000, 16000, 44100])
def test_length_and_dtype_are_kept(n_samples, sample_rate):
    waveform = np.random.default_rng(0).uniform(-1, 1, n_samples).astype(np.float32)
    before = waveform.copy()
    distorted = distort(waveform, sample_rate, EVERYTHING, np.random.default_rng(1))
    assert distorted.shape == waveform.shape
    assert distorted.dtype == np.float32
    assert np.isfinite(distorted).all()
    np.testing.assert_array_equal(waveform, before)  # the target is not touched


@pytest.mark.parametrize("config", [EVERYTHING, DistortionConfig()])
def test_silence_stays_silent_and_finite(config):
    silence = np.zeros(RATE, np.float32)
    assert not distort(silence, RATE, config, np.random.default_rng(0)).any()


def test_all_zero_configuration_changes_nothing(noise):
    np.testing.assert_array_equal(distort(noise, RATE, NOTHING, np.random.default_rng(0)), noise)


def test_distortion_is_determined_by_its_generator(noise):
    first, again, other = (
        distort(noise, RATE, EVERYTHING, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("sample_rate", [1000, 16000, 44100])
@pytest.mark.parametrize("n_samples", [1, 2, 9, 100, 799])
def test_pitch_shift_keeps_the_length_of_the_shortest_waveforms(n_samples, sample_rate):
    waveform = np.ones(n_samples, np.float32)
    for semitones in (-12, -0.5, 0, 0.5, 12):
        assert shift_pitch(waveform, sample_rate, semitones).shape == (n_samples,)


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("semitones", [-2, -0.5, -0.1, 0.25, 0.5, 3])
@pytest.mark.parametrize("hz", [110, 440, 1760])
def test_pitch_moves_by_the_given_semitones(hz, semitones, sample_rate):
    waveform = tone(hz, 0.5, sample_rate)
    shifted = shift_pitch(waveform, sample_rate, semitones)
    inside = slice(sample_rate // 20, -sample_rate // 20)
    moved = peak_hz(shifted[inside], sample_rate) / peak_hz(waveform[inside], sample_rate)
    assert 12 * np.log2(moved) == pytest.approx(semitones, abs=0.04)


@pytest.mark.parametrize("semitones", [-0.5, 0.5])
def test_pitch_shift_keeps_the_level_within_a_decibel(semitones):
    waveform = tone(440, 0.4)
    shifted = shift_pitch(waveform, RATE, semitones)
    inside = slice(RATE // 20, -RATE // 20)
    powers = [np.mean(x[inside] ** 2) for x in (shifted, waveform)]
    assert abs(10 * np.log10(powers[0] / powers[1])) < 1


@pytest.mark.parametrize("semitones", [-1, -0.5, 0.5, 1])
def test_pitch_shift_keeps_the_timing(semitones):
    time = np.arange(RATE // 2) / RATE
    for onset in (0.08, 0.2, 0.4):
        since = np.maximum(time - onset, 0)
        note = (since > 0) * np.exp(-40 * since) * np.sin(2 * np.pi * 600 * since)
        shifted = shift_pitch(note.astype(np.float32), RATE, semitones)
        centres = [np.sum(time * x**2) / np.sum(x**2) for x in (shifted, note)]
        # A quarter of the vocoder's window; resampling alone would move the last by 12 or 24 ms.
        assert abs(centres[0] - centres[1]) < 0.0115


def test_only_a_stretch_of_a_quarter_to_half_a_second_is_shifted(noise):
    lengths, starts = [], []
    for seed in range(30):
        shifted = distort(noise, RATE, DistortionConfig(), np.random.default_rng(seed))
        changed = np.flatnonzero(shifted != noise)
        starts.append(changed[0] / RATE)
        lengths.append((changed[-1] + 1 - changed[0]) / RATE)
    assert max(lengths) <= 0.5
    assert min(lengths) >= 0.25 - 3 / RATE  # the fades begin and end with no change
    assert max(lengths) - min(lengths) > 0.15
    assert max(starts) - min(starts) > 0.4


def test_item_shorter_than_the_stretch_is_shifted_whole():
    short = tone(440, 0.1)
    shifted = distort(short, RATE, DistortionConfig(), np.random.default_rng(0))
    assert np.flatnonzero(shifted != short)[-1] > 0.09 * RATE


def test_seams_of_the_shifted_stretch_do_not_click():
    waveform = tone(440)
    steepest = np.abs(np.diff(waveform)).max()
    for seed in range(20):
        shifted = distort(waveform, RATE, DistortionConfig(), np.random.default_rng(seed))
        assert np.abs(np.diff(shifted)).max() < 2 * steepest


def test_equalizer_changes_bands_within_its_limit(noise):
    config = DistortionConfig(pitch_semitones=0, equalizer_db=12)
    bands = [(50, 70), (380, 420), (950, 1050), (2400, 2600), (5800, 6200)]
    responses = np.array(
        [
            [
                response_db(distort(noise, RATE, config, np.random.default_rng(seed)), noise, *band)
                for band in bands
            ]
            for seed in range(20)
        ]
    )
    assert np.abs(responses).max() < 12.5
    assert np.abs(responses).max() > 6
    assert (responses.std(axis=1) > 1).any()  # not just a gain


def test_equalizer_keeps_the_timing(noise):
    config = DistortionConfig(pitch_semitones=0, equalizer_db=12)
    for seed in range(5):
        filtered = distort(noise, RATE, config, np.random.default_rng(seed))
        product = np.fft.irfft(np.fft.rfft(filtered, 32768) * np.fft.rfft(noise, 32768).conj())
        assert np.argmax(product) == 0


def test_room_adds_a_decaying_tail_after_the_direct_sound_to_half_of_the_items():
    config = DistortionConfig(pitch_semitones=0, room_seconds=0.4)
    impulse = np.zeros(RATE, np.float32)
    impulse[100] = 0.5
    n_rooms = 0
    for seed in range(40):
        heard = distort(impulse, RATE, config, np.random.default_rng(seed))
        np.testing.assert_allclose(heard[:130], impulse[:130], atol=1e-6)
        tail = heard[130:]
        assert np.abs(tail[round(0.4 * RATE) :]).max() < 1e-6
        if np.abs(tail).max() < 1e-6:
            continue
        n_rooms += 1
        energy = np.sum(tail**2) / 0.5**2
        assert -31 < 10 * np.log10(energy) < -5
        assert np.sum(tail[:600] ** 2) > np.sum(tail[600:1200] ** 2)
    assert 10 < n_rooms < 30


def test_noise_is_as_loud_as_the_configuration_allows(noise):
    config = DistortionConfig(pitch_semitones=0, noise_db=-20)
    signal = tone(440)
    level = 10 * np.log10(np.mean(signal**2))
    levels = []
    for seed in range(40):
        added = distort(signal, RATE, config, np.random.default_rng(seed)) - signal
        levels.append(10 * np.log10(np.mean(added**2)) - level)
        flatness = response_db(added, noise, 100, 1000) - response_db(added, noise, 4000, 8000)
        assert abs(flatness) < 1.5
    assert max(levels) < -20 + 0.3
    assert min(levels) > -20 - NOISE_RANGE_DB - 0.3
    assert max(levels) - min(levels) > NOISE_RANGE_DB / 2
