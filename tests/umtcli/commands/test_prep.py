"""`umt prep` as a command: its table, its JSON, its exit code."""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path

import pytest

from ..conftest import write_song


@pytest.fixture
def recordings(tmp_path) -> Path:
    folder = tmp_path / "bach suites"
    folder.mkdir()
    for number in range(3):
        write_song(folder / f"{number}.wav", 6.0 + number, sample_rate=8000)
    return folder


PREP = ("prep", "--rate", 8000, "--jobs", 1)


def test_table_of_minutes_is_the_result(umt, recordings):
    ran = umt(*PREP, recordings, "--name", "bach")
    assert ran.code == 0
    text = ran.stdout.decode()
    assert "bach" in text
    for split in ("train", "validation", "test"):
        assert split in text
    assert Path("data/bach/domain.json").is_file()


def test_json_has_the_same_facts(umt, recordings):
    ran = umt(*PREP, recordings, "--name", "bach", "--out", "elsewhere", "--json")
    answer = json.loads(ran.stdout)
    assert (answer["command"], answer["version"], answer["failures"]) == ("prep", 1, [])
    (domain,) = answer["results"]
    assert domain["tracks"] == {"train": 1, "validation": 1, "test": 1}
    assert sum(domain["minutes"].values()) == pytest.approx(21 / 60, abs=0.01)
    assert domain["directory"] == "elsewhere/bach"


def test_second_run_converts_nothing(umt, recordings):
    umt(*PREP, recordings, "--name", "bach")
    answer = json.loads(umt(*PREP, recordings, "--name", "bach", "--json").stdout)
    assert answer["results"][0]["converted"] == 0


def test_long_work_shows_how_far_it_is_and_how_long_it_will_take(umt, recordings):
    """Each look at the clock is 20 s after the one before."""
    (recordings / "3.wav").write_bytes((recordings / "0.wav").read_bytes()[:-2])
    ran = umt(*PREP, recordings, "--name", "bach", clock=count(0, 20).__next__)
    assert ran.code == 0
    for label in ("reading bach", "converting bach"):
        lines = [line for line in ran.stderr.splitlines() if line.startswith(f"umt: {label}: ")]
        shares = [int(match[1]) for line in lines if (match := re.search(r"(\d+) %", line))]
        assert shares == sorted(shares), "one bar for each"
        assert shares[-1] == 100
        assert any(re.search(r"about \d+ (s|min) left", line) for line in lines), lines


def test_unreadable_file_is_reported_skipped_and_fails_the_run(umt, recordings):
    (recordings / "broken.wav").write_bytes(b"no audio")
    ran = umt(*PREP, recordings, "--name", "bach")
    assert ran.code == 1
    assert "broken.wav" in ran.errors[0]
    assert b"bach" in ran.stdout


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("missing",),
        ("here", "--split", "1,2"),
        ("here", "--split", "a,b,c"),
        ("here", "--musicnet", "here"),
        ("--musicnet", "here", "--name", "x"),
    ],
)
def test_wrong_usage_changes_nothing(umt, tmp_path, args):
    (tmp_path / "here").mkdir()
    ran = umt(*PREP, *args)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert not Path("data").exists()
