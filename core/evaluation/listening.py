"""Listening tests: what listeners are asked, what is kept from them, what their answers say.

Two questions, as the paper asked them (Mor et al. 2019, section 4). *Mean opinion score*: beside
the source, how good does a clip sound (quality), and how well was the music turned into the target
(success), each from 1 to 5 (ITU-T P.800). The clips are a model's translations and, hidden among
them, the unchanged source and the true rendering if there is one: a rating says little without
theirs. *Lineup*: one original and its translations; which is the original? A listener who cannot
tell is right as often as chance.

In: clips. Out: a `Test`, whose clips have random names, and a key that tells what each name
stands for. What listeners answer is read by `core.evaluation.ratings`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

KEY_NAME = "key.json"
KEY_MARK, ANSWERS_MARK = "umt_listening_key", "umt_listening_answers"
FORMAT_VERSION = 1
SCALE = (1, 2, 3, 4, 5)
CLIP_SECONDS = 10
CLIP_RMS_DB = -20.0  # all equally loud: loudness passes for quality
PEAK_LIMIT = 0.97


@dataclass(frozen=True)
class Rated:
    """A clip to be rated.

    Attributes:
        system: What made it, a row of `core.metrics.catalogue`.
        piece: What is played.
        target: The domain it should be in.
        source: What it was made from, float32 [T].
        output: What came out, aligned with the source.
    """

    system: str
    piece: str
    target: str
    source: NDArray[np.float32]
    output: NDArray[np.float32]


@dataclass(frozen=True)
class Lineup:
    """An original among its translations, float32 [T] each."""

    piece: str
    original: NDArray[np.float32]
    translations: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class Test:
    """A listening test.

    Attributes:
        shown: What the listener may know, in JSON values: `test`, the trials of `ratings`
            (`id`, `source`, `clip`, `target`) and `lineups` (`id`, `clips`).
        clips: The audio by name.
        key: What is kept from the listener.
    """

    shown: dict[str, Any]
    clips: dict[str, NDArray[np.float32]]
    key: dict[str, Any]


def make_test(rated: Sequence[Rated], lineups: Sequence[Lineup], sample_rate: int) -> Test:
    """Make a blind test of clips; the same clips make the same test.

    Raises:
        DataError: There is nothing to ask about.
    """
    if not rated and not lineups:
        raise DataError("a listening test needs translations with their sources: none found")
    clips: dict[str, NDArray[np.float32]] = {}

    def add(waveform: NDArray[np.float32]) -> str:
        prepared = prepare_clip(waveform, sample_rate)
        # What sounds the same has the same name, which tells nothing about what it is.
        name = hashlib.sha256(prepared.tobytes()).hexdigest()[:12]
        clips[name] = prepared
        return name

    shown: dict[str, Any] = {"ratings": [], "lineups": []}
    key: dict[str, Any] = {"ratings": {}, "lineups": {}}
    for number, own in enumerate(rated):
        trial = {"source": add(own.source), "clip": add(own.output), "target": own.target}
        name = _name(number, trial)
        shown["ratings"].append({"id": name, **trial})
        key["ratings"][name] = {
            "system": own.system,
            "piece": own.piece,
            "target": own.target,
        }
    for number, lineup in enumerate(lineups):
        original = add(lineup.original)
        # In alphabetical order of random names: the original stands anywhere.
        names = sorted({original, *map(add, lineup.translations)})
        name = _name(number, {"clips": names})
        shown["lineups"].append({"id": name, "clips": names})
        key["lineups"][name] = {"piece": lineup.piece, "original": original, "size": len(names)}
    for trials in (shown["ratings"], shown["lineups"]):
        trials.sort(key=lambda trial: trial["id"])
    test = hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:8]
    return Test({"test": test, **shown}, clips, {KEY_MARK: FORMAT_VERSION, "test": test, **key})


def _name(number: int, facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([number, facts]).encode()).hexdigest()[:12]


def prepare_clip(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Return the middle ten seconds of a waveform [T], as loud as all other clips."""
    length = CLIP_SECONDS * sample_rate
    start = max(0, len(waveform) - length) // 2
    clip = waveform[start : start + length]
    level = float(np.sqrt(np.mean(np.square(clip, dtype=np.float64))))
    peak = float(np.abs(clip).max(initial=0))
    if level < 1e-6:
        return clip
    gain = min(10 ** (CLIP_RMS_DB / 20) / level, PEAK_LIMIT / peak)
    return np.asarray(clip * gain, dtype=np.float32)
