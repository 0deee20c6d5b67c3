"""Files and pipes that others read: length, rounding, provenance, sizes past 4 GB."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio import tags, wav_writer
from core.audio.reader import open_audio
from core.audio.writer import open_writer
from core.errors import AudioError

from .conftest import RATE, join
from .outputs import codes_of, piped, read_by_libsndfile, write


def read_by_sox(path: Path) -> np.ndarray:
    command = ["sox", "-V1", str(path), "-t", "raw", "-e", "signed", "-b", "16", "-L", "-"]
    return np.frombuffer(subprocess.run(command, check=True, stdout=-1).stdout, "<i2")


def read_by_ffmpeg(path: Path) -> np.ndarray:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-f", "s16le", "-"]
    return np.frombuffer(subprocess.run(command, check=True, stdout=-1).stdout, "<i2")


def read_by_us(path: Path) -> np.ndarray:
    with path.open("rb", buffering=0) as stream, open_audio(stream) as audio:
        return codes_of(join(audio.blocks()))


READERS = {"sox": read_by_sox, "ffmpeg": read_by_ffmpeg, "": read_by_libsndfile, "umt": read_by_us}


def needed(reader: str) -> None:
    if reader in ("sox", "ffmpeg") and shutil.which(reader) is None:
        pytest.skip(f"{reader} is missing")


@pytest.mark.parametrize("is_pipe", [False, True], ids=["file", "pipe"])
@pytest.mark.parametrize("is_known", [False, True], ids=["unknown", "known"])
@pytest.mark.parametrize("reader", READERS)
def test_others_read_exactly_our_samples(tmp_path, noise, provenance, *, is_pipe, is_known, reader):
    needed(reader)
    path = tmp_path / "x.wav"
    if is_pipe:
        path.write_bytes(piped(noise, provenance, is_known=is_known))
    else:
        write(path, noise, provenance, is_known=is_known)
    np.testing.assert_array_equal(READERS[reader](path), codes_of(noise))


@pytest.mark.parametrize("reader", ["", "ffmpeg", "umt"])  # sox 14.4 does not know RF64
@pytest.mark.parametrize("is_pipe", [False, True], ids=["file", "pipe"])
@pytest.mark.parametrize("is_known", [False, True], ids=["unknown", "known"])
def test_past_the_limit_it_is_rf64(
    tmp_path, noise, provenance, monkeypatch, *, reader, is_pipe, is_known
):
    needed(reader)
    monkeypatch.setattr(wav_writer, "MAX_RIFF_BYTES", 60_000)
    path = tmp_path / "x.wav"
    if is_pipe:
        path.write_bytes(piped(noise, provenance, is_known=is_known))
    else:
        write(path, noise, provenance, is_known=is_known)
    is_large = is_known or not is_pipe
    assert path.read_bytes()[:4] == (b"RF64" if is_large else b"RIFF")
    np.testing.assert_array_equal(READERS[reader](path), codes_of(noise))
    with open_audio(path) as audio:
        assert audio.provenance == provenance


def chunks_of(content: bytes) -> dict[bytes, tuple[int, int]]:
    """Offset and size of each chunk, by the sizes that stand in the file."""
    found, position = {}, 12
    while position < len(content):
        size = struct.unpack("<I", content[position + 4 : position + 8])[0]
        found[content[position : position + 4]] = (position + 8, size)
        position += 8 + size + size % 2
    return found


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("with_provenance", [False, True])
def test_the_sizes_in_a_file_are_true_and_the_data_comes_last(
    tmp_path, noise, provenance, is_known, with_provenance
):
    path = tmp_path / "x.wav"
    write(path, noise, provenance if with_provenance else None, is_known=is_known)
    content = path.read_bytes()
    assert struct.unpack("<I", content[4:8])[0] == len(content) - 8
    chunks = chunks_of(content)
    assert list(chunks)[-1] == b"data"
    assert chunks[b"data"] == (len(content) - 2 * len(noise), 2 * len(noise))
    assert (b"LIST" in chunks) == with_provenance


def test_a_pipe_of_unknown_length_says_so(noise, provenance):
    content = piped(noise, provenance, is_known=False)
    assert content[4:8] == b"\xff" * 4
    assert list(chunks_of(content))[-1] == b"data"
    assert chunks_of(content)[b"data"][1] == 0xFFFFFFFF


def test_files_and_pipes_of_known_length_are_the_same_bytes(tmp_path, noise, provenance):
    write(tmp_path / "x.wav", noise, provenance)
    assert piped(noise, provenance) == (tmp_path / "x.wav").read_bytes()


def test_samples_are_rounded_and_clipped_not_wrapped(tmp_path):
    samples = np.float32([0, 0.6 / 32768, -0.6 / 32768, 1, -1, 1.5, -1.5, 32767 / 32768])
    write(tmp_path / "x.wav", samples)
    expected = [0, 1, -1, 32767, -32768, 32767, -32768, 32767]
    np.testing.assert_array_equal(read_by_libsndfile(tmp_path / "x.wav"), expected)


def test_all_16_bit_values_survive_reading_and_writing(tmp_path):
    codes = np.arange(-32768, 32768).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", codes, RATE)
    with open_audio(tmp_path / "x.wav") as audio:
        write(tmp_path / "y.wav", join(audio.blocks()))
    np.testing.assert_array_equal(read_by_libsndfile(tmp_path / "y.wav"), codes)


def test_a_wrong_length_is_corrected_in_a_file(tmp_path, noise):
    with open_writer(
        tmp_path / "x.wav", sample_rate=RATE, n_samples=len(noise) + 5, provenance=None
    ) as writer:
        writer.write(noise)
    np.testing.assert_array_equal(read_by_libsndfile(tmp_path / "x.wav"), codes_of(noise))


def test_a_pipe_takes_no_more_than_it_was_promised(pipe):
    _, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as stream:
        writer = open_writer(stream, sample_rate=RATE, n_samples=5, provenance=None)
        writer.write(np.zeros(5, np.float32))
        with pytest.raises(AssertionError, match=r"6 samples .* promised 5"):
            writer.write(np.zeros(1, np.float32))


@pytest.mark.parametrize("shell", [">", ">>"])
def test_a_header_is_corrected_where_our_part_of_a_file_begins(tmp_path, noise, shell):
    path = tmp_path / "x"
    path.write_bytes(b"before")
    with path.open("r+b" if shell == ">" else "ab") as stream:
        stream.seek(0, os.SEEK_END)
        write(stream, noise, is_known=False)
    content = path.read_bytes()
    assert content[:10] == b"beforeRIFF"
    size = struct.unpack("<I", content[10:14])[0]
    assert size == (len(content) - 14 if shell == ">" else 0xFFFFFFFF)
    assert content[-2 * len(noise) :] == codes_of(noise).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_not_written(tmp_path, value):
    with pytest.raises(AudioError, match="NaN or infinite"):
        write(tmp_path / "x.wav", np.float32([0, value]))


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("missing/x.wav", {}, "No such file"),
        ("", {"format": "flac"}, "Is a directory"),
    ],
)
def test_a_destination_that_cannot_be_written_is_an_audio_error(tmp_path, name, options, match):
    with pytest.raises(AudioError, match=match):
        open_writer(tmp_path / name, sample_rate=44_100, n_samples=None, provenance=None, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3", "aiff", "opus"])
def test_a_full_disk_is_named_as_such_and_no_traceback(name, noise, capfd):
    with pytest.raises(AudioError, match="No space left"):
        write(Path("/dev/full"), np.tile(noise, 20), is_known=False, format=name)
    assert "Traceback" not in capfd.readouterr().err


def test_a_closed_pipe_stays_a_closed_pipe():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as stream, pytest.raises(BrokenPipeError):
        open_writer(stream, sample_rate=RATE, n_samples=None, provenance=None)


@pytest.mark.parametrize("name", ["wav", "flac"])
def test_after_an_error_a_file_is_closed_and_not_completed(tmp_path, noise, name):
    path = tmp_path / f"x.{name}"
    writer = open_writer(path, sample_rate=RATE, n_samples=None, provenance=None, format=name)
    writer.write(noise)
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert name == "flac" or path.read_bytes()[4:8] == b"\xff" * 4
    with pytest.raises((ValueError, RuntimeError)):
        writer.write(noise)


class Sparse(io.RawIOBase):
    """A file that keeps its first kilobytes only, and takes any number of bytes."""

    def __init__(self) -> None:
        self.start, self.position, self.size = bytearray(), 0, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset, whence=0):
        self.position = offset
        return offset

    def write(self, data) -> int:
        if self.position < 4096:
            self.start[self.position : self.position + len(data)] = bytes(data[:4096])
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)


def test_a_wav_of_more_than_4_gb_states_its_true_sizes():
    """As it would have from the start if they had been known."""
    block = np.zeros(1 << 26, np.int16)
    n_samples = 33 * len(block)  # 4.4 GB
    stream, known = Sparse(), Sparse()
    writer, _ = (
        wav_writer.WavWriter(
            own, sample_rate=44_100, n_channels=1, n_samples=announced,
            tags=tags.NO_TAGS, software="umt", can_seek=True,
        )
        for own, announced in ((stream, None), (known, n_samples))
    )  # fmt: skip
    for _ in range(33):
        writer.write(block)
    writer.finish()
    riff, data, samples = struct.unpack("<QQQ", stream.start[20:44])
    assert (bytes(stream.start[:4]), bytes(stream.start[12:16])) == (b"RF64", b"ds64")
    assert (riff, data, samples) == (stream.size - 8, 2 * n_samples, n_samples)
    assert known.start == stream.start[: known.size]


def test_a_device_takes_a_result(noise):
    write(Path("/dev/null"), noise, is_known=False)
