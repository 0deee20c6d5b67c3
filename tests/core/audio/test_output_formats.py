"""Each format that is written: its comment tag, its extension, where it can go."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import soundfile

from core.audio.reader import open_audio
from core.audio.tags import Tags
from core.audio.writer import open_writer, output_format
from core.errors import UsageError

from .conftest import RATE, join
from .outputs import codes_of, piped, read_by_libsndfile, write


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "opus", "aiff", "caf", "rf64"])
def test_every_format_with_comments_carries_provenance(tmp_path, noise, provenance, extension):
    path = tmp_path / f"x.{extension}"
    write(path, noise, provenance, format=output_format(path))
    with open_audio(path) as audio:
        assert audio.provenance == provenance
        assert audio.sample_rate in (RATE, 48_000)  # opus decodes at 48 kHz
        samples = join(audio.blocks())
    assert len(samples) == len(noise) * audio.sample_rate // RATE


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "opus"])
def test_title_artist_and_album_reach_the_result(tmp_path, noise, provenance, extension):
    tags = Tags("Lied für Ü", "Me", "Any", "of the source")
    path = tmp_path / f"x.{extension}"
    write(path, noise, provenance, format=extension, tags=tags)
    with open_audio(path) as audio:
        assert (audio.tags.title, audio.tags.artist, audio.tags.album) == (
            "Lied für Ü",
            "Me",
            "Any",
        )
        assert audio.provenance == provenance


@pytest.mark.parametrize(("sample_rate", "file_rate"), [(44_100, 48_000), (22_050, 24_000)])
def test_opus_gets_a_rate_that_it_has(tmp_path, sample_rate, file_rate):
    tone = np.sin(2 * np.pi * 440 * np.arange(sample_rate) / sample_rate).astype(np.float32) / 2
    with open_writer(
        tmp_path / "x.opus", sample_rate=sample_rate, n_samples=None, provenance=None, format="opus"
    ) as writer:
        for block in np.array_split(tone, 9):
            writer.write(block)
    assert writer.n_written == sample_rate
    samples, rate = soundfile.read(tmp_path / "x.opus")
    assert len(samples) / rate == pytest.approx(1, abs=1 / file_rate)
    spectrum = np.abs(np.fft.rfft(samples[rate // 4 : rate // 4 + rate // 2]))
    assert np.argmax(spectrum) * 2 == pytest.approx(440, abs=2)


def test_mp3_gets_a_rate_that_it_has(tmp_path, noise):
    with open_writer(
        tmp_path / "x.mp3", sample_rate=96_000, n_samples=None, provenance=None, format="mp3"
    ) as writer:
        writer.write(noise)
    assert soundfile.info(tmp_path / "x.mp3").samplerate == 48_000


@pytest.mark.parametrize("extension", ["au", "voc", "w64"])
def test_formats_without_comments_are_written_without(tmp_path, noise, provenance, extension):
    path = tmp_path / f"x.{extension}"
    write(path, noise, provenance, format=extension)
    np.testing.assert_array_equal(read_by_libsndfile(path), codes_of(noise))


@pytest.mark.parametrize("tool", ["umt 0.1.0", "umt 0.1.10"])  # with and without a padding byte
def test_others_read_our_info(tmp_path, noise, provenance, tool):
    provenance = dataclasses.replace(provenance, tool=tool)
    write(tmp_path / "x.wav", noise, provenance)
    with soundfile.SoundFile(tmp_path / "x.wav") as file:
        assert file.comment == provenance.to_json()
        assert file.software == tool
    with open_audio(tmp_path / "x.wav") as audio:
        assert audio.provenance == provenance


def test_long_provenance_is_read_back(tmp_path, noise, provenance):
    path = tmp_path / "x.wav"
    long = dataclasses.replace(provenance, source="é" * 3_000)
    write(path, noise, long)
    with open_audio(path) as audio:
        assert audio.provenance == long
        assert audio.n_samples == len(noise)


def test_formats_can_be_written_to_memory(noise):
    for name in ("wav", "flac"):
        memory = io.BytesIO()
        write(memory, noise, is_known=False, format=name)
        memory.seek(0)
        np.testing.assert_array_equal(soundfile.read(memory, dtype="int16")[0], codes_of(noise))


@pytest.mark.parametrize("name", ["x.xyz", "x", "x.m4a", ".wav"])
def test_an_extension_that_cannot_be_written_lists_those_that_can(tmp_path, name):
    with pytest.raises(UsageError, match="writable: wav, flac, ogg, mp3"):
        output_format(tmp_path / name)


def test_extensions_are_known_in_capitals(tmp_path):
    assert output_format(tmp_path / "X.FLAC") == "flac"


def test_only_wav_goes_to_a_pipe():
    with pytest.raises(UsageError, match="to a pipe"):
        piped(np.zeros(9, np.float32), format="flac")


FULL_SCALES = {"16": 1 << 15, "24": 1 << 23, "float": 1 << 30}
KEPT = [
    *[(name, bits) for name in ("wav", "aiff", "au", "caf", "rf64", "w64") for bits in FULL_SCALES],
    *[("flac", "16"), ("flac", "24"), ("voc", "16")],
]


@pytest.mark.parametrize(("extension", "bits"), KEPT)
def test_samples_have_the_bits_asked_for(tmp_path, noise, extension, bits):
    path = tmp_path / f"x.{extension}"
    write(path, noise, format=extension, bits=bits)
    info = soundfile.info(path)
    assert info.subtype == {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}[bits]
    samples, _ = soundfile.read(path, dtype="float64")
    step = 1 / FULL_SCALES[bits]
    np.testing.assert_allclose(samples, noise.clip(-1, 1 - step), rtol=0, atol=0.5 * step)


@pytest.mark.parametrize("bits", ["24", "float"])
@pytest.mark.parametrize("n_samples", [36_012, 36_013])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_pipe_takes_wav_of_any_bits(tmp_path, noise, provenance, bits, n_samples, is_known):
    """Of 24 bits an odd number of samples is an odd number of bytes, which RIFF fills up."""
    samples = noise[:n_samples]
    content = piped(samples, provenance, is_known=is_known, bits=bits)
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with open_audio(path) as audio:
        assert audio.provenance == provenance
        ours = join(audio.blocks())
    theirs, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(ours, samples, rtol=0, atol=2**-24)
    if is_known:
        write(tmp_path / "y.wav", samples, provenance, is_known=False, bits=bits)
        for file in (content, (tmp_path / "y.wav").read_bytes()):
            assert int.from_bytes(file[4:8], "little") == len(file) - 8
            assert len(file) % 2 == 0


@pytest.mark.parametrize(("extension", "bits"), [("flac", "float"), ("voc", "24"), ("mp3", "16")])
def test_bits_that_a_format_does_not_have_are_refused(tmp_path, extension, bits):
    path = tmp_path / f"x.{extension}"
    with pytest.raises(UsageError, match="bits"):
        output_format(path, bits=bits)
    with pytest.raises(UsageError, match="bits"):
        write(path, np.zeros(9, np.float32), format=extension, bits=bits)
    assert not path.exists()


@pytest.mark.parametrize("extension", ["opus", "mp3"])
def test_rates_that_a_format_does_not_have_are_refused(tmp_path, extension):
    assert output_format(tmp_path / f"x.{extension}", rate=48_000) == extension
    with pytest.raises(UsageError, match=r"rates of 8000, .*, 48000 Hz only"):
        output_format(tmp_path / f"x.{extension}", rate=96_000)
