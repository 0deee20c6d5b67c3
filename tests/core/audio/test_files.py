"""Which files are found in directories, and what a comment says about where a file came from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.formats import FFMPEG_EXTENSIONS, find_audio, readable_formats
from core.audio.provenance import Provenance, file_sha256
from core.audio.reader import open_audio
from core.errors import AudioError


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names_below(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in find_audio([root])]


def test_directories_are_searched_at_any_depth_in_order(tmp_path):
    make(tmp_path, "b.wav", "a/c d.FLAC", "a/b/Ü.mp3", "z.m4a", "notes.txt", "cover.jpg", "noext")
    assert names_below(tmp_path) == ["a/b/Ü.mp3", "a/c d.FLAC", "b.wav", "z.m4a"]


def test_hidden_files_and_directories_are_skipped(tmp_path):
    make(tmp_path, "._b.wav", ".cache/x.wav", "a.wav")
    assert names_below(tmp_path) == ["a.wav"]


def test_a_named_file_is_kept_whatever_it_is(tmp_path):
    make(tmp_path, "notes.txt", ".hidden.wav")
    paths = [tmp_path / "notes.txt", tmp_path / "missing.wav", tmp_path / ".hidden.wav"]
    assert find_audio(paths) == paths


def test_the_order_of_the_arguments_is_kept(tmp_path):
    make(tmp_path, "b/1.wav", "a/2.wav")
    assert [path.name for path in find_audio([tmp_path / "b", tmp_path / "a"])] == [
        "1.wav",
        "2.wav",
    ]


def test_symbolic_links_are_followed_once(tmp_path):
    make(tmp_path, "in/a/1.wav", "out/2.wav")
    (tmp_path / "in/a/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/0").symlink_to(tmp_path / "in/a")  # sorts first, but the real name counts
    (tmp_path / "in/other").symlink_to(tmp_path / "out")
    (tmp_path / "in/gone.wav").symlink_to(tmp_path / "nowhere")
    assert names_below(tmp_path / "in") == ["a/1.wav", "gone.wav", "other/2.wav"]


def test_a_directory_named_like_audio_is_a_directory(tmp_path):
    make(tmp_path, "x.wav/y.wav")
    assert names_below(tmp_path) == ["x.wav/y.wav"]


def test_containers_are_listed_only_where_ffmpeg_is(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert readable_formats()[:4] == ["wav", "flac", "ogg", "mp3"]
    assert not set(FFMPEG_EXTENSIONS) & set(readable_formats())
    (tmp_path / "ffmpeg").touch(mode=0o755)
    assert set(FFMPEG_EXTENSIONS) <= set(readable_formats())


def test_provenance_survives_json(provenance):
    text = provenance.to_json()
    assert text.isascii()
    assert "\n" not in text
    assert Provenance.from_json(text) == provenance


def test_a_path_that_is_not_utf8_survives(provenance):
    odd = dataclasses.replace(provenance, source="a\udcff.wav")
    assert Provenance.from_json(odd.to_json()) == odd


def test_fields_of_later_versions_are_ignored(provenance):
    fields = {**json.loads(provenance.to_json()), "umt_provenance": 9, "more": [1]}
    assert Provenance.from_json(json.dumps(fields)) == provenance


@pytest.mark.parametrize(
    "text",
    ["", "Recorded in 1975", "{}", "[]", "7", "null", '{"tool": "x"}', '{"umt": ', "[" * 9999],
)
def test_other_comments_are_not_provenance(text):
    assert Provenance.from_json(text) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tool", None), ("seed", "7"), ("seed", True), ("options", [1]), ("options", {"a": [1]}),
        ("start_seconds", None), ("seconds", "3"), ("source", 3), ("source_sha256", 3),
        ("start_seconds", -1), ("start_seconds", 1e300), ("start_seconds", 10**40),
        ("start_seconds", math.inf), ("seconds", 0), ("seconds", math.nan), ("seed", 10**30),
        ("domain", "x" * 99_999), ("options", {"a": [[[1]]]}), ("source_sha256", "../etc"),
    ],
)  # fmt: skip
def test_damaged_provenance_is_an_error_that_names_the_field(provenance, field, value):
    fields = {**json.loads(provenance.to_json()), field: value}
    with pytest.raises(AudioError, match=rf"{field}|finite number"):
        Provenance.from_json(json.dumps(fields))
    del fields[field]
    if field in ("seconds", "source_sha256"):
        assert getattr(Provenance.from_json(json.dumps(fields)), field) is None
    else:
        with pytest.raises(AudioError, match=f"{field} is missing"):
            Provenance.from_json(json.dumps(fields))


def test_a_damaged_note_is_logged_and_does_not_keep_the_file_from_being_read(
    tmp_path, provenance, caplog
):
    text = provenance.to_json().replace('"start_seconds":1.5', '"start_seconds":-1e300')
    with soundfile.SoundFile(tmp_path / "x.flac", "w", 16_000, 1) as file:
        file.comment = text
        file.write(np.zeros(99))
    with open_audio(tmp_path / "x.flac") as audio:
        assert audio.provenance is None
    assert "start_seconds" in caplog.text


def test_a_source_that_is_no_regular_file_is_not_waited_for(tmp_path, provenance):
    os.mkfifo(tmp_path / "fifo")
    named = dataclasses.replace(provenance, source=str(tmp_path / "fifo"))
    assert named.find_source() is None
    with pytest.raises(OSError, match="regular"):
        file_sha256("/dev/zero")


def test_a_source_is_found_as_long_as_it_is_unchanged(tmp_path, provenance):
    path = tmp_path / "x"
    path.write_bytes(b"umt")
    named = dataclasses.replace(provenance, source=str(path), source_sha256=file_sha256(path))
    assert named.find_source() == path
    path.write_bytes(b"other")
    assert named.find_source() is None


def test_a_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"umt" * 99_999)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"umt" * 99_999).hexdigest()


def test_audio_and_latents_do_without_torch():
    code = """
import sys, core.audio.levels, core.audio.writer, core.latents
print({"torch", "typer", "rich", "tqdm"} & set(sys.modules))
"""
    root = Path(__file__).parents[3]
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=root
    )
    assert (result.stdout, result.stderr) == ("set()\n", "")
