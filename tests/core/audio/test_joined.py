"""Recordings joined end to end with `cat`, and mp3 files that contradict their headers."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from core.audio import mpeg
from core.audio.reader import open_audio
from core.errors import AudioError

from .conftest import RATE, join, read

DECODER_DELAY = 529  # samples, which every MP3 decoder adds in front and libmpg123 takes away


def encoded(path, samples, rate=RATE, **options) -> bytes:
    soundfile.write(path, samples, rate, **options)
    return path.read_bytes()


@pytest.mark.parametrize(
    "extension", ["flac", "ogg", "opus", "mp3", "wav", "aiff", "caf", "au", "w64", "voc"]
)
def test_joined_files_give_the_samples_of_their_parts(tmp_path, noise, pipe, extension):
    options = {"format": "OGG", "subtype": "OPUS"} if extension == "opus" else {}
    paths = [tmp_path / f"{name}.{extension}" for name in "abc"]
    content = [encoded(paths[i], noise[i * 5_000 :], **options) for i in range(3)]
    (tmp_path / f"x.{extension}").write_bytes(b"".join(content))
    expected = np.concatenate([read(path) for path in paths])
    with open_audio(tmp_path / f"x.{extension}") as audio:
        assert audio.n_samples == len(expected)
        np.testing.assert_array_equal(join(audio.blocks()), expected)
        np.testing.assert_array_equal(join(audio.blocks()), expected)
    part = read(tmp_path / f"x.{extension}", start_seconds=3.0)
    np.testing.assert_array_equal(part, expected[len(expected) - len(part) :])
    if extension != "wav":  # of which a pipe gives the first
        np.testing.assert_array_equal(read(pipe(b"".join(content))), expected)


@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3"])
@pytest.mark.parametrize("change", ["rate", "channels"])
def test_parts_that_do_not_fit_together_are_an_error(tmp_path, noise, extension, change):
    other = noise if change == "rate" else np.stack([noise, noise], 1)
    content = encoded(tmp_path / f"a.{extension}", noise)
    content += encoded(tmp_path / f"b.{extension}", other, 32_000 if change == "rate" else RATE)
    (tmp_path / f"x.{extension}").write_bytes(content)
    with pytest.raises(AudioError, match=rf"x\.{extension}: joins recordings of 16000 Hz"):
        open_audio(tmp_path / f"x.{extension}")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is missing")
def test_joined_m4a_files_are_read_whole(tmp_path, wav):
    command = ["ffmpeg", "-v", "error", "-i", str(wav), str(tmp_path / "a.m4a")]
    subprocess.run(command, check=True)
    content = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "x.m4a").write_bytes(content + content)
    np.testing.assert_array_equal(read(tmp_path / "x.m4a"), np.tile(read(tmp_path / "a.m4a"), 2))


@pytest.fixture
def mp3(tmp_path, noise) -> bytes:
    return encoded(tmp_path / "plain.mp3", np.tile(noise, 3))


def frames_of(content: bytes) -> list[bytes]:
    """Cut into frames, by their own lengths."""
    frames, position = [], 0
    while header := mpeg.parse_frame_header(content[position : position + 4]):
        frames.append(content[position : position + header.n_bytes])
        position += header.n_bytes
    return frames


def test_an_mp3_whose_header_counts_too_few_frames_is_read_whole(tmp_path, mp3):
    place = mp3.index(b"Xing") if b"Xing" in mp3 else mp3.index(b"Info")
    stated = struct.unpack(">I", mp3[place + 8 : place + 12])[0]
    changed = mp3[: place + 8] + struct.pack(">I", stated // 3) + mp3[place + 12 :]
    (tmp_path / "x.mp3").write_bytes(changed)
    n_frames = len(frames_of(mp3)) - 1
    with open_audio(tmp_path / "x.mp3") as audio:
        assert audio.n_samples == len(join(audio.blocks())) == 576 * n_frames - DECODER_DELAY


def test_an_mp3_without_its_length_header_is_counted(tmp_path, mp3):
    frames = frames_of(mp3)[1:]
    (tmp_path / "x.mp3").write_bytes(b"".join(frames) * 2)
    with open_audio(tmp_path / "x.mp3") as audio:
        assert audio.n_samples == len(join(audio.blocks())) == 576 * 2 * len(frames) - DECODER_DELAY


@pytest.mark.parametrize(
    "junk", [b"\xff\xfb" * 500, bytes(100_000), b"ID3\4\0\0\0\0\x10\0" + bytes(2048)]
)
def test_what_stands_between_frames_is_passed_over(tmp_path, mp3, junk):
    frames = frames_of(mp3)
    middle = len(frames) // 2
    content = b"".join([*frames[:middle], junk, *frames[middle:]])
    (tmp_path / "x.mp3").write_bytes(content)
    assert len(read(tmp_path / "x.mp3")) == len(read(tmp_path / "plain.mp3"))


@pytest.mark.parametrize("tail", [b"TAG" + bytes(125), b"APETAGEX" + bytes(range(256)) * 20])
def test_decoders_write_nothing_on_stderr(tmp_path, mp3, tail, capfd):
    damaged = bytearray(mp3)
    for place in range(3_000, len(mp3), 997):
        damaged[place] ^= 0x55
    for name, content in (("tail", mp3 + tail), ("damaged", bytes(damaged) + tail)):
        (tmp_path / f"{name}.mp3").write_bytes(content)
        try:
            read(tmp_path / f"{name}.mp3")
        except AudioError:
            assert name == "damaged"
    assert capfd.readouterr() == ("", "")


def test_stderr_is_back_after_decoding(tmp_path, mp3):
    (tmp_path / "x.mp3").write_bytes(mp3)
    program = """
import ctypes, sys
from core.audio.reader import open_audio
with open_audio(sys.argv[1]) as audio:
    for _ in audio.blocks(): pass
ctypes.CDLL(None).perror(b"still here")
"""
    command = [sys.executable, "-c", program, str(tmp_path / "x.mp3")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "still here" in done.stderr


@pytest.mark.parametrize("encoding", range(4))
@pytest.mark.parametrize("version", [3, 4])
def test_id3_texts_become_tags(tmp_path, mp3, encoding, version):
    codec = ["latin-1", "utf-16", "utf-16-be", "utf-8"][encoding]

    def frame(name: bytes, text: bytes) -> bytes:
        size = len(text)
        size_bytes = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
        return name + (size_bytes if version == 4 else struct.pack(">I", size)) + b"\0\0" + text

    start = bytes([encoding])
    body = frame(b"TIT2", start + "Lied für Ü".encode(codec))
    body += frame(b"APIC", bytes(300)) + frame(b"TPE1", start + "Me".encode(codec))
    comment = "\0".encode(codec) + "note".encode(codec)
    body += frame(b"COMM", start + b"eng" + comment)
    size = len(body)
    head = b"ID3" + bytes([version, 0, 0, 0, 0, size >> 7 & 127, size & 127])
    (tmp_path / "x.mp3").write_bytes(head + body + mp3)
    with open_audio(tmp_path / "x.mp3") as audio:
        tags = audio.tags
    assert (tags.title, tags.artist, tags.comment) == ("Lied für Ü", "Me", "note")


def test_a_flac_that_holds_more_than_its_header_counts_says_so(tmp_path, generator, caplog):
    samples = generator.uniform(-0.5, 0.5, 40 * RATE)
    content = bytearray(encoded(tmp_path / "x.flac", samples))
    content[22:26] = struct.pack(">I", RATE)  # the low 32 of 36 bits, in the first block
    (tmp_path / "x.flac").write_bytes(content)
    assert len(read(tmp_path / "x.flac")) == RATE
    assert "are not part of the sound that its header counts" in caplog.text


class Counted(io.BytesIO):
    """Bytes in memory, and how many of them were read."""

    n_read = 0

    def read(self, size=-1):
        data = super().read(size)
        self.n_read += len(data)
        return data


@pytest.mark.parametrize(
    "junk", [b"\xff", b"\xff\xfb\x90", b"ID3", b"APETAGEX", b"\xff\xfb\x90\0ID3"]
)
def test_junk_that_looks_like_frames_is_not_read_over_and_over(mp3, junk):
    content = mp3 + junk * (2_000_000 // len(junk))
    stream = Counted(content)
    assert mpeg.scan(stream)[0].n_frames == len(frames_of(mp3)) - 1
    assert stream.n_read < 500 * len(content)
