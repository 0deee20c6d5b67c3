"""Audio from a pipe: WAV as it arrives, other formats by way of a temporary file."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.reader import open_audio
from core.audio.wav import WavReader
from core.errors import AudioError

from .conftest import join

RATE = 16_000
CODES = (np.arange(-500, 500) * 60).astype("<i2")
SAMPLES = CODES.astype(np.float32) / 32768


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    size = len(body) if size is None else size
    return name + struct.pack("<I", size) + body + b"\0" * (len(body) % 2)


FMT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))


def wav(*chunks: bytes, start: bytes = b"RIFF", size: int = 0xFFFFFFFF) -> bytes:
    return start + struct.pack("<I", size) + b"WAVE" + b"".join(chunks)


def read(stream, **part) -> np.ndarray:
    with open_audio(stream, **part) as audio:
        assert audio.is_live
        return join(audio.blocks())


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("n_channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_a_piped_wav_gives_the_same_samples_as_the_file(
    tmp_path, generator, pipe, *, kind, n_channels, subtype
):
    samples = generator.uniform(-1, 1, (20_011, n_channels))
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype=subtype, format=kind)
    with open_audio(tmp_path / "x.wav") as audio:
        expected = join(audio.blocks())
    with open_audio(pipe((tmp_path / "x.wav").read_bytes())) as audio:
        assert audio.is_live
        assert audio.path is None
        assert (audio.sample_rate, audio.n_channels, audio.n_samples) == (RATE, n_channels, 20_011)
        np.testing.assert_array_equal(join(audio.blocks()), expected)


@pytest.mark.parametrize(
    "size", [0, 0xFFFFFFFF, 0x7FFFF000 - 36, 0x7FFFFFFF], ids=["0", "-1", "sox", "31 bits"]
)
def test_a_size_that_is_none_means_the_end_of_the_stream(pipe, size):
    with open_audio(pipe(wav(FMT, chunk(b"data", CODES.tobytes(), size)))) as audio:
        assert audio.n_samples is None
        np.testing.assert_array_equal(join(audio.blocks()), SAMPLES)


def test_truncated_data_is_read_as_far_as_it_goes(pipe):
    cut_off = wav(FMT, chunk(b"data", CODES.tobytes()))[:-101]  # in the middle of a sample
    np.testing.assert_array_equal(read(pipe(cut_off)), SAMPLES[:-51])


@pytest.mark.parametrize("n_samples", [1000, 0xFFFFFFFFFFFFFFFF // 2, 0], ids=["known", "-1", "0"])
def test_rf64_sizes_stand_in_ds64(pipe, n_samples):
    sizes = struct.pack("<QQQI", 0, n_samples * 2, n_samples, 0)
    data = chunk(b"data", CODES.tobytes(), 0xFFFFFFFF)
    stream = pipe(
        wav(chunk(b"ds64", sizes), FMT, data, b"junk" * (n_samples == 1000), start=b"RF64")
    )
    with open_audio(stream) as audio:
        assert audio.n_samples == (1000 if n_samples == 1000 else None)
        np.testing.assert_array_equal(join(audio.blocks()), SAMPLES)


def test_chunks_before_the_data_are_skipped_and_those_after_it_not_played(pipe):
    others = [chunk(b"JUNK", bytes(7)), chunk(b"LIST", b"adtl: odd"), chunk(b"id3 ", bytes(99_999))]
    content = wav(others[0], FMT, *others, chunk(b"data", CODES.tobytes()), others[2])
    np.testing.assert_array_equal(read(pipe(content)), SAMPLES)


def test_the_writer_of_a_finished_wav_is_not_cut_off(pipe):
    trailer = chunk(b"LIST", bytes(200_000))  # more than a pipe holds
    content = wav(FMT, chunk(b"data", CODES.tobytes()), trailer)
    content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    stream = pipe(content)
    assert len(read(stream)) == len(SAMPLES)
    assert stream.read() == b""


def test_an_odd_number_of_8_bit_samples_is_not_padded_into_sound(pipe):
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, RATE, 1, 8))
    samples = read(pipe(wav(fmt, chunk(b"data", bytes([0, 128, 255])), chunk(b"junk", b"?"))))
    np.testing.assert_array_equal(samples, np.float32([-1, 0, 127 / 128]))


def test_provenance_is_read_before_the_data(pipe, provenance):
    text = provenance.to_json().encode() + b"\0"
    info = chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"umt") + chunk(b"ICMT", text))
    with open_audio(pipe(wav(FMT, info, chunk(b"data", CODES.tobytes())))) as audio:
        assert audio.provenance == provenance


def test_blocks_come_before_the_stream_ends(pipe):
    stream = pipe(wav(FMT, chunk(b"data", np.zeros(RATE, "<i2").tobytes(), 0)), is_open=True)
    with open_audio(stream) as audio:
        assert len(next(audio.blocks())) == RATE // 10


def test_slow_writers_do_not_change_the_samples(pipe):
    content = wav(FMT, chunk(b"data", CODES.tobytes()))
    pieces = [content[i : i + 7] for i in range(0, len(content), 7)]
    unbuffered = os.fdopen(os.dup(pipe(*pieces).fileno()), "rb", buffering=0)
    with unbuffered:
        np.testing.assert_array_equal(read(unbuffered), SAMPLES)


def test_a_part_of_a_live_stream_is_cut_out(pipe):
    content = wav(FMT, chunk(b"data", CODES.tobytes()))
    with open_audio(pipe(content), start_seconds=0.01, seconds=0.02) as audio:
        assert audio.n_samples == 320
        np.testing.assert_array_equal(join(audio.blocks()), SAMPLES[160:480])


def test_a_start_past_the_end_of_a_live_stream_names_both_times(pipe):
    content = wav(FMT, chunk(b"data", CODES.tobytes(), 0))
    with pytest.raises(AudioError, match=r"stdin: cannot start at 5 s; it lasts 0\.0625 s"):
        read(pipe(content), start_seconds=5)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "stdin: is empty"),
        (wav(), "ends inside its WAV header"),
        (wav(FMT)[:30], "damaged WAV header"),
        (wav(chunk(b"data", b"1234")), "without a format"),
        (wav(chunk(b"fmt ", b"12345678"), chunk(b"data", b"1234")), "damaged WAV header"),
        (wav(FMT, chunk(b"data", b"", 0)), "contains no samples"),
        (b"only text, but more than twelve bytes", "cannot be read as audio"),
        (b"short", "cannot be read as audio"),
    ],
)
def test_bad_streams_are_errors(pipe, content, match):
    with pytest.raises(AudioError, match=match):
        read(pipe(content))


def test_a_live_stream_is_read_only_once(pipe):
    with open_audio(pipe(wav(FMT, chunk(b"data", CODES.tobytes())))) as audio:
        join(audio.blocks())
        with pytest.raises(AssertionError, match="only once"):
            audio.blocks()


@pytest.mark.parametrize(
    ("extension", "subtype"), [("flac", None), ("ogg", None), ("aiff", None), ("wav", "ULAW")]
)
def test_other_formats_on_a_pipe_are_spooled(
    tmp_path, noise, pipe, monkeypatch, *, extension, subtype
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spool"))
    (tmp_path / "spool").mkdir()
    soundfile.write(tmp_path / f"x.{extension}", noise, RATE, subtype=subtype)
    with open_audio(tmp_path / f"x.{extension}") as audio:
        expected = join(audio.blocks())
    with open_audio(pipe((tmp_path / f"x.{extension}").read_bytes())) as audio:
        assert not audio.is_live
        assert audio.path is None
        assert audio.n_samples == len(noise)
        np.testing.assert_array_equal(join(audio.blocks()), expected)
        assert len(list((tmp_path / "spool").iterdir())) == 1
    assert not list((tmp_path / "spool").iterdir())


def test_no_room_to_spool_is_an_audio_error(tmp_path, pipe, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(AudioError, match="TMPDIR"):
        open_audio(pipe(b"fLaC" * 9))


def test_a_named_pipe_is_a_live_stream(tmp_path, pipe):
    os.mkfifo(tmp_path / "fifo")
    content = wav(FMT, chunk(b"data", CODES.tobytes()))
    pid = os.fork()
    if pid == 0:
        (tmp_path / "fifo").write_bytes(content)
        os._exit(0)
    np.testing.assert_array_equal(read(tmp_path / "fifo"), SAMPLES)
    os.waitpid(pid, 0)


def test_a_live_header_keeps_no_bytes_once_the_format_is_known(pipe):
    content = wav(FMT, chunk(b"JUNK", bytes(500_000)), chunk(b"data", CODES.tobytes()))
    stream = WavReader(pipe(content), label="x")
    assert not stream._taken
    assert stream.n_samples == len(CODES)


def test_dev_stdin_is_an_ordinary_path(pipe, tmp_path):
    stream = pipe(wav(FMT, chunk(b"data", CODES.tobytes())))
    path = Path(f"/dev/fd/{stream.fileno()}")
    np.testing.assert_array_equal(read(path), SAMPLES)


def test_a_refused_pipe_is_closed(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    content = io.BytesIO()
    soundfile.write(content, np.zeros((100, 9)), RATE, format="WAV")
    writer = threading.Thread(target=fifo.write_bytes, args=[content.getvalue()])
    writer.start()
    # The error is kept, and with it all that its frames refer to.
    with pytest.raises(AudioError, match="9 channels") as error:
        open_audio(fifo)
    writer.join()
    is_open = [own.resolve() == fifo for own in Path("/proc/self/fd").iterdir()]
    assert not any(is_open), error
