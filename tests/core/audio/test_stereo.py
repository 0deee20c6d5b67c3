"""Two channels through reading, levels, rates and writing: each as it would be alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from core.audio.levels import (
    ArrayRecording,
    guard_peaks,
    level_input,
    measure_level_db,
)
from core.audio.live_level import LiveLevel
from core.audio.reader import open_audio, read_audio
from core.audio.resampling import resample_blocks
from core.audio.writer import open_writer

from .conftest import RATE


def join(blocks) -> np.ndarray:
    return np.concatenate(list(blocks))


@pytest.fixture
def stereo(noise) -> np.ndarray:
    return np.stack([noise, 0.25 * np.roll(noise, 100)], axis=1)


@pytest.fixture
def wav(tmp_path, stereo):
    soundfile.write(tmp_path / "stereo.wav", stereo, RATE, subtype="FLOAT")
    return tmp_path / "stereo.wav"


@pytest.mark.parametrize("start", [0.0, 1.1])
def test_two_channels_stay_two_where_they_are_not_mixed(wav, stereo, start):
    with open_audio(wav, start_seconds=start, mono=False) as audio:
        assert audio.is_stereo
        np.testing.assert_array_equal(join(audio.blocks()), stereo[round(start * RATE) :])
    with open_audio(wav) as audio:
        assert not audio.is_stereo
        np.testing.assert_allclose(join(audio.blocks()), stereo.mean(1), atol=1e-7)


def test_a_pipe_has_two_channels_too(wav, stereo, pipe):
    with open_audio(pipe(wav.read_bytes()), mono=False) as audio:
        assert audio.is_live
        np.testing.assert_array_equal(join(audio.blocks()), stereo)


@pytest.mark.parametrize("n_channels", [1, 3, 6])
def test_other_numbers_of_channels_are_mixed(tmp_path, noise, n_channels):
    samples = noise[:999, None] * np.linspace(0.1, 1, n_channels)
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    waveform = read_audio(tmp_path / "x.wav", RATE, mono=False)
    np.testing.assert_allclose(waveform, samples.mean(1), atol=1e-6)


def test_an_array_has_channels_first(wav, stereo):
    np.testing.assert_array_equal(read_audio(wav, RATE, mono=False), stereo.T)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_channels_are_resampled_as_they_are_alone(stereo, rate):
    pieces = np.array_split(stereo, 7)
    both = join(resample_blocks(pieces, RATE, rate))
    for channel in range(2):
        alone = join(resample_blocks([stereo[:, channel]], RATE, rate))
        np.testing.assert_array_equal(both[:, channel], alone)


def test_channels_that_are_the_same_have_the_level_of_one(noise):
    assert measure_level_db([np.stack([noise, noise], 1)], RATE) == measure_level_db([noise], RATE)
    silent = np.stack([noise, 0 * noise], 1)
    expected = measure_level_db([noise], RATE) - 3.01
    assert measure_level_db([silent], RATE) == pytest.approx(expected, abs=0.01)


def test_both_channels_are_raised_alike(stereo):
    levelled = level_input(ArrayRecording(0.05 * stereo, RATE), RATE, -20)
    raised = join(levelled.blocks)
    assert measure_level_db([raised], RATE) == pytest.approx(-20, abs=0.05)
    gain = 10 ** (levelled.gain_db / 20)
    np.testing.assert_allclose(raised, gain * 0.05 * stereo, atol=1e-5)
    followed = join(LiveLevel(RATE).raise_input([0.05 * stereo], -20))
    np.testing.assert_allclose(4 * followed[1100:, 1], followed[1000:-100, 0], rtol=0.2, atol=0.05)
    assert measure_level_db([followed], RATE) == pytest.approx(-20, abs=0.5)


def test_a_constant_offset_of_one_channel_is_taken_out_there(stereo):
    shifted = 0.05 * stereo + np.array([0, 0.1], np.float32)
    raised = join(level_input(ArrayRecording(shifted, RATE), RATE, -20).blocks)
    plain = join(level_input(ArrayRecording(0.05 * stereo, RATE), RATE, -20).blocks)
    np.testing.assert_allclose(raised, plain, atol=0.02)


def test_a_peak_of_one_channel_lowers_both(stereo):
    reports = []
    lowered = join(guard_peaks([10 * stereo], RATE, reports.append))
    assert np.abs(lowered).max() <= 1
    assert reports[0] < -3
    heard = np.abs(stereo).min(axis=1) > 0.01
    gains = lowered[heard] / stereo[heard]
    np.testing.assert_allclose(gains[:, 0], gains[:, 1], rtol=1e-3)


@pytest.mark.parametrize("bits", ["16", "24", "float"])
@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "opus", "aiff"])
def test_two_channels_are_written_and_read_again(tmp_path, stereo, extension, bits):
    if (extension, bits) in {("flac", "float")} or (
        extension in {"ogg", "mp3", "opus"} and bits != "16"
    ):
        pytest.skip("which the format does not have")
    path = tmp_path / f"x.{extension}"
    with open_writer(
        path,
        sample_rate=RATE,
        n_channels=2,
        n_samples=len(stereo),
        provenance=None,
        format=extension,
        bits=None if extension in {"ogg", "mp3", "opus"} else bits,
    ) as writer:
        for block in np.array_split(np.clip(stereo, -1, 1), 5):
            writer.write(block)
    found, rate = soundfile.read(path)
    assert found.shape[1] == 2
    assert writer.n_written == len(stereo)
    if rate == RATE and extension not in {"ogg", "mp3", "opus"}:
        np.testing.assert_allclose(found, np.clip(stereo, -1, 1), atol=2**-15)


def test_a_pipe_of_unknown_length_gets_two_channels(stereo):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    pipe = Pipe()
    with open_writer(
        pipe, sample_rate=RATE, n_channels=2, n_samples=None, provenance=None, bits="24"
    ) as writer:
        writer.write(np.clip(stereo, -1, 1))
    found, _ = soundfile.read(io.BytesIO(pipe.getvalue()))
    np.testing.assert_allclose(found, np.clip(stereo, -1, 1), atol=2**-22)
