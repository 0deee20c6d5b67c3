"""What the commands read: batches with a bad path, many files, and no place to stand."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from .conftest import WIDTH, umt_command, write_song

N_FILES = 24
UNREADABLE = {"too long": "n" * 300 + ".wav", "not UTF-8": "gone\udcff.wav", "null": "a\0b.wav"}


@pytest.mark.parametrize("name", UNREADABLE.values(), ids=UNREADABLE)
def test_a_path_that_cannot_be_looked_at_fails_alone(umt, song, name):
    ran = umt("encode", name, song, "-o", "out/")
    assert ran.code == 1
    assert Path("out/song.npy").is_file()
    assert ran.errors[-1].startswith("umt: error: 1 failed: ")


def test_a_name_that_is_not_utf8_is_read_and_written(umt, song):
    shutil.copy(song, "b\udcff.wav")
    ran = umt("translate", "b\udcff.wav", "--to", "piano", "--json")
    assert ran.code == 0
    assert json.loads(ran.stdout)["results"][0]["output"] == "b\udcff.piano.wav"
    assert Path("b\udcff.piano.wav").is_file()
    assert "wrote b\\udcff.piano.wav" in ran.stderr


@pytest.mark.parametrize("command", [("encode",), ("translate", "--to", "piano", "--to", "organ")])
def test_files_are_not_held_open(umt, tmp_path, command):
    names = [write_song(tmp_path / f"{n}.wav", 0.05) for n in range(N_FILES)]
    assert umt(command[0], names[0], *command[1:], "-o", "first/").code == 0  # loads libraries
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + N_FILES // 2, limits[1]))
    try:
        ran = umt(command[0], *names, *command[1:], "-o", "out/")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (ran.code, ran.errors) == (0, [])


def test_latents_files_are_not_held_open(umt, tmp_path):
    for n in range(N_FILES):
        np.save(f"{n}.npy", np.zeros((3, WIDTH), np.float32))
    names = [f"{n}.npy" for n in range(N_FILES)]
    assert umt("decode", names[0], "--to", "piano", "-o", "first/").code == 0
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + N_FILES // 2, limits[1]))
    try:
        ran = umt("decode", *names, "--to", "piano", "-o", "out/")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (ran.code, ran.errors) == (0, [])


def test_without_a_working_directory_there_is_one_line(tmp_path):
    command = " ".join(umt_command("info"))
    (tmp_path / "gone").mkdir()
    ran = subprocess.run(
        ["bash", "-c", f"cd gone && rmdir ../gone && {command}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 1
    assert "umt: error: the working directory was removed; change to one" in ran.stderr


def test_an_audio_file_is_opened_once(umt, song, monkeypatch):
    """A header is parsed once, and ffmpeg started once for it, however many targets there are."""
    from core.audio import reader

    opened = []
    open_audio = reader.open_audio
    monkeypatch.setattr(
        reader, "open_audio", lambda *own, **how: opened.append(own) or open_audio(*own, **how)
    )
    assert umt("translate", song, "--to", "piano", "--to", "organ").code == 0
    assert len(opened) == 1
