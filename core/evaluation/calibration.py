"""How well each metric tells its right pairs from its wrong ones, on music that is known.

In: pieces of which several domains and several renderings exist, and no model. Out: what
`core.metrics.catalogue` publishes. Each piece is "translated" perfectly: the output is the true
rendering itself. Beside it stand the yardsticks of the catalogue, and the true rendering spoilt in
every way of `core.metrics.spoiling`. The pieces take turns in the rendering they are played in.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from core.audio.reading import read_audio
from core.evaluation.sound import Figures, Goal, Sound, figures, quality_figures
from core.metrics import spoiling
from core.metrics.catalogue import COPY, METRICS, NOISE, OTHER_RENDERING, TRUE, WRONG_PIECE
from core.metrics.intervals import separation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.evaluation.paired import Piece
    from core.metrics.timbre import TimbreClassifier

RATE = 44_100  # Hz
RANGE_PERCENTILES = (5, 95)

Observation = tuple[str, dict[str, Figures]]  # the rendering, and figures by row or kind of damage


def observe(
    pieces: Sequence[Piece], classifier: TimbreClassifier, numbers: range | None = None
) -> Iterator[Observation]:
    """Measure perfect translations, their yardsticks and their spoilt versions.

    Args:
        pieces: At least two, all in the same domains and in two renderings or more; each domain
            is once a source and once a target of each piece.
        classifier: Of their domains.
        numbers: Which of the pieces, one after the other; default: all of them.

    Yields:
        The rendering that was heard, and its figures.
    """
    numbers = numbers or range(len(pieces))
    domains = sorted(pieces[0].files[pieces[0].rendering])

    def read(number: int) -> dict[str, Sound]:
        piece = pieces[number % len(pieces)]
        return _read(piece, piece.rendering, domains, classifier)

    others = read(numbers.start)
    for number in numbers:
        # What is the wrong music for this piece is the right one for the next.
        played, others = others, read(number + 1)
        piece = pieces[number]
        shift = 1 + number % (len(domains) - 1)
        *nearer, last = [_read(piece, name, domains, classifier) for name in piece.others]
        for index, source in enumerate(domains):
            target = domains[(index + shift) % len(domains)]
            references = [own[target] for own in (played, *nearer) if target in own]
            goal = Goal(played[source], target, source, references)
            rows = {
                TRUE: figures(played[target], goal),
                COPY: figures(played[source], goal),
                WRONG_PIECE: figures(others[target], goal),
                OTHER_RENDERING: figures(last[target], goal),
            }
            yield piece.rendering, rows | _spoilt(played[target], goal)


def _read(
    piece: Piece, rendering: str, domains: Sequence[str], classifier: TimbreClassifier
) -> dict[str, Sound]:
    files = piece.files[rendering]
    return {
        domain: Sound(read_audio(files[domain], RATE), RATE, classifier)
        for domain in domains
        if domain in files
    }


def _spoilt(truth: Sound, goal: Goal) -> dict[str, Figures]:
    versions = {
        NOISE: spoiling.noise(truth.waveform),
        "smeared": spoiling.smeared(truth.waveform),
        "hissing": spoiling.hissing(truth.waveform),
        "clipped": spoiling.clipped(truth.waveform),
        "interrupted": spoiling.interrupted(truth.waveform, RATE),
    }
    found = {}
    for name, waveform in versions.items():
        sound = Sound(waveform, RATE, truth.classifier)
        distance = figures(sound, Goal(None, None, None, goal.references))
        found[name] = distance | quality_figures(sound, goal.target)
    return found


def summarise(observations: Sequence[Observation], held_out: str | None) -> dict[str, Any]:
    """Return what is published of each metric.

    Args:
        observations: From `observe`.
        held_out: The rendering that the classifier was not trained on, if there is one.

    Returns:
        By metric: `auc` of its positive against its negative pairs, `auc_held_out` of those in
        the held-out rendering alone, and each row's mean and 5 to 95 % range.
    """
    result = {}
    for name, metric in METRICS.items():
        rows = _by_row(observations, name)
        alone = _by_row([own for own in observations if own[0] == held_out], name)
        sign = 1 if metric.is_higher_better else -1

        def auc(found: dict[str, list[float]], pair: tuple[str, str], sign: int) -> float | None:
            better, worse = ([sign * value for value in found[row]] for row in pair)
            return separation(better, worse)

        pair = (metric.positive, metric.negative)
        if (overall := auc(rows, pair, sign)) is not None:
            result[name] = {
                "auc": overall,
                "auc_held_out": auc(alone, pair, sign),
                "rows": {row: _range(values) for row, values in rows.items()},
            }
    return result


def _by_row(observations: Sequence[Observation], name: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for _, rows in observations:
        for row, own in rows.items():
            if (value := own.get(name)) is not None:
                found[row].append(value)
    return found


def _range(values: Sequence[float]) -> dict[str, float]:
    low, high = np.percentile(values, RANGE_PERCENTILES)
    return {
        "mean": float(np.mean(values)),
        "low": float(low),
        "high": float(high),
        "n": len(values),
    }
