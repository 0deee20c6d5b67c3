"""Every command: errors in one line, exit codes, and how a run is cut short."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.translator import Translator
from umtcli.errors import CPU_INDEX, TORCH, describe

from .conftest import ROOT, WIDTH, leftovers, umt_command, write_song


def damage(name: str) -> None:
    """Make `name`, an input that no command can use."""
    path = Path(name)
    latents = np.zeros((20, WIDTH), np.float32)
    match path.stem:
        case "text" | "text-npy":
            path.write_text("this is a letter\n")
        case "empty" | "empty-npy":
            path.write_bytes(b"")
        case "truncated":
            np.save(path, latents)
            path.write_bytes(path.read_bytes()[:-50])
        case "shape":
            np.save(path, latents[0])
        case "dtype":
            np.save(path, latents.astype(np.int32))
        case "nan":
            latents[3, 2] = np.nan
            np.save(path, latents)
        case "pickled":
            np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("name", ["missing.wav", "text.wav", "empty.wav"])
@pytest.mark.parametrize("command", [("translate", "--to", "piano"), ("encode",)])
def test_bad_audio_is_one_line_and_no_file(umt, name, command):
    damage(name)
    ran = umt(command[0], name, *command[1:])
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert name in ran.errors[0]
    assert "Traceback" not in ran.stderr
    assert {path.name for path in Path().iterdir()} <= {name}


@pytest.mark.parametrize(
    "name",
    [
        *("missing.npy", "text-npy.npy", "empty-npy.npy", "truncated.npy", "shape.npy"),
        *("dtype.npy", "nan.npy", "pickled.npy"),
    ],
)
def test_bad_latents_are_one_line_and_no_file(umt, name):
    damage(name)
    ran = umt("decode", name, "--to", "piano")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert name in ran.errors[0]
    assert {path.name for path in Path().iterdir()} <= {name}


@pytest.mark.parametrize(
    "command", [("translate", "--to", "piano"), ("encode",), ("decode", "--to", "piano")]
)
def test_empty_stdin_is_one_line_and_no_output(umt, command):
    ran = umt(*command, stdin=b"", stdout_kind="data")
    assert (ran.code, ran.stdout, len(ran.errors)) == (1, b"", 1)
    assert "stdin" in ran.errors[0]
    assert "empty" in ran.errors[0]


def test_unknown_domain_is_wrong_usage_that_lists_the_known_ones(umt, song):
    ran = umt("translate", song, "--to", "kazoo")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "kazoo" in ran.errors[0]
    assert "organ, piano" in ran.errors[0]


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_damaged_model_is_one_line(umt, song, spectral_model, keep):
    Path("bad.safetensors").write_bytes(spectral_model.read_bytes()[:keep])
    ran = umt("translate", song, "--to", "piano", "-m", "bad.safetensors", "-o", "out.wav")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "bad.safetensors" in ran.errors[0]
    assert not Path("out.wav").exists()


def test_batch_goes_on_past_bad_files_and_lists_them_at_the_end(umt, song, tmp_path):
    damage("text.wav")
    write_song(tmp_path / "last.wav", 0.2)
    ran = umt("translate", "missing.wav", song, "text.wav", "last.wav", "--to", "piano")
    assert ran.code == 1
    assert ran.errors[-1] == "umt: error: 2 failed: missing.wav, text.wav"
    assert Path("song.piano.wav").is_file()
    assert Path("last.piano.wav").is_file()


def test_bad_input_is_found_before_the_model_is_loaded(umt, monkeypatch):
    monkeypatch.setattr("umtcli.render.load_translator", None)
    assert umt("translate", "missing.wav", "--to", "piano").code == 1


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("translate", "--nonsense"), "see umt translate --help"),
        (("translate", "a.wav"), "see umt translate --help"),
        (("translate", "a.wav", "--to", "piano", "--seed", "x"), "see umt translate --help"),
        (("nonsense",), "see umt --help"),
        (("trnslate",), "Did you mean 'translate'?"),
        (("translate", "a.wav", "--to", "piano", "--device", "gpu"), "cuda:N"),
        (("translate", "a.wav", "--to", "piano", "--device", "cuda:99"), "cpu"),
        (("translate", "a.wav", "--to", "piano", "--start", "-1"), "start"),
        (("translate", "a.wav", "--to", "piano", "--seconds", "0"), "length"),
        (("translate", "a.wav", "--to", "piano", "-m", "nowhere"), "nowhere"),
    ],
)
def test_wrong_usage_is_one_line_with_a_hint_and_code_2(umt, tmp_path, args, hint):
    write_song(tmp_path / "a.wav", 0.1)
    ran = umt(*args)
    assert (ran.code, ran.stdout) == (2, b"")
    assert [line for line in ran.stderr.splitlines() if "umt: model" not in line] == ran.errors
    assert len(ran.errors) == 1
    assert hint in ran.errors[0]


def raising(error):
    def load(*_):
        raise error

    return load


class OutOfMemoryError(RuntimeError):
    __module__ = "torch"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OutOfMemoryError("CUDA out of memory"), "--device cpu"),
        (MemoryError(), "--seconds"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 TB"), "--seconds"),
        (OSError(28, "No space left on device", "b.wav"), "free some space"),
        (ZeroDivisionError("a bug\nof ours"), "unexpected ZeroDivisionError: a bug of ours"),
    ],
)
def test_any_exception_is_one_line_with_advice(umt, song, monkeypatch, error, advice):
    monkeypatch.setattr("umtcli.render.load_translator", raising(error))
    ran = umt("translate", song, "--to", "piano")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert advice in ran.errors[0]
    assert "Traceback" not in ran.stderr


def import_fails(name: str, line: str, monkeypatch, tmp_path) -> Any:
    """Put a package on the path that cannot be loaded; return a function that tries to."""
    (tmp_path / "site" / name).mkdir(parents=True)
    (tmp_path / "site" / name / "__init__.py").write_text(f"{line}\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, name, raising=False)

    return lambda *args, **options: import_module(name)


@pytest.mark.parametrize(
    ("versions", "command"),
    [
        ({"torchaudio": "2.11.1"}, "pip install torch==2.11.0"),
        ({"torch": "2.11.0+cpu"}, f"--force-reinstall --index-url {CPU_INDEX} torch==2.11.0"),
    ],
)
@pytest.mark.parametrize(
    "place", ["umtcli.render.load_translator", "core.Translator.encode_blocks"]
)
def test_a_pair_of_torch_and_torchaudio_that_does_not_load_ends_all_in_one_line(
    umt, song, tmp_path, monkeypatch, versions, command, place
):
    line = "raise OSError('Could not load this library: libtorchaudio.so')"
    monkeypatch.setattr(place, import_fails("torchaudio", line, monkeypatch, tmp_path))
    monkeypatch.setattr("umtcli.errors.version", (TORCH | versions).__getitem__)
    write_song(tmp_path / "other.wav", 0.2)
    ran = umt("translate", song, "other.wav", "--to", "piano")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert f"{command} torchaudio==2.11.0 (Could not load" in ran.errors[0]
    for name, found in (TORCH | versions).items():
        assert f"{name} {found}" in ran.errors[0]
    assert "Traceback" not in ran.stderr


def test_a_missing_torchaudio_is_said_too():
    error = ModuleNotFoundError("No module named 'torchaudio'", name="torchaudio")
    assert "umt needs torch 2.11.0 with torchaudio 2.11.0: pip install" in describe(error)
    assert "unexpected" in describe(ModuleNotFoundError("No module named 'x'", name="x"))


def test_gpu_memory_spoils_one_item_and_the_batch_goes_on(umt, song, tmp_path, monkeypatch):
    write_song(tmp_path / "short.wav", 0.2)
    encode_blocks = Translator.encode_blocks

    def encode(self, blocks, **options):
        blocks = list(blocks)
        if sum(map(len, blocks)) > 44100:
            raise OutOfMemoryError("CUDA out of memory")
        return encode_blocks(self, blocks, **options)

    monkeypatch.setattr(Translator, "encode_blocks", encode)
    ran = umt("translate", song, "short.wav", "--to", "piano")
    assert ran.code == 1
    assert Path("short.piano.wav").is_file()
    assert not Path("song.piano.wav").exists()


def test_verbose_shows_the_traceback(umt):
    ran = umt("translate", "missing.wav", "--to", "piano", "-v")
    assert "Traceback" in ran.stderr
    assert "AudioError" in ran.stderr


def test_quiet_silences_notices_but_not_errors(umt, song):
    ran = umt("translate", song, "missing.wav", "--to", "piano", "-q")
    assert ran.stderr.splitlines() == ran.errors
    assert ran.errors


def test_control_characters_of_names_do_not_reach_the_terminal(umt):
    ran = umt("translate", "a\x1b[31m\nb.wav", "--to", "piano")
    assert len(ran.errors) == len(ran.stderr.splitlines()) - 1
    assert "\x1b" not in ran.stderr


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_errors_are_coloured_on_a_terminal_unless_no_color(umt, monkeypatch, variables, coloured):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ran = umt("translate", "missing.wav", "--to", "piano", stderr_is_terminal=True)
    assert ("\x1b[" in ran.stderr) is coloured
    assert "missing.wav" in re.sub(r"\x1b\[[0-9;]*m", "", ran.stderr)


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141)])
def test_interruptions_have_their_exit_codes(umt, song, monkeypatch, raised, code):
    monkeypatch.setattr("umtcli.render.load_translator", raising(raised))
    ran = umt("translate", song, "--to", "piano")
    assert (ran.code, ran.errors) == (code, [])


def start_and_wait(*args: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start a run whose input never ends, and wait until it writes its result."""
    process = subprocess.Popen(
        umt_command(*args), stdin=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )
    write_song(Path("long.wav"), 4.0, sample_rate=8000)
    assert process.stdin is not None
    process.stdin.write(Path("long.wav").read_bytes()[:-1000])
    process.stdin.flush()
    deadline = time.monotonic() + 100
    while not leftovers(Path()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leftovers(Path()), "the run did not begin to write"
    return process


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, b"terminated"), (signal.SIGINT, 130, b"interrupted")],
)
def test_signal_removes_the_temporary_file(number, code, said):
    process = start_and_wait("translate", "--to", "piano", "--live", "-o", "out.wav")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert said in stderr
    assert b"Traceback" not in stderr
    assert leftovers(Path()) == []
    assert not Path("out.wav").exists()


def test_closed_pipe_ends_the_run_at_once_and_quietly(umt, tmp_path):
    """As `| head -c 100000` does, of 2 MB."""
    song = write_song(tmp_path / "long.wav", 12.0, sample_rate=8000)
    shown, written = os.pipe()

    def head() -> None:
        with os.fdopen(shown, "rb") as pipe:
            pipe.read(100_000)

    reader = threading.Thread(target=head)
    reader.start()
    with os.fdopen(written, "wb", buffering=0) as stdout:
        ran = umt("translate", song, "--to", "piano", "-q", stdout=stdout, stdout_kind="data")
    reader.join()
    assert (ran.code, ran.stderr) == (141, "")


@pytest.mark.parametrize("args", ["--help", 'info "$UMT_MODEL" --json', "--version"])
def test_text_into_a_closed_pipe_ends_quietly(args):
    umt = " ".join(umt_command(args))
    ran = subprocess.run(
        ["bash", "-c", f"{umt} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_full_stdout_is_one_line(tmp_path):
    umt = " ".join(umt_command("info", '"$UMT_MODEL"', "--json"))
    ran = subprocess.run(
        ["bash", "-c", f"{umt} >/dev/full"], capture_output=True, timeout=120, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.decode().startswith("umt: error: No space left on device")
    assert ran.stderr.count(b"\n") == 1


def test_closed_streams_do_not_break_a_run(tmp_path):
    """Of a command that needs no torch, whose start takes seconds."""
    np.save("a.npy", np.zeros((3, WIDTH), np.float32))
    umt = " ".join(umt_command("blend", "a.npy", "a.npy", "--mix", 0.5, "-o", "b.npy"))
    ran = subprocess.run(
        ["bash", "-c", f"{umt} <&- >&- 2>&-"], capture_output=True, timeout=120, check=False
    )
    assert ran.returncode == 0
    assert Path("b.npy").is_file()


def test_no_command_prints_a_traceback_for_its_own_import(umt_process):
    ran = umt_process("--help", cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert (ran.code, ran.stderr) == (0, "")
