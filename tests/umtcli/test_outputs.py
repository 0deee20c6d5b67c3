"""Every command: what stdin, stdout and the file system see, by the contract's sentences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.errors import AudioError
from umtcli.inputs import Input
from umtcli.outputs import name_results

from .conftest import leftovers, read_wav, write_song


def test_stdout_carries_only_the_result_and_stderr_the_rest(umt, song):
    ran = umt("translate", song, "--to", "piano", stdout_kind="data")
    assert ran.code == 0
    assert len(read_wav(ran.stdout)) > 44100
    assert "model" in ran.stderr


def test_dash_reads_stdin_and_writes_stdout(umt, song):
    ran = umt("translate", "-", "--to", "piano", "-o", "-", stdin=song.read_bytes())
    assert ran.code == 2, "stdout is a terminal in this test"
    ran = umt(
        *("translate", "-", "--to", "piano", "-o", "-"),
        stdin=song.read_bytes(),
        stdout_kind="other",
    )
    assert ran.code == 0
    assert len(read_wav(ran.stdout)) > 44100


def test_piped_stdin_is_the_input_when_none_is_named(umt, song):
    ran = umt("encode", stdin=song.read_bytes(), stdout_kind="data")
    assert ran.code == 0
    assert ran.stdout.startswith(b"\x93NUMPY")


@pytest.mark.parametrize("kind", ["terminal", "other"])
@pytest.mark.parametrize("command", [("translate", "--to", "piano"), ("encode",)])
def test_no_input_is_wrong_usage_unless_stdin_has_data(umt, command, kind):
    ran = umt(*command, stdin_kind=kind)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "no input" in ran.stderr


def test_dash_on_a_terminal_is_wrong_usage(umt):
    ran = umt("translate", "-", "--to", "piano")
    assert (ran.code, ran.errors) == (
        2,
        ["umt: error: stdin is a terminal; name a file, or pipe one in"],
    )


def test_stdin_named_twice_is_wrong_usage(umt, song):
    ran = umt("encode", "-", "-", "-o", "out", stdin=song.read_bytes())
    assert ran.code == 2
    assert "twice" in ran.stderr


@pytest.mark.parametrize("kind", ["terminal", "other"])
def test_result_is_named_after_its_input_when_stdout_takes_no_bytes(umt, song, tmp_path, kind):
    song.rename(tmp_path / "my song.x.wav")
    ran = umt("translate", "my song.x.wav", "--to", "piano", stdout_kind=kind)
    assert (ran.code, ran.stdout) == (0, b"")
    assert Path("my song.x.piano.wav").is_file()
    assert "wrote my song.x.piano.wav" in ran.stderr


def test_result_of_stdin_on_a_terminal_goes_to_the_current_directory(umt, song):
    ran = umt("translate", "--to", "piano", stdin=song.read_bytes())
    assert ran.code == 0
    assert Path("stdin.piano.wav").is_file()
    again = umt("translate", "--to", "piano", stdin=song.read_bytes())
    assert again.errors[0].startswith("umt: error: stdin to piano: stdin.piano.wav exists")


@pytest.mark.parametrize("command", [("translate", "--to", "piano"), ("encode",)])
def test_bytes_are_not_written_to_a_terminal(umt, song, command):
    ran = umt(command[0], song, *command[1:], "-o", "-")
    assert (ran.code, ran.stdout, len(ran.errors)) == (2, b"", 1)
    assert "terminal" in ran.stderr


def test_several_results_do_not_go_to_one_stdout(umt, song):
    ran = umt("translate", song, "--to", "piano", "--to", "organ", stdout_kind="data")
    assert (ran.code, ran.stdout) == (2, b"")
    assert "-o DIR" in ran.errors[0]


def test_several_results_do_not_go_to_one_file(umt, song):
    ran = umt("translate", song, "--to", "piano", "--to", "organ", "-o", "out.wav")
    assert ran.code == 2
    assert "out.wav/ would be a directory" in ran.errors[0]
    assert not Path("out.wav").exists()


@pytest.mark.parametrize("output", ["new", "new/", "new/deep/"])
def test_several_results_go_to_a_directory_that_is_made(umt, song, output):
    ran = umt("translate", song, "--to", "piano", "--to", "organ", "-o", output)
    assert ran.code == 0
    names = sorted(path.name for path in Path(output).iterdir())
    assert names == ["song.organ.wav", "song.piano.wav"]


def test_one_result_goes_into_an_existing_directory(umt, song):
    Path("here").mkdir()
    assert umt("encode", song, "-o", "here").code == 0
    assert Path("here/song.npy").is_file()


def test_two_results_with_one_given_name_are_wrong_usage_before_any_work(
    umt, monkeypatch, tmp_path
):
    write_song(tmp_path / "a.wav", 0.1)
    (tmp_path / "sub").mkdir()
    shutil.copy("a.wav", "sub/a.wav")
    monkeypatch.setenv("UMT_MODEL", "no such model: it must not be looked for")
    given = ("--name", "{stem}.wav")
    ran = umt("translate", "a.wav", "sub/a.wav", "--to", "piano", "-o", "out", *given)
    assert ran.code == 2
    assert "two results would be called out/a.wav" in ran.errors[0]
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["a.wav", "b.wav"], ["a", "b"]),
        (["a.wav", "sub/a.wav"], ["a", "sub/a"]),
        (["x/sub/a.wav", "y/sub/a.wav"], ["x/sub/a", "y/sub/a"]),
        (["/r/one/a.wav", "/r/two/a.wav", "/r/b.wav"], ["one/a", "two/a", "b"]),
        (["a.wav", "a.flac"], ["a.wav", "a.flac"]),
        (["x/a.wav", "x/a.flac", "b.wav"], ["a.wav", "a.flac", "b"]),
        (["x/a.wav", "y/a.flac"], ["x/a", "y/a"]),
        (["-", "stdin.wav", "sub/stdin.wav"], ["stdin", "stdin.wav", "sub/stdin"]),
        (["disc/:CD1/01.wav", "disc/:CD2/01.wav"], ["CD1/01", "CD2/01"]),
        (["CD1/:01.wav", "CD2/:01.wav", "CD2/:02.wav"], ["CD1/01", "CD2/01", "02"]),
        (["CD1/:x/01.wav", "CD1/:x/01.mp3"], ["x/01.wav", "x/01.mp3"]),
    ],
)
def test_names_that_would_meet_are_told_apart(typed, expected):
    """What stands before a colon is the directory that was named."""
    inputs = [
        Input(name.replace(":", ""), name.partition(":")[0].rstrip("/") if ":" in name else "")
        for name in typed
    ]
    items = [(own, None) for own in inputs]
    names = name_results(items, "{stem}.npy", seed=0, is_given=False)
    assert names == [f"{name}.npy" for name in expected]


def test_a_given_name_may_tell_inputs_apart_by_folder_and_extension():
    items = [(Input(name), None) for name in ("CD1/01.wav", "CD2/01.flac", "-")]
    names = name_results(items, "{folder}-{stem}-{ext}.npy", seed=0, is_given=True)
    assert names == ["CD1-01-wav.npy", "CD2-01-flac.npy", ".-stdin-.npy"]


def test_existing_file_is_kept_and_the_others_go_on(umt, song):
    Path("song.piano.wav").write_bytes(b"precious")
    ran = umt("translate", song, "--to", "piano", "--to", "organ")
    assert ran.code == 1
    assert Path("song.piano.wav").read_bytes() == b"precious"
    assert Path("song.organ.wav").is_file()
    assert "song.piano.wav exists; add -f" in ran.errors[0]
    assert ran.errors[-1].startswith("umt: error: 1 failed: ")


def test_existing_file_fails_before_the_model_is_loaded(umt, song, monkeypatch):
    Path("out.wav").write_bytes(b"precious")
    monkeypatch.setattr("umtcli.render.load_translator", None)
    ran = umt("translate", song, "--to", "piano", "-o", "out.wav")
    assert (ran.code, len(ran.errors)) == (1, 1)


def test_force_replaces_an_existing_file_and_follows_a_link(umt, song, tmp_path):
    (tmp_path / "real.wav").write_bytes(b"old")
    (tmp_path / "link.wav").symlink_to("real.wav")
    assert umt("translate", song, "--to", "piano", "-o", "link.wav", "-f").code == 0
    assert Path("link.wav").is_symlink()
    assert Path("real.wav").read_bytes().startswith(b"RIFF")


def decoding_with(decode):
    """Return a `Translator.decode_parts` that makes of each input's latents what `decode` does."""

    def decode_parts(self, sequences, **options):
        for latents in sequences:
            yield [decode(latents)]

    return decode_parts


def test_file_that_appears_meanwhile_is_kept(umt, song, monkeypatch):
    from core.translator import Translator

    def decode(latents):
        list(latents)
        yield np.zeros((10, 2), np.float32)
        Path("out.wav").write_bytes(b"somebody else's")

    monkeypatch.setattr(Translator, "decode_parts", decoding_with(decode))
    ran = umt("translate", song, "--to", "piano", "-o", "out.wav")
    assert (ran.code, leftovers(Path())) == (1, [])
    assert Path("out.wav").read_bytes() == b"somebody else's"
    assert "appeared meanwhile" in ran.errors[0]


def test_file_is_complete_or_absent(umt, song, monkeypatch):
    from core.translator import Translator

    seen = []

    def decode(latents):
        list(latents)
        yield np.zeros((44100, 2), np.float32)
        seen.append((Path("out.wav").exists(), len(leftovers(Path()))))
        raise AudioError("song.wav: broken in the middle")

    monkeypatch.setattr(Translator, "decode_parts", decoding_with(decode))
    ran = umt("translate", "song.wav", "--to", "piano", "--no-match-level", "-o", "out.wav")
    assert seen == [(False, 1)]
    assert (ran.code, ran.errors) == (1, ["umt: error: song.wav: broken in the middle"])
    assert not Path("out.wav").exists()
    assert leftovers(Path()) == []


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("missing/out.wav", "missing does not exist"),
        ("song.wav/out.wav", "song.wav is not a directory"),
        ("/proc/out.wav", "/proc/out.wav"),
    ],
)
def test_unwritable_output_fails_in_one_line(umt, song, output, reason):
    ran = umt("translate", song, "--to", "piano", "-o", output)
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert reason in ran.errors[0]


def test_full_disk_is_one_line_with_advice(umt, song):
    ran = umt("translate", song, "--to", "piano", "-o", "/dev/full")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "No space left on device; free some space" in ran.errors[0]


def test_device_is_written_to_and_not_replaced(umt, song):
    assert umt("encode", song, "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_several_results_go_to_one_device(umt, song):
    ran = umt("translate", song, "--to", "piano", "--to", "organ", "-o", "/dev/null", "--json")
    assert ran.code == 0
    assert [own["output"] for own in json.loads(ran.stdout)["results"]] == ["/dev/null"] * 2


def test_a_disk_is_not_written_to(umt, song, monkeypatch):
    monkeypatch.setattr(Path, "is_block_device", lambda path: path == Path("/dev/null"))
    ran = umt("encode", song, "-o", "/dev/null")
    assert (ran.code, ran.errors) == (
        1,
        [f"umt: error: {song}: /dev/null is a disk; name a file on it"],
    )


def test_the_path_of_stdout_is_stdout(umt, song):
    ran = umt("translate", song, "--to", "piano", "-o", "/dev/stdout", stdout_kind="data")
    assert ran.code == 0
    assert len(read_wav(ran.stdout)) > 44100


@pytest.mark.parametrize("option", [("--output=~/new/",), ("-o~/new/",), ("-o", "~/new/")])
def test_the_home_directory_may_be_a_tilde(umt, song, tmp_path, monkeypatch, option):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert umt("encode", song, *option).code == 0
    assert (tmp_path / "home/new/song.npy").is_file()
    assert not Path("~").exists()


def test_discs_of_an_album_keep_their_folders(umt, tmp_path):
    for disc in ("CD1", "CD2"):
        (tmp_path / "album" / disc).mkdir(parents=True)
        write_song(tmp_path / "album" / disc / "01.wav", 0.1)
    assert umt("encode", "album", "-o", "out").code == 0
    assert sorted(map(str, Path("out").rglob("*.npy"))) == ["out/CD1/01.npy", "out/CD2/01.npy"]
    assert umt("encode", "album/CD1", "album/CD2", "-o", "both").code == 0
    assert sorted(map(str, Path("both").rglob("*.npy"))) == ["both/CD1/01.npy", "both/CD2/01.npy"]


def test_extension_chooses_the_format(umt, song):
    for extension in ("flac", "ogg", "aiff"):
        name = f"out.{extension}"
        assert umt("translate", song, "--to", "piano", "-o", name).code == 0
        assert soundfile.info(name).samplerate == 44100


@pytest.mark.parametrize("name", ["out.xyz", "out"])
def test_unwritable_format_is_wrong_usage_that_lists_the_formats(umt, song, name):
    ran = umt("translate", song, "--to", "piano", "-o", name)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "wav, flac" in ran.errors[0]


def test_json_on_stdout_leaves_bytes_to_files(umt, song):
    ran = umt("translate", song, "--to", "piano", "--json", stdout_kind="data")
    told = json.loads(ran.stdout)
    assert (told["command"], told["version"]) == ("translate", 1)
    assert told["results"][0]["output"] == "song.piano.wav"
    assert Path("song.piano.wav").is_file()
    ran = umt("translate", song, "--to", "piano", "--json", "-o", "-", stdout_kind="data")
    assert ran.code == 2


def test_json_lists_failures_too(umt, song):
    ran = umt("translate", song, "gone.wav", "--to", "piano", "--json")
    told = json.loads(ran.stdout)
    assert ran.code == 1
    assert [failure["item"] for failure in told["failures"]] == ["gone.wav"]
    assert [result["source"] for result in told["results"]] == [str(song)]
