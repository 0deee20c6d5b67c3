"""The README: short, word for word where users copy, and in step with the model card."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from .documented_commands import furnish
from .pages import ROOT, code_blocks, shell_lines, text_of

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = (
    "python3 -m venv .venv && .venv/bin/pip install . && "
    ".venv/bin/umt translate examples/song.wav --to piano -o piano.wav"
)
TESTS = (
    'python3 -m venv .venv && .venv/bin/pip install ".[test]" && .venv/bin/python -m pytest -n 2'
)
USERS_LINES = (
    "umt prep ./bach",
    "accelerate launch -m umtcli train",
    "umt translate song.wav --to piano | umt eval",
)


def test_it_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 120
    assert [line for line in text_of("README.md").splitlines() if len(line) > 120] == []


def test_what_users_copy_stands_there_word_for_word() -> None:
    install, tests, use = code_blocks("README.md", "sh")
    assert (install.strip(), tests.strip()) == (INSTALL, TESTS)
    lines = use.splitlines()
    assert len(lines) == 6
    assert [line for line in lines if line in USERS_LINES] == list(USERS_LINES)


def test_ci_installs_and_tests_as_the_readme_does() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for part in ('pip" install --quiet --disable-pip-version-check ".[test]"', "-m pytest -n 2"):
        assert part in script


def test_it_quotes_the_figures_of_the_model_card() -> None:
    card = text_of("core/pretrained/starter.md")

    def row(label: str) -> list[float]:
        """Return translation, unchanged input, other music and true rendering."""
        (cells,) = re.findall(rf"^\| {label} \|(.*)\|$", card, flags=re.MULTILINE)
        return [float(cell.split("(")[0]) for cell in cells.split("|")[:4]]

    heard, chroma = (
        row("heard as the target by the classifier"),
        row("chroma cosine with the source"),
    )
    distance = row("log-spectral distance to the nearest true rendering, dB")
    readme = " ".join(text_of("README.md").split())
    translation, unchanged, _, true = (f"{100 * share:.0f} %" for share in heard)
    assert f"{translation} of the sound (true renderings: {true}, unchanged" in readme
    assert f"unchanged input: {unchanged})" in readme
    assert f"to {chroma[0]:.2f} (other music: {chroma[2]:.2f})" in readme
    assert f"{distance[0]} dB, against {distance[1]} dB for the unchanged input" in readme


@pytest.mark.timeout(900)  # trains, on a machine that may be busy
def test_the_three_lines_of_the_user_run_in_order_in_one_directory(tmp_path: Path) -> None:
    assert set(USERS_LINES) <= set(shell_lines("README.md"))
    environment = furnish(tmp_path)
    # Nothing is made small here but the batch.
    (tmp_path / "bin" / "umt").write_text('#!/bin/sh\nexec python -m umtcli "$@"\n')
    (tmp_path / "bin" / "accelerate").unlink()

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    prepare, train, translate = USERS_LINES
    prepared = run(prepare)
    assert prepared.returncode == 0, prepared.stderr
    assert "bach" in prepared.stdout

    # Trains for hours as written; Ctrl-C, which reaches the whole process group, stops it.
    training = subprocess.Popen(
        ["bash", "-c", f"{train} --batch-size 1"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert training.stderr is not None
    shown = []
    for line in training.stderr:
        shown.append(line)
        if "step 10/" in line:
            break
    os.killpg(training.pid, signal.SIGINT)
    # The end of the stream is that of every process that holds it, the launched one's, too.
    shown.append(training.stderr.read())
    training.wait(timeout=120)
    model = tmp_path / "runs" / "fast" / "model.safetensors"
    assert model.exists(), "".join(shown)

    translated = run(translate)
    assert translated.returncode == 0, translated.stderr
    assert "chroma" in translated.stdout
    assert "song.wav" in translated.stdout
    assert "model starter" in translated.stderr


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_drawing_is_what_its_script_draws(theme: str) -> None:
    script = runpy.run_path(str(ROOT / "docs/images/system.py"))
    drawn = script["draw"](script["PALETTES"][theme]).svg()
    assert (ROOT / f"docs/images/system-{theme}.svg").read_text(encoding="utf-8") == drawn
