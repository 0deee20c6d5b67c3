"""Start-up and completion: quick, without torch, and right in real shells."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys

import pytest

import core
from umtcli.app import COMMANDS
from umtcli.completion import (
    complete_bits,
    complete_devices,
    complete_engines,
    complete_trackers,
    complete_transpositions,
)
from umtcli.models import check_device

from .conftest import ROOT, write_song

HEAVY = ("torch", "torchaudio", "numpy", "soundfile", "rich", "tqdm", "accelerate")


def test_help_imports_nothing_heavy():
    """Of the program nor of any command, one after the other in a process of their own."""
    script = (
        "import sys; from umtcli.app import COMMANDS, main\n"
        "for command in ([], *([name] for name in COMMANDS)):\n"
        "    main([*command, '--help'])\n"
        f"    print(*command, *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr.splitlines() == ["", *COMMANDS]


def test_completion_imports_no_torch():
    script = (
        "import sys; from umtcli.app import main; main([]); "
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={
            **os.environ,
            "_UMT_COMPLETE": "complete_bash",
            "COMP_WORDS": "umt translate --to ",
            "COMP_CWORD": "3",
        },
    )
    assert done.stdout.split() == ["organ", "piano"]
    assert done.stderr.split() == ["False"]


def test_help_takes_less_than_300_ms():
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "umtcli", "--help"], capture_output=True, timeout=60, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: what else the machine is doing is not ours.
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3


def test_version(umt):
    assert umt("--version").stdout.decode() == f"umt {core.__version__}\n"


def test_help_is_on_stdout(umt):
    ran = umt("--help")
    assert (ran.code, ran.stderr) == (0, "")
    for command in COMMANDS:
        assert command in ran.stdout.decode()


def test_without_arguments_it_shows_the_help(umt):
    ran, asked = umt(), umt("--help")
    assert (ran.code, ran.stdout, ran.stderr) == (0, asked.stdout, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_examples_that_parse(umt, command):
    ran = umt(command, "--help")
    assert ran.code == 0
    assert f"  umt {command}" in ran.stdout.decode().partition("Examples:")[2]


@pytest.fixture
def shell(umt_on_path, tmp_path):
    """Run a script in a real shell, with an `umt` on the PATH."""

    def run(*command: str) -> list[str]:
        if shutil.which(command[0]) is None:
            pytest.skip(f"no {command[0]}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout.split("\n")[:-1]

    return run


def bash_completions(shell, *words: str) -> list[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    return shell(
        "bash",
        "-c",
        f"source {ROOT}/completions/umt.bash; COMP_WORDS=({quoted}); "
        f"COMP_CWORD={len(words) - 1}; _umt_completion umt; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
    )


def test_bash_completes_commands(shell):
    assert bash_completions(shell, "umt", "en") == ["encode"]


def test_bash_completes_domains_of_the_model_on_the_line(shell, tmp_path, spectral_model):
    from core.translator import Translator

    translator = Translator.load(spectral_model)
    translator.domains = translator.classified = ("kazoo", "viola")
    translator.save(tmp_path / "other.safetensors")
    words = ("umt", "translate", "song.wav", "-m", "other.safetensors", "--to", "")
    assert bash_completions(shell, *words) == ["kazoo", "viola"]
    assert bash_completions(shell, "umt", "decode", "--to", "pi") == ["piano"]


def test_the_last_of_several_domains_is_completed(completions):
    assert completions("umt translate --to organ,pi") == ["organ,piano"]
    assert completions("umt translate --to al") == ["all"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("translate --bits ", ["16", "24", "float"]),
        ("decode --rate 4", ["44100", "48000"]),
        ("prep --rate 2", ["22050"]),
        ("train --preset pap", ["paper", "paper-code"]),
        ("eval --to or", ["organ"]),
        ("train --device ", ["auto", "cpu"]),
        ("train --log-with t", ["tensorboard", "trackio"]),
        ("export --format n", ["nn~", "neutone"]),
    ],
)
def test_options_with_a_fixed_set_of_values_are_completed(completions, line, offered):
    assert completions(f"umt {line}") == offered


def test_all_bits_are_offered():
    from core.audio.wav import BITS

    assert tuple(complete_bits("")) == BITS


def test_all_trackers_are_offered():
    from core.training.trackers import TRACKERS

    assert tuple(complete_trackers("")) == TRACKERS


def test_fit_is_offered_and_numbers_are_not():
    assert complete_transpositions("") == ["fit"]
    assert complete_transpositions("1") == []


def test_completion_offers_the_domains_of_every_model_that_the_lookup_could_take(
    shell, tmp_path, monkeypatch, spectral_model
):
    from core.presets import get_preset
    from core.translator import Translator

    monkeypatch.delenv("UMT_MODEL")
    run = tmp_path / "runs" / "fast"
    run.mkdir(parents=True)
    Translator.create(get_preset("tiny"), ["bach"]).save(run / "model.safetensors")
    offered = bash_completions(shell, "umt", "translate", "--to", "")
    assert {"bach", "piano"} <= set(offered)


def test_bash_completes_models_found_and_model_files(shell, tmp_path, spectral_model):
    run = tmp_path / "runs/mine"
    run.mkdir(parents=True)
    shutil.copy(spectral_model, run / "model.safetensors")
    shutil.copy(spectral_model, tmp_path / "rest.safetensors")
    write_song(tmp_path / "r.wav", 0.1)
    offered = bash_completions(shell, "umt", "encode", "-m", "r")
    assert offered == ["runs/mine", "rest.safetensors", "runs/"]
    assert bash_completions(shell, "umt", "info", "runs/mine/") == ["runs/mine/model.safetensors"]


def test_bash_falls_back_to_files_for_inputs(shell, song):
    assert bash_completions(shell, "umt", "encode", "so") == [""]
    assert "-o default" in (ROOT / "completions/umt.bash").read_text()


def test_all_engines_are_offered():
    from core.families.wavenet.sampling import ENGINES

    assert tuple(complete_engines("")) == ENGINES
    assert complete_engines("re") == ["reference"]


def test_devices_that_are_offered_are_taken():
    offered = complete_devices("")
    assert {"auto", "cpu", "cuda"} <= set(offered)
    for device in offered:
        check_device(device)


def test_a_damaged_model_completes_nothing_and_says_nothing(shell, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    assert bash_completions(shell, "umt", "translate", "-m", "bad.safetensors", "--to", "") == [""]


def test_zsh_completes_domains(shell):
    offered = shell(
        "zsh",
        "-fc",
        "autoload -Uz compinit; compinit -u -D; "
        f"source {ROOT}/completions/_umt; _arguments() {{ print -r -- $1 }}; "
        "words=(umt translate --to ''); CURRENT=4; $_comps[umt]",
    )
    assert offered == ['*: :(("organ" "piano"))']


def test_zsh_finds_the_script_in_fpath_and_answers_the_first_tab(shell):
    offered = shell(
        "zsh",
        "-fc",
        f"fpath=({ROOT}/completions $fpath); autoload -Uz compinit; compinit -u -D; "
        "_arguments() { print -r -- $1 }; words=(umt en); CURRENT=2; $_comps[umt]",
    )
    assert "encode" in offered[0]


def test_fish_completes_commands_and_domains(shell):
    source = f"source {ROOT}/completions/umt.fish; "
    commands = shell("fish", "-c", source + "complete -C 'umt en'")
    assert [line.split("\t")[0] for line in commands] == ["encode"]
    assert shell("fish", "-c", source + "complete -C 'umt translate --to '") == ["organ", "piano"]


def test_completion_scripts_are_up_to_date(shell, tmp_path):
    folder = tmp_path / "fresh"
    folder.mkdir()
    shell("sh", str(ROOT / "completions/regenerate"), str(folder))
    for name in ("umt.bash", "_umt", "umt.fish"):
        stored = ROOT / "completions" / name
        assert stored.read_text() == (folder / name).read_text(), "run completions/regenerate"
