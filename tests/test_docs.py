"""Every page against the repository: its links, its paths, its commands, its Python."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import typer

import core
from core import Translator
from umtcli.app import COMMANDS, app

from .documented_commands import NOT_RUN, run_page
from .pages import (
    NAMES,
    ROOMS,
    ROOT,
    anchors_of,
    calls_in,
    code_blocks,
    links_of,
    prose_of,
    shell_lines,
    text_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from core.config import Config

WITH_COMMANDS = [name for name in NAMES if shell_lines(name)]
WITH_PYTHON = [name for name in NAMES if code_blocks(name, "python")]
# What `umt` makes, or the reader, or pip: not part of the repository.
NOT_OURS = re.compile(r"runs/|data/|corpus/|takes/|paired/|train/|midi/")


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    for link in links_of(name):
        path, _, anchor = link.partition("#")
        if path.startswith("../../actions/"):  # GitHub's own page, from its view of the README
            continue
        target = (folder / path).resolve() if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target.relative_to(ROOT).as_posix()), link


@pytest.mark.parametrize("name", NAMES)
def test_every_path_named_exists(name: str) -> None:
    named = set(re.findall(rf"`((?:{ROOMS})/[\w./*{{}},-]*)`", text_of(name)))
    missing = [path for path in sorted(named) if not list(ROOT.glob(path))]
    assert missing == []


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = {link for link in links_of("docs/index.md") if "/" not in link}
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/")])
def test_every_page_opens_with_what_it_is_for(name: str) -> None:
    heading, _, opening = text_of(name).partition("\n\n")
    assert heading.startswith("# ")
    assert opening.startswith("This page ")


@cache
def commands() -> dict[str, Any]:
    """Return the commands of umt as Typer builds them, by name."""
    built: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return built


def parse(arguments: tuple[str, ...]) -> None:
    """Parse a call of umt as the program itself does, without running it."""
    command, *rest = arguments
    if command in ("--version", "--help"):
        return
    assert command in COMMANDS, command
    if rest not in (["--help"], ["-h"]):
        commands()[command].make_context(command, rest)


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_call_of_umt_is_understood(name: str) -> None:
    for line in shell_lines(name):
        for call in calls_in(line):
            if call.program == "umt":
                parse(call.arguments)


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_script_exists_and_has_the_options_that_it_is_given(name: str) -> None:
    for line in shell_lines(name):
        for call in calls_in(line):
            if call.program == "umt":
                continue
            source = text_of(call.program)
            for option in (word for word in call.arguments if word.startswith("-")):
                assert f'"{option}"' in source, (line, option)


def test_calls_of_umt_named_in_prose_are_understood() -> None:
    """Whole commands only: `umt train` alone, or `umt translate --to piano`, is a name."""
    n_found = 0
    for name in NAMES:
        for words in re.findall(r"`umt ([a-z]+ [^`]*)`", prose_of(name)):
            if not re.search(r"[A-Z…]{2}|…|\|", words):
                command, *options = words.split()
                known = {
                    flag
                    for parameter in commands()[command].params
                    for flag in (*parameter.opts, *parameter.secondary_opts)
                }
                given = {word for word in options if word.startswith("-")}
                assert given <= known | {"--help"}, (name, words)
                n_found += 1
    assert n_found > 5


def test_every_reason_not_to_run_a_command_is_still_needed() -> None:
    lines = [line for name in WITH_COMMANDS for line in shell_lines(name)]
    for pattern in NOT_RUN:
        assert any(re.search(pattern, line) for line in lines), pattern


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_python_runs_as_it_stands_there(
    name: str, tmp_path: Path, small_model: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "fast").mkdir(parents=True)
    model = Translator.create(small_model, ["organ", "piano"])
    model.save(tmp_path / "runs" / "fast" / "model.safetensors")
    t = np.arange(3 * 22050) / 22050
    song = 0.2 * np.sin(2 * np.pi * 262 * t)
    soundfile.write(tmp_path / "song.wav", np.stack([song, song], axis=1), 22050)  # as songs are
    monkeypatch.chdir(tmp_path)
    names: dict[str, np.ndarray] = {}
    for block in code_blocks(name, "python"):
        exec(compile(block, name, "exec"), names)
    assert names["latents"].shape[1] == model.latent_dim
    assert len(names["piano"]) == len(names["latents"]) * model.hop_length
    written, sample_rate = soundfile.read("song.piano.wav")
    assert (written.shape, sample_rate) == (names["piano"].shape, model.sample_rate)
    assert names["organ"].shape == names["waveform"].shape
    blocks, _ = soundfile.read("blocks.wav")
    assert blocks.shape == names["waveform"].shape


def test_python_named_in_prose_is_there_and_takes_these_arguments() -> None:
    prose = prose_of("docs/python-api.md")
    n_found = 0
    for text in re.findall(r"`([\w.]+\([^`]*\))`", prose):
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        name = ast.unparse(call.func)
        if name.startswith(("model.", "Translator.")):
            function = getattr(Translator, name.partition(".")[2])
        elif name in core.__all__:
            function = getattr(core, name)
        else:
            assert name == "dir", text
            continue
        given = {own.arg for own in call.keywords}
        assert given <= set(inspect.signature(function).parameters), text
        n_found += 1
    assert n_found > 10
    assert [name for name in core.__all__ if f"`{name}" not in prose] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_command_runs_as_it_stands_there(name: str, tmp_path: Path) -> None:
    run_page(name, tmp_path)
