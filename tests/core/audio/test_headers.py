"""WAV headers that contradict their file: read whole, or said in a line; alike from a pipe."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
import soundfile

from core.audio import sources
from core.audio.reader import open_audio
from core.errors import AudioError

from .conftest import join, read

RATE = 16_000
CODES = (np.arange(-500, 500) * 60).astype("<i2")
SAMPLES = CODES.astype(np.float32) / 32768


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body


def fmt(n_channels=1, bits=16, block=None, byte_rate=None, tag=1) -> bytes:
    true_block = n_channels * bits // 8
    block = true_block if block is None else block
    byte_rate = RATE * true_block if byte_rate is None else byte_rate
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, n_channels, RATE, byte_rate, block, bits))


def wav(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def read_both(tmp_path, pipe, content: bytes) -> np.ndarray:
    """Read from a file and from a pipe; the samples have to be the same."""
    (tmp_path / "x.wav").write_bytes(content)
    samples = read(tmp_path / "x.wav")
    np.testing.assert_array_equal(read(pipe(content)), samples)
    return samples


@pytest.mark.parametrize("riff_size", [36, 0, 0xFFFFFFFF])
@pytest.mark.parametrize("data_size", [0, 0xFFFFFFFF, 0x7FFFF000 - 36])
def test_a_wav_whose_recorder_died_is_read_to_the_end(tmp_path, pipe, riff_size, data_size):
    content = wav(fmt(), chunk(b"data", CODES.tobytes(), data_size), size=riff_size)
    np.testing.assert_array_equal(read_both(tmp_path, pipe, content), SAMPLES)


def test_an_unfinished_wav_is_named(tmp_path, caplog):
    (tmp_path / "x.wav").write_bytes(wav(fmt(), chunk(b"data", CODES.tobytes(), 0), size=36))
    read(tmp_path / "x.wav")
    assert caplog.text.count("x.wav: its header says that it holds no sound") == 1


def test_a_finished_wav_without_sound_stays_empty(tmp_path):
    info = chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"a\0"))
    (tmp_path / "x.wav").write_bytes(wav(fmt(), chunk(b"data", b""), info))
    with pytest.raises(AudioError, match="contains no samples"):
        open_audio(tmp_path / "x.wav")


def test_what_is_missing_of_a_cut_wav_is_said(tmp_path, pipe, caplog):
    long = np.tile(CODES, 32)
    content = wav(fmt(), chunk(b"data", long.tobytes()))[: -2 * RATE]
    assert len(read_both(tmp_path, pipe, content)) == len(long) - RATE
    for label in ("x.wav", "stdin"):
        assert f"{label}: is cut off: the last 1.00 s that its header counts" in caplog.text


def test_sound_beyond_what_the_header_counts_is_said(tmp_path, caplog):
    """A recorder that corrected its header last a while ago."""
    counted = CODES.tobytes()
    content = wav(fmt(), chunk(b"data", counted + np.tile(CODES, 16).tobytes(), len(counted)))
    (tmp_path / "x.wav").write_bytes(content)
    assert len(read(tmp_path / "x.wav")) == len(CODES)
    assert "x.wav: 32000 bytes after the sound that its header counts are not read (1.00" in (
        caplog.text
    )


def test_padding_and_chunks_after_the_data_need_no_remark(tmp_path, caplog):
    others = [chunk(b"LIST", b"adtl"), chunk(b"cue ", b"")]
    content = wav(fmt(), chunk(b"data", CODES.tobytes()), *others)
    (tmp_path / "x.wav").write_bytes(content + bytes(9_999))
    np.testing.assert_array_equal(read(tmp_path / "x.wav"), SAMPLES)
    assert caplog.text == ""


@pytest.mark.parametrize(("n_channels", "block"), [(1, 1), (2, 2), (2, 1), (1, 0)])
def test_a_block_too_small_for_its_samples_is_not_believed(tmp_path, pipe, n_channels, block):
    codes = np.repeat(CODES[:, None], n_channels, 1)
    content = wav(fmt(n_channels, block=block), chunk(b"data", codes.tobytes()))
    np.testing.assert_array_equal(read_both(tmp_path, pipe, content), SAMPLES)


def test_a_block_too_large_is_not_believed_if_the_byte_rate_agrees_with_the_bits(tmp_path, pipe):
    content = wav(fmt(block=4), chunk(b"data", CODES.tobytes()))
    np.testing.assert_array_equal(read_both(tmp_path, pipe, content), SAMPLES)


@pytest.mark.parametrize(
    "format_chunk",
    [
        fmt(block=4, byte_rate=4 * RATE),  # mono or stereo?
        fmt(bits=24, block=4, byte_rate=4 * RATE),  # float, or integers in either half
        fmt(n_channels=0, block=2),
        fmt(bits=0, block=2),
        fmt().replace(struct.pack("<I", RATE), bytes(4)),
        chunk(b"fmt ", b"\1\0"),
        chunk(b"fmt ", b"\1\0", 0xFFFFFFF0),
    ],
)
def test_formats_that_could_be_noise_are_refused(tmp_path, pipe, format_chunk):
    content = wav(format_chunk, chunk(b"data", CODES.tobytes()))
    (tmp_path / "x.wav").write_bytes(content)
    for source in (tmp_path / "x.wav", pipe(content)):
        with pytest.raises(AudioError, match=r"WAV header"):
            read(source)


def test_wavs_joined_end_to_end_are_read_whole(tmp_path):
    parts = [wav(fmt(), chunk(b"data", CODES.tobytes())), wav(fmt(), chunk(b"data", b"\1\0" * 7))]
    (tmp_path / "x.wav").write_bytes(b"".join(parts))
    with open_audio(tmp_path / "x.wav") as audio:
        assert audio.n_samples == len(CODES) + 7
        samples = join(audio.blocks())
    np.testing.assert_array_equal(samples, [*SAMPLES, *[np.float32(1 / 32768)] * 7])
    np.testing.assert_array_equal(read(tmp_path / "x.wav", start_seconds=998 / RATE), samples[998:])


def test_a_second_wav_on_a_pipe_is_named(pipe, caplog):
    """The length of the first stands already in the header of what is made of it."""
    one = wav(fmt(), chunk(b"data", CODES.tobytes()))
    np.testing.assert_array_equal(read(pipe(one, one)), SAMPLES)
    assert "stdin: another recording follows" in caplog.text


def test_joined_wavs_of_several_formats_are_an_error(tmp_path):
    parts = [wav(fmt(), chunk(b"data", CODES.tobytes())), wav(fmt(2), chunk(b"data", b"\1\0" * 8))]
    (tmp_path / "x.wav").write_bytes(b"".join(parts))
    with pytest.raises(AudioError, match=r"x\.wav: joins recordings"):
        open_audio(tmp_path / "x.wav")


class Endless:
    """A pipe that never ends, and counts what is taken from it."""

    def __init__(self, start: bytes, piece: bytes) -> None:
        self.rest, self.piece, self.n_taken = start, piece, 0

    def seekable(self) -> bool:
        return False

    def read(self, n_bytes: int) -> bytes:
        data, self.rest = self.rest[:n_bytes], self.rest[n_bytes:]
        data = data or self.piece[:n_bytes]
        self.n_taken += len(data)
        return data


@pytest.mark.parametrize(
    "start",
    [
        b"RIFF\0\0\0\0WAVE",
        wav(chunk(b"junk", b"", 3_000_000_000)),
        wav(fmt(), chunk(b"junk", b"", 3_000_000_000)),
        wav(fmt(), *[chunk(b"junk", b"", 50_000_000)]),
        wav(chunk(b"fmt ", b"", 0xFFFFFFFF)),
        wav(chunk(b"ds64", b"", 0xFFFFFFFF)),
    ],
    ids=["zeros", "junk before the format", "junk", "junk of zeros", "fmt", "ds64"],
)
def test_a_pipe_is_not_read_without_bound_before_the_sound(start):
    stream = Endless(start, bytes(1 << 16))
    with pytest.raises(AudioError, match="WAV header"):
        open_audio(stream)
    assert stream.n_taken < 1 << 27


def test_a_stream_without_end_that_is_no_audio_is_given_up(monkeypatch):
    monkeypatch.setattr(sources, "_MAX_UNKNOWN_BYTES", 1 << 20)
    stream = Endless(b"", bytes(1 << 16))
    with pytest.raises(AudioError, match="cannot be read as audio; the first 1 MB"):
        open_audio(stream)
    assert stream.n_taken < 1 << 22


def test_a_pipe_that_stays_open_after_its_sound_is_not_awaited(pipe):
    stream = pipe(wav(fmt(), chunk(b"data", CODES.tobytes())), is_open=True)
    np.testing.assert_array_equal(read(stream), SAMPLES)


def test_info_texts_become_tags(tmp_path, pipe):
    texts = {b"INAM": "Größe\0", b"IART": "Me\0\0", b"ICMT": "c\0"}
    texts[b"IPRD"] = "\x1b[31mRed\nLine\0"
    info = chunk(b"LIST", b"INFO" + b"".join(chunk(n, t.encode()) for n, t in texts.items()))
    for content in (
        wav(fmt(), info, chunk(b"data", CODES.tobytes())),
        wav(fmt(), chunk(b"data", CODES.tobytes()), info),
    ):
        (tmp_path / "x.wav").write_bytes(content)
        with open_audio(tmp_path / "x.wav") as audio:
            tags = audio.tags
        assert (tags.title, tags.artist, tags.album) == ("Größe", "Me", "[31mRed Line")
    with open_audio(pipe(wav(fmt(), info, chunk(b"data", CODES.tobytes())))) as audio:
        assert audio.tags == tags


def test_a_broadcast_wav_with_64_bit_sizes_is_read(tmp_path, pipe):
    sizes = struct.pack("<QQQI", 0, CODES.nbytes, len(CODES), 0)
    content = wav(chunk(b"ds64", sizes), fmt(), chunk(b"data", CODES.tobytes(), 0xFFFFFFFF))
    content = b"BW64" + content[4:]
    np.testing.assert_array_equal(read_both(tmp_path, pipe, content), SAMPLES)


def test_odd_encodings_in_wav_are_left_to_libsndfile(tmp_path, noise):
    for subtype in ("ULAW", "ALAW", "IMA_ADPCM"):
        soundfile.write(tmp_path / "x.wav", noise, RATE, subtype=subtype)
        assert np.corrcoef(read(tmp_path / "x.wav")[: len(noise)], noise)[0, 1] > 0.9


@pytest.mark.parametrize("extension", ["aiff", "w64", "au"])
def test_other_containers_that_are_cut_off_say_so(tmp_path, noise, caplog, extension):
    path = tmp_path / f"x.{extension}"
    soundfile.write(path, noise, RATE)
    os.truncate(path, path.stat().st_size - 9_001)
    assert len(read(path)) < len(noise)
    assert f"x.{extension}: is cut off: the last" in caplog.text


@pytest.mark.parametrize("subtype", ["ULAW", "MS_ADPCM"])
def test_other_encodings_that_are_cut_or_hold_more_say_so(tmp_path, noise, caplog, subtype):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise, RATE, subtype=subtype)
    content = path.read_bytes()
    place = content.index(b"data") + 4
    path.write_bytes(content[: len(content) // 2])
    assert len(read(path)) < len(noise)
    assert "x.wav: is cut off" in caplog.text
    caplog.clear()
    counted = struct.unpack("<I", content[place : place + 4])[0] // 4096 * 2048
    path.write_bytes(content[:place] + struct.pack("<I", counted) + content[place + 4 :])
    assert 0 < len(read(path)) < len(noise)
    assert "bytes after the sound that its header counts are not read" in caplog.text


def test_an_ogg_that_lacks_its_end_says_so(tmp_path, generator, caplog):
    path = tmp_path / "x.ogg"
    soundfile.write(path, generator.uniform(-0.3, 0.3, 20 * RATE), RATE)
    read(path)
    assert caplog.text == ""
    os.truncate(path, path.stat().st_size // 2)
    assert 0 < len(read(path)) < 15 * RATE
    assert "x.ogg: ends without its last page" in caplog.text


@pytest.mark.parametrize("extension", ["wav", "flac"])
def test_a_file_that_changes_between_opening_and_reading_is_named(tmp_path, noise, extension):
    path = tmp_path / f"x.{extension}"
    soundfile.write(path, noise, RATE)
    with open_audio(path) as audio:
        path.write_bytes(b"something else, which is not audio")
        with pytest.raises(AudioError, match=rf"x\.{extension}: has changed"):
            join(audio.blocks())
