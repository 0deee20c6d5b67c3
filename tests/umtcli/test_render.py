"""Many inputs and many targets in one run: what is shared, and what fails alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from .conftest import leftovers, write_song

SECONDS = {"one": 0.06, "two": 0.01, "three": 0.12}


@pytest.fixture
def album(tmp_path):
    """Songs of unequal length, the last of them quiet."""
    return [
        write_song(tmp_path / f"{name}.wav", seconds, level=0.002 if name == "three" else 0.3)
        for name, seconds in SECONDS.items()
    ]


@pytest.fixture(params=["spectral", "wavenet"])
def model(request):
    return request.getfixturevalue(f"{request.param}_model")


def test_each_result_is_the_one_it_would_be_alone_and_they_are_listed_in_order(umt, album, model):
    to, common = ("--to", "piano", "--to", "organ"), ("-m", model, "--device", "cpu", "--json")
    ran = umt("translate", *album, *to, "-o", "all/", *common)
    assert ran.code == 0
    told = json.loads(ran.stdout)["results"]
    expected = [(str(song), domain) for song in album for domain in ("piano", "organ")]
    assert [(result["source"], result["domain"]) for result in told] == expected
    for song in album:
        for domain in ("piano", "organ"):
            alone = umt("translate", song, "--to", domain, "-o", "alone.wav", "-f", *common)
            (own,) = json.loads(alone.stdout)["results"]
            shared = f"all/{song.stem}.{domain}.wav"
            (listed,) = (result for result in told if result["output"] == shared)
            assert own | {"output": shared} == listed
            np.testing.assert_array_equal(
                soundfile.read(shared, dtype="int16")[0],
                soundfile.read("alone.wav", dtype="int16")[0],
            )


def breaks_when_read(path: Path) -> None:
    """Write a FLAC file that opens, but whose second half is not sound."""
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.1 * rng.standard_normal(16000), 16000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\x55" * (len(data) // 2))


@pytest.mark.parametrize("to", [("piano",), ("piano", "organ")])
def test_an_input_that_breaks_is_reported_once_and_the_others_are_done(umt, album, model, to):
    breaks_when_read(Path("torn.flac"))
    targets = [option for domain in to for option in ("--to", domain)]
    ran = umt("translate", album[0], "torn.flac", album[1], *targets, "-m", model)
    assert ran.code == 1
    assert len(ran.errors) == 2
    assert "torn.flac" in ran.errors[0]
    assert ran.errors[1] == "umt: error: 1 failed: torn.flac"
    made = {f"{song.stem}.{domain}.wav" for song in album[:2] for domain in to}
    assert {path.name for path in Path().glob("*.*.wav")} == made
    assert leftovers(Path()) == []


@pytest.mark.parametrize("to", [("piano",), ("piano", "organ")])
def test_a_result_that_cannot_be_written_fails_alone(umt, album, wavenet_model, to, monkeypatch):
    """The disk is full for the longest song."""
    from core.audio.writer import AudioWriter

    write = AudioWriter.write

    def limited(self, block):
        if self.n_written + len(block) > 0.1 * 16000:
            raise OSError(28, "No space left on device")
        write(self, block)

    monkeypatch.setattr(AudioWriter, "write", limited)
    targets = [option for domain in to for option in ("--to", domain)]
    songs = album[0], album[2], album[1]
    ran = umt("translate", *songs, *targets, "-m", wavenet_model, "--json")
    told = json.loads(ran.stdout)
    assert (ran.code, len(told["results"])) == (1, 2 * len(to))
    failed = [failure["item"] for failure in told["failures"]]
    one = str(album[2])
    assert failed == ([one] if len(to) == 1 else [f"{one} to piano", f"{one} to organ"])
    assert leftovers(Path()) == []


@pytest.mark.parametrize("extension", ["flac", "wav"])
def test_title_and_artist_of_the_input_are_those_of_the_result(umt, extension):
    with soundfile.SoundFile("song.flac", "w", 44_100, 1) as file:
        file.title, file.artist, file.album, file.comment = "My Song", "Me", "Any", "Recorded 1975"
        file.write(0.1 * np.sin(np.arange(9_000) / 9))
    assert umt("translate", "song.flac", "--to", "piano", "-o", f"out.{extension}").code == 0
    with soundfile.SoundFile(f"out.{extension}") as file:
        assert (file.title, file.artist, file.album) == ("My Song", "Me", "Any")
        assert "umt_provenance" in file.comment


@pytest.mark.parametrize("is_quiet", [False, True])
def test_what_a_file_lacks_is_said_once_and_not_when_quiet(umt, song, is_quiet):
    song.write_bytes(song.read_bytes()[:-80_000])
    ran = umt("translate", song, "--to", "piano", "--to", "organ", *["-q"] * is_quiet)
    assert ran.code == 0
    assert ran.stderr.count("song.wav: is cut off") == (not is_quiet)
