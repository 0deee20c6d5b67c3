"""Opening files: formats, channels, cuts, and every way in which a file is not audio."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import soundfile

from core.audio.reader import open_audio, read_audio
from core.errors import AudioError, UsageError

from .conftest import RATE, join, read


def test_a_file_is_read_exactly_and_again_from_the_beginning(wav, noise):
    with open_audio(wav) as audio:
        assert (audio.name, audio.path, audio.is_live) == (str(wav), wav, False)
        assert (audio.sample_rate, audio.n_channels, audio.n_samples) == (RATE, 1, len(noise))
        assert audio.provenance is None
        np.testing.assert_array_equal(join(audio.blocks()), noise)
        np.testing.assert_array_equal(join(audio.blocks()), noise)
        assert max(map(len, audio.blocks())) == RATE


@pytest.mark.parametrize("n_channels", range(1, 9))
def test_the_downmix_is_the_mean_of_the_channels(tmp_path, generator, n_channels):
    samples = generator.uniform(-1, 1, (999, n_channels)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "x.wav"), samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3", "aiff", "caf", "w64", "au"])
def test_formats_of_libsndfile_are_read_whole(tmp_path, noise, extension):
    soundfile.write(tmp_path / f"x.{extension}", noise, RATE)
    samples = read(tmp_path / f"x.{extension}")
    assert len(samples) == len(noise)
    assert np.corrcoef(samples, noise)[0, 1] > 0.9


@pytest.mark.parametrize("sample_rate", [1_000, 11_025, 96_000, 384_000])
def test_rates_from_1_to_384_khz_are_read(tmp_path, sample_rate):
    soundfile.write(tmp_path / "x.wav", np.zeros(10), sample_rate)
    with open_audio(tmp_path / "x.wav") as audio:
        assert audio.sample_rate == sample_rate


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(
    ("start", "seconds", "wanted"),
    [
        (0.5, 0.25, slice(8_000, 12_000)),
        (1.1, None, slice(17_600, 36_013)),
        (2.0, 9.0, slice(32_000, 36_013)),
    ],
)
def test_a_part_is_that_part_of_the_whole(tmp_path, noise, *, extension, start, seconds, wanted):
    soundfile.write(tmp_path / f"x.{extension}", noise, RATE)
    whole = read(tmp_path / f"x.{extension}")
    with open_audio(tmp_path / f"x.{extension}", start_seconds=start, seconds=seconds) as part:
        assert part.n_samples == wanted.stop - wanted.start
        np.testing.assert_array_equal(join(part.blocks()), whole[wanted])


def test_a_start_past_the_end_names_both_times(wav):
    with pytest.raises(AudioError, match=r"song\.wav: cannot start at 60 s; it lasts 2\.25"):
        open_audio(wav, start_seconds=60)


@pytest.mark.parametrize(
    "part", [{"start_seconds": -1}, {"start_seconds": np.nan}, {"seconds": 0}, {"seconds": np.inf}]
)
def test_a_part_that_cannot_be_is_wrong_usage(wav, part):
    with pytest.raises(UsageError):
        open_audio(wav, **part)


def test_a_short_file_is_read_resampled(wav, noise):
    samples = read_audio(wav, 8_000)
    assert samples.dtype == np.float32
    assert len(samples) == 18_007  # half of 36013, rounded up


def test_an_open_file_is_read_in_place(wav, noise):
    with wav.open("rb") as stream, open_audio(stream) as audio:
        stream.read(100)
        assert (audio.name, audio.path, audio.is_live) == ("-", None, False)
        np.testing.assert_array_equal(join(audio.blocks()), noise)
        np.testing.assert_array_equal(join(audio.blocks()), noise)
    assert stream.closed  # by us, not before
    np.testing.assert_array_equal(read(io.BytesIO(wav.read_bytes()), name="memory"), noise)


@pytest.mark.parametrize(
    ("extension", "content"),
    [
        ("wav", b""),
        *((extension, b"This is text.\n" * 99) for extension in ("wav", "mp3", "au", "raw", "m4a")),
    ],
)
def test_a_file_that_is_not_audio_is_named_in_one_line(tmp_path, content, extension, capfd):
    path = tmp_path / f"notes.{extension}"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"notes\.{extension}: ") as caught:
        open_audio(path)
    message = str(caught.value)
    assert "\n" not in message
    assert ("readable: wav, flac" in message) == bool(content)
    assert capfd.readouterr() == ("", "")


def test_latents_are_not_played_as_audio(tmp_path, generator, pipe):
    """libsndfile or ffmpeg find what looks like MP3 in long arrays, and decode noise."""
    np.save(tmp_path / "x.npy", generator.uniform(-1, 1, (99, 216)).astype(np.float32))
    with (tmp_path / "x.npy").open("rb") as stream:
        for source in (tmp_path / "x.npy", stream, pipe((tmp_path / "x.npy").read_bytes())):
            with pytest.raises(AudioError, match=r"is a NumPy array, not audio; `umt decode`"):
                open_audio(source)


@pytest.mark.parametrize("name", ["missing.wav", "", "bad\0name.wav"])
def test_a_path_that_cannot_be_opened_is_an_audio_error(tmp_path, name):
    with pytest.raises(AudioError):
        open_audio(tmp_path / name)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg"])
def test_a_file_without_samples_is_an_error(tmp_path, extension):
    soundfile.write(tmp_path / f"x.{extension}", np.zeros(0), RATE)
    with pytest.raises(AudioError, match="x"):
        read(tmp_path / f"x.{extension}")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_samples_that_are_no_numbers_are_an_error_with_their_place(tmp_path, value, n_channels):
    samples = np.zeros((RATE * 3, n_channels), np.float32)
    samples[RATE * 2, -1] = value
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"x\.wav: NaN or infinite sample at 2\.000 s"):
        read(tmp_path / "x.wav")


@pytest.mark.parametrize(("sample_rate", "n_channels"), [(999, 1), (384_001, 1), (16_000, 9)])
def test_rates_and_channels_out_of_range_are_errors(tmp_path, sample_rate, n_channels):
    soundfile.write(tmp_path / "x.wav", np.zeros((9, n_channels)), sample_rate)
    with pytest.raises(AudioError, match="are read"):
        open_audio(tmp_path / "x.wav")


def test_a_truncated_wav_is_read_as_far_as_it_goes(wav, noise):
    os.truncate(wav, wav.stat().st_size - 4_002)
    samples = read(wav)
    np.testing.assert_array_equal(samples, noise[: len(samples)])
    assert len(samples) == len(noise) - 1_001


def test_a_truncated_flac_is_an_error(tmp_path, noise):
    soundfile.write(tmp_path / "x.flac", noise, RATE)
    os.truncate(tmp_path / "x.flac", 30_000)
    with pytest.raises(AudioError, match=r"x\.flac"):
        read(tmp_path / "x.flac")
