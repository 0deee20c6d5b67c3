"""Parsed values against annotations: what is built, what is refused, and in which words."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from core.errors import DataError, UmtError
from core.parsing import MAX_DEPTH, build, parse_json


@dataclass(frozen=True)
class Part:
    split: Literal["train", "test"]
    start: int

    def __post_init__(self) -> None:
        if self.start < 0:
            raise ValueError(f"start {self.start}: expected 0 or more")


@dataclass(frozen=True)
class Track:
    file: str
    level_db: float
    parts: tuple[Part, ...]
    source: str | None = None
    options: dict[str, bool | int | float | str] = field(default_factory=dict)
    span: tuple[float, float] = (0.0, 1.0)
    notes: list[Any] = field(default_factory=list)
    is_loud: bool = False


GOOD = {"file": "a.npy", "level_db": -20, "parts": [{"split": "train", "start": 0}]}


def read(values: object, **options: Any) -> Track:
    return build(Track, values, "x.json: ", error=DataError, **options)


def test_values_become_the_types_of_the_annotations():
    track = read({**GOOD, "span": [0, 2], "options": {"a": True, "b": 1, "c": 0.5}})
    assert track.parts == (Part("train", 0),)
    assert (track.level_db, type(track.level_db)) == (-20.0, float)
    assert track.span == (0.0, 2.0)
    assert [type(value) for value in track.options.values()] == [bool, int, float]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": 3}, "x.json: file = 3: expected a text"),
        ({"level_db": "low"}, "x.json: level_db = 'low': expected a number"),
        ({"level_db": True}, "level_db = True: expected a number"),
        ({"level_db": float("nan")}, "level_db = nan: expected a number"),
        ({"level_db": 10**5000}, "level_db = a huge integer: expected a number"),
        ({"parts": "all"}, "parts = 'all': expected a list"),
        ({"parts": [{"split": "train"}]}, r"parts\[0\].start is missing"),
        ({"parts": [{"split": "dev", "start": 0}]}, r"parts\[0\].split = 'dev': expected 'train'"),
        ({"parts": [{"split": "train", "start": 1.0}]}, "start = 1.0: expected an integer"),
        ({"parts": [{"split": "train", "start": -1}]}, r"parts\[0\]: start -1: expected 0 or more"),
        ({"parts": [[]]}, r"parts\[0\] = \[\]: expected named values"),
        ({"source": 1}, "source = 1: expected a text or nothing"),
        ({"options": {"a": None}}, "options.a = None: expected true or false or an integer"),
        ({"span": [1, 2, 3]}, r"span = \[1, 2, 3\]: expected 2 values"),
        ({"is_loud": 1}, "is_loud = 1: expected true or false"),
        ({"extra": 1}, "unknown key 'extra'; known: file, "),
        ({"x" * 500: 1}, "unknown key 'x{59}…; known"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_is_accepted(changes, message):
    with pytest.raises(DataError, match=message):
        read(GOOD | changes)


@pytest.mark.parametrize("values", [None, [], 3, "text"])
def test_a_whole_of_another_kind_is_refused(values):
    with pytest.raises(DataError, match="expected named values"):
        read(values)


def test_keys_are_ignored_only_where_the_caller_says_so():
    assert read(GOOD | {"old": 1}, ignored=("old",)) == read(GOOD)
    newer = {**GOOD, "parts": [{"split": "train", "start": 0, "stop": 9}], "new": {}}
    assert read(newer, ignores_unknown=True) == read(GOOD)
    with pytest.raises(DataError, match=r"unknown key 'stop' in parts\[0\]"):
        read(newer, ignored=("new",))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "nul", "[1,]", "NaN", "[Infinity]", "1e999", b"\xff\xfe", "[" * 100_000),
        "1" * 5000,
        str(2**64),
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    ],
)
def test_text_that_is_no_strict_json_is_refused_in_one_line(text):
    with pytest.raises(UmtError) as caught:
        parse_json(text, "x.json: ", error=DataError)
    assert str(caught.value).startswith("x.json: ")
    assert "\n" not in str(caught.value)


def test_strict_json_is_parsed():
    values = {"a": [1, 2.5, None, True, "x"], "b": {"c": {}}}
    assert parse_json(json.dumps(values), "", error=DataError) == values


def test_parsing_loads_nothing_heavy():
    code = "import sys, core.parsing; print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
