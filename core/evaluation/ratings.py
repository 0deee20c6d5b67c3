"""What the listeners of a listening test said, on average and beside chance.

In: the files that the page of a test saves, and the key of the test (`core.evaluation.listening`).
Out: mean opinions of each system, and how often the original was found in a lineup.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import DataError
from core.evaluation.listening import ANSWERS_MARK, FORMAT_VERSION, KEY_MARK, KEY_NAME, SCALE
from core.metrics.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_KINDS = {
    ANSWERS_MARK: "the answers of a listening test; the page saves them",
    KEY_MARK: "the key of a listening test; put the one here that was written with the page",
}


@dataclass(frozen=True)
class Opinion:
    """Mean opinion of one system.

    Attributes:
        system: What made the clips.
        n: How many ratings.
        quality: Mean, 1 to 5.
        quality_interval: 95 %, drawn by listener; None for a single listener.
        success: Mean, 1 to 5.
        success_interval: As that of quality.
    """

    system: str
    n: int
    quality: float
    quality_interval: Interval | None
    success: float
    success_interval: Interval | None


@dataclass(frozen=True)
class LineupResult:
    """How often the original was found.

    Attributes:
        n: How many lineups were answered.
        accuracy: Share of right answers.
        interval: 95 %, drawn by listener; None for a single listener.
        chance: What guessing gives.
        p_value: Probability that guessing alone is right at least as often.
    """

    n: int
    accuracy: float
    interval: Interval | None
    chance: float
    p_value: float


@dataclass(frozen=True)
class Ratings:
    """What the listeners of one test said."""

    n_listeners: int
    opinions: list[Opinion]
    lineup: LineupResult | None


def read_answers(paths: Sequence[Path]) -> Ratings:
    """Read listeners' answers and the key of their test, which lies beside them or one level up.

    Raises:
        DataError: A file is no such file, the key is missing, or the answers are of several
            tests or twice from one listener.
    """
    answers = [_read_json(path, ANSWERS_MARK) for path in paths]
    key = _find_key(paths[0], str(answers[0].get("test")))
    heard: dict[str, Path] = {}
    for path, own in zip(paths, answers, strict=True):
        if own.get("test") != key["test"]:
            raise DataError(f"{path}: of another test than {paths[0]}; rate one test at a time")
        listener = str(own.get("listener"))
        if listener in heard:
            raise DataError(f"{path}: {listener} has answered in {heard[listener]} already")
        heard[listener] = path
        _check(path, own, key)
    return summarise_answers(key, answers)


def _read_json(path: Path, mark: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not a file of a listening test ({error})") from error
    if not isinstance(content, dict) or content.get(mark) != FORMAT_VERSION:
        raise DataError(f"{path}: not {_KINDS[mark]}")
    return content


def _find_key(path: Path, test: str) -> dict[str, Any]:
    for folder in (path.parent, path.parent / ".."):
        if (folder / KEY_NAME).is_file():
            key = _read_json(folder / KEY_NAME, KEY_MARK)
            if key.get("test") == test:
                return key
    raise DataError(f"{path}: no {KEY_NAME} of test {test} here or one level up; put it there")


def _check(path: Path, answers: Mapping[str, Any], key: Mapping[str, Any]) -> None:
    """Refuse answers to what was not asked, or off the scale."""
    try:
        good = all(
            own["id"] in key["ratings"] and own["quality"] in SCALE and own["success"] in SCALE
            for own in answers["ratings"]
        ) and all(own["id"] in key["lineups"] and own["choice"] for own in answers["lineups"])
    except (KeyError, TypeError):
        good = False
    if not good:
        raise DataError(f"{path}: damaged answers; ask the listener to save them again")


def summarise_answers(key: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> Ratings:
    """Return what listeners said on average.

    Args:
        key: Of the test.
        answers: Of each listener, with `ratings` and `lineups`.
    """
    groups: dict[str, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for listener, own in enumerate(answers):
        for rating in own["ratings"]:
            groups[key["ratings"][rating["id"]]["system"]].append((listener, rating))
    choices = [
        (listener, key["lineups"][own["id"]], own["choice"])
        for listener, everything in enumerate(answers)
        for own in everything["lineups"]
    ]
    opinions = [_opinion(system, groups[system]) for system in sorted(groups)]
    return Ratings(len(answers), opinions, _lineup_result(choices) if choices else None)


def _opinion(system: str, ratings: Sequence[tuple[int, Mapping[str, Any]]]) -> Opinion:
    listeners = [listener for listener, _ in ratings]
    quality, success = ([own[of] for _, own in ratings] for of in ("quality", "success"))
    return Opinion(
        system=system,
        n=len(ratings),
        quality=float(np.mean(quality)),
        quality_interval=mean_interval(quality, listeners),
        success=float(np.mean(success)),
        success_interval=mean_interval(success, listeners),
    )


def _lineup_result(choices: Sequence[tuple[int, Mapping[str, Any], str]]) -> LineupResult:
    right = [float(choice == lineup["original"]) for _, lineup, choice in choices]
    chances = [1 / lineup["size"] for _, lineup, _ in choices]
    return LineupResult(
        n=len(right),
        accuracy=float(np.mean(right)),
        interval=mean_interval(right, [listener for listener, _, _ in choices]),
        chance=float(np.mean(chances)),
        p_value=guessing_probability(chances, round(sum(right))),
    )


def guessing_probability(chances: Sequence[float], n_right: int) -> float:
    """Return how likely guesses, each right with its own chance, are right so often or more."""
    distribution = np.ones(1)  # of the number of right guesses
    for chance in chances:
        distribution = np.convolve(distribution, (1 - chance, chance))
    return float(min(1.0, distribution[n_right:].sum()))
