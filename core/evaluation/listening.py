"""A blind listening test: its questions, its secret key, and the statistics of its answers.

Two questions, as in the paper (Mor et al. 2019, section 4). *Mean opinion score*: compared with the
source, how good does a clip sound (quality), and how well was the music turned into the target
(success), each from 1 to 5 (ITU-T P.800). The clips are a model's translations and, hidden among
them, the unchanged source and the true rendering if there is one, which show how listeners use the
scale. *Lineup*: one original and its translations; which is the original? A listener who cannot
tell is right as often as chance.

In: clips. Out: a `ListeningTest`, whose clips have random names, and a `Key` that maps each name to
what it stands for. Then in: the files that the listeners' page saves, and the key. Out: mean
opinions of each system, and how often the original was found.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from core.errors import DataError
from core.metrics.catalogue import ROWS
from core.metrics.intervals import Interval, mean_interval
from core.parsing import build, parse_json, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

T = TypeVar("T")

KEY_NAME = "key.json"
KEY_MARK, ANSWERS_MARK = "umt_listening_key", "umt_listening_answers"
FORMAT_VERSION = 1
MAX_FILE_BYTES = 2**24  # answers and keys are a few kilobytes
SCALE = (1, 2, 3, 4, 5)
CLIP_SECONDS = 10
CLIP_RMS_DB = -20.0  # all equally loud: listeners take loudness for quality
PEAK_LIMIT = 0.97

_DESCRIPTIONS = {
    ANSWERS_MARK: "the answers of a listening test; the page saves them",
    KEY_MARK: "the key of a listening test; put the one here that was written with the page",
}


@dataclass(frozen=True)
class RatedClip:
    """A clip to be rated.

    Attributes:
        system: What made it, a row of `core.metrics.catalogue`.
        piece: The piece of music.
        target: The domain it should be in.
        source: What it was made from, float32 [T].
        output: The clip, float32 [T], aligned with the source.
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
class RatingTrial:
    """A question about one clip, as the listener's page has it."""

    id: str
    source: str
    clip: str
    target: str


@dataclass(frozen=True)
class LineupTrial:
    """The question which of some clips is the original, as the listener's page has it."""

    id: str
    clips: list[str]


@dataclass(frozen=True)
class Trials:
    """All questions; nothing in them gives away what a clip is."""

    test: str
    ratings: list[RatingTrial]
    lineups: list[LineupTrial]


@dataclass(frozen=True)
class RatedSystem:
    """What a rating's clip is."""

    system: str
    piece: str
    target: str

    def __post_init__(self) -> None:
        """Refuse what no test asks about."""
        if self.system not in ROWS:
            raise ValueError(f"system = {shortened(self.system)}: known are {', '.join(ROWS)}")


@dataclass(frozen=True)
class LineupSolution:
    """Which of a lineup's clips is the original, and how many there are."""

    piece: str
    original: str
    size: int

    def __post_init__(self) -> None:
        """Refuse an impossible number of clips."""
        if self.size < 1:
            raise ValueError(f"size = {self.size}: expected 1 or more")


@dataclass(frozen=True)
class Key:
    """What is kept from the listener: the answers' meaning, by the trials' ids."""

    test: str
    ratings: dict[str, RatedSystem]
    lineups: dict[str, LineupSolution]


@dataclass(frozen=True)
class ListeningTest:
    """A listening test.

    Attributes:
        trials: The questions, in JSON values after `asdict`.
        clips: The audio by name, float32 [T].
        key: What is kept from the listener.
    """

    trials: Trials
    clips: dict[str, NDArray[np.float32]]
    key: Key


@dataclass(frozen=True)
class Rating:
    """One answer, each opinion from 1 to 5."""

    id: str
    quality: int
    success: int

    def __post_init__(self) -> None:
        """Refuse what is off the scale."""
        for opinion in (self.quality, self.success):
            if opinion not in SCALE:
                raise ValueError(f"an opinion of {opinion}: expected {SCALE[0]} to {SCALE[-1]}")


@dataclass(frozen=True)
class Choice:
    """The name of the clip that was taken for the original of a lineup."""

    id: str
    choice: str


@dataclass(frozen=True)
class Answers:
    """Everything that one listener answered."""

    test: str
    listener: str
    ratings: list[Rating]
    lineups: list[Choice]


@dataclass(frozen=True)
class Opinion:
    """Mean opinion of one system.

    Attributes:
        system: What made the clips.
        n: Number of ratings.
        quality: Mean, 1 to 5.
        quality_interval: 95 %, resampled by listener; None for a single listener.
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
        n: Number of lineups that were answered.
        accuracy: Fraction of right answers.
        interval: 95 %, resampled by listener; None for a single listener.
        chance: The accuracy of guessing.
        p_value: Probability that guessing is right at least as often.
    """

    n: int
    accuracy: float
    interval: Interval | None
    chance: float
    p_value: float


@dataclass(frozen=True)
class Ratings:
    """The result of a listening test."""

    n_listeners: int
    opinions: list[Opinion]
    lineup: LineupResult | None


def make_test(
    rated: Sequence[RatedClip], lineups: Sequence[Lineup], sample_rate: int
) -> ListeningTest:
    """Make a blind test of clips; the same clips make the same test.

    Raises:
        DataError: There are no clips.
    """
    if not rated and not lineups:
        raise DataError("a listening test needs translations with their sources: none found")
    clips: dict[str, NDArray[np.float32]] = {}

    def add(waveform: NDArray[np.float32]) -> str:
        prepared = prepare_clip(waveform, sample_rate)
        # Equal clips get equal names, and a name gives nothing away about the clip's origin.
        name = hashlib.sha256(prepared.tobytes()).hexdigest()[:12]
        clips[name] = prepared
        return name

    rating_trials: list[RatingTrial] = []
    rating_key: dict[str, RatedSystem] = {}
    for number, own in enumerate(rated):
        facts = {"source": add(own.source), "clip": add(own.output), "target": own.target}
        trial = RatingTrial(_trial_id(number, facts), **facts)
        rating_trials.append(trial)
        rating_key[trial.id] = RatedSystem(own.system, own.piece, own.target)
    lineup_trials: list[LineupTrial] = []
    lineup_key: dict[str, LineupSolution] = {}
    for number, lineup in enumerate(lineups):
        original = add(lineup.original)
        # In alphabetical order of random names: the original may be at any place.
        names = sorted({original, *map(add, lineup.translations)})
        identifier = _trial_id(number, {"clips": names})
        lineup_trials.append(LineupTrial(identifier, names))
        lineup_key[identifier] = LineupSolution(lineup.piece, original, len(names))
    rating_trials.sort(key=lambda trial: trial.id)
    lineup_trials.sort(key=lambda trial: trial.id)
    facts_of_all = {
        "ratings": [asdict(trial) for trial in rating_trials],
        "lineups": [asdict(trial) for trial in lineup_trials],
    }
    test = hashlib.sha256(json.dumps(facts_of_all).encode()).hexdigest()[:8]
    return ListeningTest(
        Trials(test, rating_trials, lineup_trials), clips, Key(test, rating_key, lineup_key)
    )


def _trial_id(number: int, facts: Mapping[str, str | list[str]]) -> str:
    # With the number: the same clips may be asked about twice.
    return hashlib.sha256(json.dumps([number, facts]).encode()).hexdigest()[:12]


def prepare_clip(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Return the middle ten seconds of a waveform [T], at the same level for all clips."""
    length = CLIP_SECONDS * sample_rate
    start = max(0, len(waveform) - length) // 2
    clip = waveform[start : start + length]
    level = float(np.sqrt(np.mean(np.square(clip, dtype=np.float64))))
    peak = float(np.abs(clip).max(initial=0))
    if level < 1e-6:
        return clip
    # Clipped clips would be recognised; rather a little quieter than the others.
    gain = min(10 ** (CLIP_RMS_DB / 20) / level, PEAK_LIMIT / peak)
    return np.asarray(clip * gain, dtype=np.float32)


def key_json(key: Key) -> str:
    """Return the content of a key's file."""
    return json.dumps({KEY_MARK: FORMAT_VERSION, **asdict(key)}, indent=1) + "\n"


def read_answers(paths: Sequence[Path]) -> Ratings:
    """Read listeners' answers and the key of their test, which is beside them or one level up.

    Raises:
        DataError: A file is no such file, the key is missing, or the answers are of several
            tests or twice from one listener.
    """
    answers = [_read(path, ANSWERS_MARK, Answers) for path in paths]
    key = _find_key(paths[0], answers[0].test)
    listeners: dict[str, Path] = {}
    for path, own in zip(paths, answers, strict=True):
        if own.test != key.test:
            raise DataError(f"{path}: of another test than {paths[0]}; rate one test at a time")
        if own.listener in listeners:
            raise DataError(
                f"{path}: {shortened(own.listener)} has answered in {listeners[own.listener]} "
                "already"
            )
        listeners[own.listener] = path
        _check_trials(path, own, key)
    return summarise_answers(key, answers)


def _read(path: Path, mark: str, kind: type[T]) -> T:
    try:
        with path.open("rb") as file:
            # Never the whole: it may be a device, which has no end.
            text = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason})") from error
    if len(text) > MAX_FILE_BYTES:
        raise DataError(f"{path}: not {_DESCRIPTIONS[mark]}")
    content = parse_json(text, f"{path}: ", error=DataError)
    if not isinstance(content, dict) or content.get(mark) != FORMAT_VERSION:
        raise DataError(f"{path}: not {_DESCRIPTIONS[mark]}")
    return build(kind, content, f"{path}: damaged: ", error=DataError, ignored=(mark,))


def _find_key(path: Path, test: str) -> Key:
    # Not `path.parent.parent`, which of a file in the working directory is that directory again.
    for folder in (path.parent, path.parent / ".."):
        if (folder / KEY_NAME).is_file():
            key = _read(folder / KEY_NAME, KEY_MARK, Key)
            if key.test == test:
                return key
    raise DataError(
        f"{path}: no {KEY_NAME} of test {shortened(test)} here or one level up; put it there"
    )


def _check_trials(path: Path, answers: Answers, key: Key) -> None:
    """Refuse answers to questions that the test does not have, or two answers to one."""
    for given, known in ((answers.ratings, key.ratings), (answers.lineups, key.lineups)):
        ids = [own.id for own in given]
        if len(ids) != len(set(ids)) or not known.keys() >= set(ids):
            raise DataError(f"{path}: damaged answers; ask the listener to save them again")


def summarise_answers(key: Key, answers: Sequence[Answers]) -> Ratings:
    """Return the mean opinions and the lineups' accuracy.

    Args:
        key: Of the test.
        answers: Of each listener.
    """
    groups: dict[str, list[tuple[int, Rating]]] = defaultdict(list)
    for listener, own in enumerate(answers):
        for rating in own.ratings:
            groups[key.ratings[rating.id].system].append((listener, rating))
    choices = [
        (listener, key.lineups[own.id], own.choice)
        for listener, everything in enumerate(answers)
        for own in everything.lineups
    ]
    opinions = [_opinion(system, groups[system]) for system in sorted(groups)]
    return Ratings(len(answers), opinions, _lineup_result(choices) if choices else None)


def _opinion(system: str, ratings: Sequence[tuple[int, Rating]]) -> Opinion:
    listeners = [listener for listener, _ in ratings]
    quality = [own.quality for _, own in ratings]
    success = [own.success for _, own in ratings]
    return Opinion(
        system=system,
        n=len(ratings),
        quality=float(np.mean(quality)),
        quality_interval=mean_interval(quality, listeners),
        success=float(np.mean(success)),
        success_interval=mean_interval(success, listeners),
    )


def _lineup_result(choices: Sequence[tuple[int, LineupSolution, str]]) -> LineupResult:
    right = [float(choice == lineup.original) for _, lineup, choice in choices]
    chances = [1 / lineup.size for _, lineup, _ in choices]
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
