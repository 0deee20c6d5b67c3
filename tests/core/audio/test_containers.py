"""Files that ffmpeg makes or opens: other containers, and mp3 without its length."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from core.audio.reader import MAX_MISSING_SECONDS, open_audio
from core.errors import AudioError

from .conftest import RATE, join, read

if TYPE_CHECKING:
    from pathlib import Path

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is missing")


def convert(source: Path, target: Path, *options: str) -> Path:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True)
    return target


@needs_ffmpeg
@pytest.mark.parametrize(("lost", "is_error"), [(0.1, False), (0.7, True)])
def test_an_mp3_may_lack_a_little_of_what_it_announces(tmp_path, wav, noise, lost, is_error):
    path = convert(wav, tmp_path / "x.mp3", "-b:a", "64k")
    assert lost != MAX_MISSING_SECONDS
    os.truncate(path, path.stat().st_size - int(lost * 8_000))
    if is_error:
        with pytest.raises(AudioError, match=r"breaks off at .* of the 2\.3 s"):
            read(path)
    else:
        assert len(read(path)) == len(noise)


@needs_ffmpeg
def test_an_mp3_without_its_length_is_read_to_the_end(tmp_path, generator):
    loud_then_silent = np.zeros(RATE * 8, np.float32)
    loud_then_silent[:RATE] = generator.uniform(-0.5, 0.5, RATE)
    soundfile.write(tmp_path / "x.wav", loud_then_silent, RATE)
    options = ["-q:a", "2", "-write_xing", "0", "-map_metadata", "-1"]
    path = convert(tmp_path / "x.wav", tmp_path / "x.mp3", *options)
    assert soundfile.info(path).frames < 4 * RATE  # what libsndfile makes of it
    with open_audio(path) as audio:
        assert audio.n_samples is not None
        assert len(join(audio.blocks())) == audio.n_samples >= len(loud_then_silent)


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["flac", "libmp3lame"])
def test_files_that_were_written_to_a_pipe_are_read_whole(tmp_path, wav, noise, codec):
    kind = {"flac": "flac", "libmp3lame": "mp3"}[codec]
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(wav), "-f", kind, "-"]
    (tmp_path / f"x.{kind}").write_bytes(subprocess.run(command, check=True, stdout=-1).stdout)
    assert len(read(tmp_path / f"x.{kind}")) - len(noise) in range(4_000)  # mp3: whole frames


@needs_ffmpeg
@pytest.mark.parametrize("extension", ["m4a", "mkv", "webm"])
def test_other_containers_are_read_through_ffmpeg(tmp_path, wav, noise, extension):
    path = convert(wav, tmp_path / f"-x %d.{extension}", "-ac", "2")
    with open_audio(path) as audio:
        assert (audio.n_channels, audio.n_samples, audio.is_live) == (2, None, False)
        n_samples = len(join(audio.blocks()))
    assert abs(n_samples / audio.sample_rate - len(noise) / RATE) < 0.1


@needs_ffmpeg
def test_a_part_a_pipe_and_an_open_file_go_through_ffmpeg_too(tmp_path, wav, pipe):
    path = convert(wav, tmp_path / "x.m4a")
    whole = read(path)
    part = read(path, start_seconds=0.5, seconds=1)
    np.testing.assert_array_equal(part, whole[RATE // 2 : RATE // 2 + RATE])
    np.testing.assert_array_equal(read(pipe(path.read_bytes())), whole)
    with path.open("rb") as stream:
        np.testing.assert_array_equal(read(stream), whole)
    with pytest.raises(AudioError, match=r"cannot start at 60 s; it lasts 2\."):
        read(path, start_seconds=60)


@needs_ffmpeg
def test_ffmpeg_is_stopped_when_reading_stops(tmp_path, wav, monkeypatch):
    path = convert(wav, tmp_path / "x.m4a")
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    with open_audio(path) as audio:
        blocks = audio.blocks()
        next(blocks)
        blocks.close()
    assert started
    assert all(process.returncode is not None for process in started)  # ended and waited for


@pytest.mark.parametrize(
    ("name", "hint"), [("x.m4a", "install ffmpeg, through"), ("x.wav", "readable: wav.*ffmpeg")]
)
def test_without_ffmpeg_the_error_says_to_install_it(tmp_path, monkeypatch, name, hint):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A " * 9)
    with pytest.raises(AudioError, match=hint):
        open_audio(tmp_path / name)
