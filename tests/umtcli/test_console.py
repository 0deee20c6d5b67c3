"""Small parts of the console that no command shows by itself."""

from __future__ import annotations

import doctest
import io
import os
import sys
from pathlib import Path

import pytest

from umtcli import console
from umtcli.console import Environment, Progress, format_seconds


@pytest.fixture
def env() -> Environment:
    return Environment(
        stdin=io.BytesIO(),
        stdout=io.BytesIO(),
        stderr=io.StringIO(),
        stdin_kind="other",
        stdout_kind="data",
        stderr_is_terminal=False,
    )


@pytest.fixture
def streams(tmp_path):
    """A stream of each kind to write to."""
    ours, terminal = os.openpty()
    pipe, written = os.pipe()
    opened = {
        "terminal": os.fdopen(terminal, "w"),
        "pipe": os.fdopen(written, "w"),
        "file": (tmp_path / "out.wav").open("w"),
        "null": Path(os.devnull).open("w"),  # noqa: SIM115 - closed below
    }
    yield opened
    for stream in opened.values():
        stream.close()
    for descriptor in (ours, pipe):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("terminal", "terminal"), ("pipe", "data"), ("file", "data"), ("null", "other")],
)
def test_pipes_and_files_take_data(monkeypatch, streams, name, kind):
    monkeypatch.setattr(sys, "stdout", streams[name])
    assert Environment.from_process().stdout_kind == kind


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1 h 30 min")],
)
def test_format_seconds_rounds_like_a_person(seconds, text):
    assert format_seconds(seconds) == text


def test_examples_of_docstrings_hold():
    assert doctest.testmod(console).failed == 0


def test_progress_of_unknown_total_counts(env):
    now = iter(range(0, 1000, 11))
    env.clock = lambda: next(now)
    with Progress(env, "encoding", None) as progress:
        progress.advance(1.5)
        progress.advance(1.5)
    assert env.stderr.getvalue().splitlines() == [
        "umt: encoding: 1.5 s done",
        "umt: encoding: 3.0 s done",
    ]


def test_progress_never_exceeds_its_total(env):
    now = iter(range(0, 1000, 11))
    env.clock = lambda: next(now)
    with Progress(env, "encoding", 10.0) as progress:
        progress.advance(10.4)
    assert "100 %" in env.stderr.getvalue()


def test_an_estimate_goes_by_the_last_minutes(env):
    """As where an interrupted run had done the first half already, which took no time."""
    now = [0.0]
    env.clock = lambda: now[0]
    with Progress(env, "converting", 200.0) as progress:
        progress.advance(1)
        progress.advance(99)
        for _ in range(50):
            now[0] += 10
            progress.advance(1)
    assert env.stderr.getvalue().splitlines()[-1] == "umt: converting: 75 %, about 8 min left"


def test_message_during_a_bar_stands_on_a_line_of_its_own(env):
    env.stderr_is_terminal = True
    with Progress(env, "encoding", 10.0) as progress:
        progress.advance(1)
        env.error("broken")
    text = env.stderr.getvalue()
    assert "broken\n" in text
    assert env.bar is None


def test_text_that_utf8_cannot_hold_is_escaped(env):
    env.write_text("a\udcff.wav\n")
    assert env.stdout.getvalue() == b"a\\udcff.wav\n"


def test_texts_of_a_table_are_shown_as_they_are(env):
    from rich.table import Table

    for kind in ("data", "terminal"):
        env.stdout_kind, env.stdout = kind, io.BytesIO()
        table = Table(box=None)
        for cell in ("[red]", "[/]", ":piano:", "a\x1b[31mb", "line\nbreak"):
            table.add_row(cell)
        env.write_table(table)
        text = env.stdout.getvalue().decode()
        for shown in ("[red]", "[/]", ":piano:", "a\\x1b[31mb"):
            assert shown in text
        assert "\x1b[31m" not in text
