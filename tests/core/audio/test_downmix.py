"""Channels that cancel each other are not lost in the downmix."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from core.audio.downmix import Downmix

from .conftest import cut, join, read

RATE = 16_000
LONGEST = [1, 700, 9_000]


def mixed(samples: np.ndarray, generator=None, longest=None) -> tuple[np.ndarray, int]:
    reports: list[bool] = []
    downmix = Downmix(samples.shape[1], RATE, lambda: reports.append(True))
    blocks = [samples] if generator is None else cut(samples, generator, longest)
    pieces = [downmix.push(block) for block in blocks]
    return join([*pieces, downmix.finish()]), len(reports)


def level_db(samples: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20)


@pytest.mark.parametrize("residue", [0, 0.01])
def test_channels_of_opposite_polarity_are_heard(noise, generator, residue):
    other = residue * generator.standard_normal(len(noise)).astype(np.float32)
    mono, n_reports = mixed(np.stack([noise, -noise + other * noise.std()], 1))
    assert n_reports
    assert level_db(mono) == pytest.approx(level_db(noise), abs=0.2)


def test_six_channels_of_which_half_are_turned_are_heard(noise):
    mono, _ = mixed(np.stack([noise, -noise] * 3, 1))
    assert level_db(mono) == pytest.approx(level_db(noise), abs=0.1)


@pytest.mark.parametrize("shift", [0, 1, 7_000])
def test_ordinary_stereo_is_its_mean_bit_for_bit(noise, shift):
    samples = np.stack([noise, np.roll(noise, shift)], 1)
    mono, n_reports = mixed(samples)
    assert n_reports == 0
    np.testing.assert_array_equal(mono, (samples[:, 0] + samples[:, 1]) / np.float32(2))


def test_silence_and_the_noise_of_converters_are_left_alone(generator):
    noise = generator.uniform(-1, 1, RATE).astype(np.float32) / 32768
    mono, n_reports = mixed(np.stack([noise, -noise], 1))
    assert n_reports == 0
    assert not mono.any()


@pytest.mark.parametrize("longest", LONGEST)
def test_the_mix_does_not_depend_on_the_cutting(noise, generator, longest):
    half = len(noise) // 2
    other = np.concatenate([-noise[:half], noise[half:]])
    samples = np.stack([noise, other], 1)
    whole, n_reports = mixed(samples)
    pieces, _ = mixed(samples, generator, longest)
    np.testing.assert_array_equal(pieces, whole)
    assert n_reports == 1
    np.testing.assert_array_equal(whole[half + RATE // 10 :], noise[half + RATE // 10 :])


def test_a_change_of_polarity_does_not_click(generator):
    t = np.arange(2 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 200 * t)).astype(np.float32)
    other = np.where(t < 1, tone, -tone)
    mono, _ = mixed(np.stack([tone, other], 1))
    assert np.abs(np.diff(mono)).max() < 1.2 * np.abs(np.diff(tone)).max()


def test_a_file_says_it_once_and_gives_the_same_twice(tmp_path, noise, caplog):
    soundfile.write(tmp_path / "x.wav", np.stack([noise, -noise], 1), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "x.wav"), noise)
    assert caplog.text.count("x.wav: its channels are of opposite polarity") == 1
