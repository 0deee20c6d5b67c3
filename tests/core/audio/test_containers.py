"""Files that ffmpeg makes or opens: other containers, and mp3 without its length."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio import ffmpeg
from core.audio.reader import MAX_MISSING_SECONDS, open_audio
from core.errors import AudioError

from .conftest import RATE, join, read

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
@pytest.mark.parametrize("extension", ["m4a", "mkv", "wma"])
def test_title_artist_and_album_of_other_containers_are_read(tmp_path, wav, extension):
    texts = {"title": "Für Elise", "artist": "Ann", "album": "All"}
    options = [word for name, text in texts.items() for word in ("-metadata", f"{name}={text}")]
    with open_audio(convert(wav, tmp_path / f"x.{extension}", *options)) as audio:
        assert {name: getattr(audio.tags, name) for name in texts} == texts


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


@pytest.fixture
def secret(tmp_path, generator) -> Path:
    """A recording that no playlist may pull in."""
    soundfile.write(tmp_path / "secret.wav", generator.uniform(-0.5, 0.5, RATE), RATE)
    return tmp_path / "secret.wav"


def playlists(secret: Path) -> dict[str, str]:
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"
    xspf = (
        f"<playlist><trackList><track><location>{secret}</location></track></trackList></playlist>"
    )
    return {
        "hls": hls,
        "endless hls": hls.replace("#EXT-X-ENDLIST\n", ""),
        "hls after a mark": "\ufeff" + hls,
        "ffconcat": f"ffconcat version 1.0\nfile {secret.name}\n",
        "pls": f"[playlist]\nFile1={secret}\n",
        "xspf": xspf,
        "dash": f"<?xml version='1.0'?><MPD><Period><BaseURL>{secret}</BaseURL></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    }


@needs_ffmpeg
@pytest.mark.parametrize("kind", list(playlists(Path("x"))))
@pytest.mark.parametrize("extension", ["wav", "m3u8", "m4a"])
def test_a_playlist_opens_no_other_file(tmp_path, pipe, secret, kind, extension):
    content = playlists(secret)[kind].encode()
    path = tmp_path / f"song.{extension}"
    path.write_bytes(content)
    for source in (path, pipe(content)):
        with pytest.raises(AudioError, match=r"is a playlist|cannot be read as audio"):
            read(source)


@needs_ffmpeg
def test_what_ffmpeg_found_wrong_is_in_the_message(tmp_path, wav):
    path = convert(wav, tmp_path / "x.m4a")
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(AudioError, match=r"x\.m4a: .*moov atom not found"):
        open_audio(path)
    film = tmp_path / "mute.mkv"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=red:s=32x32:d=0.2", str(film)]
    subprocess.run(command, check=True)
    with pytest.raises(AudioError, match=r"mute\.mkv: .*no sound in it"):
        open_audio(film)


@needs_ffmpeg
def test_a_film_that_breaks_off_says_so(tmp_path, wav, caplog):
    path = convert(wav, tmp_path / "x.m4a", "-movflags", "+faststart")
    whole = read(path)
    assert caplog.text == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len(read(path)) < len(whole)
    assert "x.m4a: ffmpeg left out what is damaged" in caplog.text


def test_an_ffmpeg_that_says_nothing_is_not_awaited_for_ever(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(ffmpeg, "_STALL_SECONDS", 0.1)
    (tmp_path / "x.m4a").write_bytes(b"\0\0\0\x20ftypM4A " * 9)
    with pytest.raises(AudioError, match="nothing arrived"):
        open_audio(tmp_path / "x.m4a")
