"""What the README shows, done as it is written there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core import Translator
from core.presets import get_preset
from umtcli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SAMPLE_RATE = 22050


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def umt_calls() -> list[list[str]]:
    """Every call of umt in the README's shell blocks, without pipes and redirections."""
    calls = []
    for line in "".join(code_blocks("sh")).splitlines():
        words = shlex.split(line, comments=True)
        for part in " ".join(words).replace("&&", "|").replace(">", "|").split("|"):
            call = part.split()
            program = next((i for i, word in enumerate(call) if re.search(r"umt(cli)?$", word)), -1)
            if program >= 0 and len(call) > program + 1 and call[program + 1] != "==":
                calls.append(call[program + 1 :])
    return calls


def melody(frequencies: list[float], seconds: float) -> np.ndarray:
    """Return decaying tones with harmonics, float32 (T,)."""
    t = np.arange(int(SAMPLE_RATE * seconds / len(frequencies))) / SAMPLE_RATE
    tones = [
        sum(np.sin(2 * np.pi * f * k * t) / k for k in (1, 2, 3)) * np.exp(-3 * t)
        for f in frequencies
    ]
    return (0.2 * np.concatenate(tones)).astype(np.float32)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A directory with `bach/`, `song.wav` and `umt` and `accelerate` on the PATH."""
    (tmp_path / "bach").mkdir()
    for name, base in (("prelude", 220.0), ("fugue", 262.0), ("air", 196.0)):
        notes = [base * 2 ** (step / 12) for step in (0, 4, 7, 12, 7, 4, 2, 0)]
        soundfile.write(tmp_path / "bach" / f"{name}.wav", melody(notes, 6.0), SAMPLE_RATE)
    soundfile.write(tmp_path / "song.wav", melody([262, 330, 392, 523, 392, 330], 9.0), SAMPLE_RATE)
    programs = tmp_path / "bin"
    programs.mkdir()
    umt = programs / "umt"
    umt.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m umtcli "$@"\n')
    umt.chmod(0o755)
    return tmp_path


@pytest.fixture
def shell_environment(workplace: Path) -> dict[str, str]:
    path = [str(workplace / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **{name: value for name, value in os.environ.items() if name != "UMT_MODEL"},
        "PATH": ":".join(path),
        "PYTHONPATH": str(ROOT),
    }


def test_every_call_of_umt_in_the_readme_has_options_that_exist() -> None:
    help_of: dict[str, str] = {}
    calls = umt_calls()
    assert len(calls) > 10
    for call in calls:
        command = call[0]
        assert command in COMMANDS
        if command not in help_of:
            help_of[command] = subprocess.run(
                [sys.executable, "-m", "umtcli", command, "--help"],
                capture_output=True,
                text=True,
                check=True,
                cwd=ROOT,
            ).stdout
        for option in (word for word in call if re.match(r"--?[a-z]", word)):
            assert re.search(rf"(^|\s|,){option}\b", help_of[command]), (command, option)


def test_the_readme_python_example_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "runs" / "fast").mkdir(parents=True)
    config = get_preset("fast").updated(
        "model", encoder_channels=8, decoder_channels=8, encoder_layers=1, decoder_layers=1
    )
    model = Translator.create(config, ["piano", "organ"])
    model.save(workplace / "runs" / "fast" / "model.safetensors")
    monkeypatch.chdir(workplace)
    song, sample_rate = soundfile.read("song.wav")
    soundfile.write("song.wav", np.stack([song, song], axis=1), sample_rate)  # as songs are
    (example,) = code_blocks("python")
    found: dict[str, np.ndarray] = {}
    exec(compile(example, "README.md", "exec"), found)
    assert found["latents"].ndim == 2
    assert len(found["piano"]) == len(found["latents"]) * model.hop_length
    written, sample_rate = soundfile.read("song.piano.wav")
    assert (written.shape, sample_rate) == (found["piano"].shape, model.sample_rate)


def test_the_three_lines_of_the_user_run_in_order_in_one_directory(
    workplace: Path, shell_environment: dict[str, str]
) -> None:
    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=workplace,
            env=shell_environment,
            capture_output=True,
            text=True,
            check=False,
        )

    prepared = run("umt prep ./bach")
    assert prepared.returncode == 0, prepared.stderr
    assert "bach" in prepared.stdout

    # Trains for hours as written; Ctrl-C, which reaches the whole process group, stops it.
    training = subprocess.Popen(
        ["bash", "-c", "accelerate launch -m umtcli train --batch-size 2"],
        cwd=workplace,
        env=shell_environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert training.stderr is not None
    heard = []
    for line in training.stderr:
        heard.append(line)
        if "step 10/" in line:
            break
    os.killpg(training.pid, signal.SIGINT)
    heard.append(training.stderr.read())
    training.wait(timeout=120)
    model = workplace / "runs" / "fast" / "model.safetensors"
    deadline = time.monotonic() + 60
    while not model.exists() and time.monotonic() < deadline:
        time.sleep(0.2)  # the launcher may end before the process that it launched
    assert model.exists(), "".join(heard)

    translated = run("umt translate song.wav --to piano | umt eval")
    assert translated.returncode == 0, translated.stderr
    assert "chroma" in translated.stdout
    assert "song.wav" in translated.stdout
    assert "model starter" in translated.stderr
