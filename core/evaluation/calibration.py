"""How well each metric tells its right pairs from its wrong ones, on music that is known.

In: pieces of which several domains and several renderings exist, and no model. Out: what
`core.metrics.catalogue` publishes. Each piece is "translated" perfectly: the output is the true
rendering itself. Beside it stand the yardsticks of the catalogue, and the true rendering spoilt in
every way of `core.metrics.degradations`. The pieces take turns in the rendering they are played in.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from core.audio.reader import read_audio
from core.evaluation import EVALUATION_RATE
from core.evaluation.sound import Figures, Goal, Sound, figures, sound_figures
from core.metrics import degradations
from core.metrics.catalogue import COPY, METRICS, NOISE, OTHER_RENDERING, TRUE, WRONG_PIECE
from core.metrics.intervals import separation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from core.evaluation.paired import Piece
    from core.metrics.catalogue import Metric
    from core.metrics.timbre import TimbreClassifier

EXCERPT_SECONDS = 15
RANGE_PERCENTILES = (5, 95)

Observation = tuple[str, dict[str, Figures]]  # the rendering, and figures by row or kind of damage


def observe(
    pieces: Sequence[Piece], classifier: TimbreClassifier, numbers: range | None = None
) -> Iterator[Observation]:
    """Measure perfect translations, their yardsticks and their spoilt versions.

    Args:
        pieces: At least two, all in the same domains and in two renderings or more.
        classifier: Of their domains.
        numbers: Which of the pieces, one after the other; default: all of them.

    Yields:
        The rendering that was heard, and its figures; half as many a piece as there are
        domains, each of which is a source or a target once.
    """
    for number in range(len(pieces)) if numbers is None else numbers:
        piece, other_music = pieces[number], pieces[(number + 1) % len(pieces)]
        domains = sorted(piece.files[piece.rendering])
        order = np.random.default_rng(number).permutation(domains).tolist()
        for source, target in zip(order[::2], order[1::2], strict=False):
            yield piece.rendering, _observe_pair(piece, other_music, source, target, classifier)


def _observe_pair(
    piece: Piece, other_music: Piece, source: str, target: str, classifier: TimbreClassifier
) -> dict[str, Figures]:
    def read(own: Piece, rendering: str, domain: str) -> Sound:
        waveform = read_audio(own.files[rendering][domain], EVALUATION_RATE)
        return Sound(waveform[: EXCERPT_SECONDS * EVALUATION_RATE], EVALUATION_RATE, classifier)

    played, truth = (read(piece, piece.rendering, domain) for domain in (source, target))
    *nearer, last = (read(piece, name, target) for name in piece.others)
    goal = Goal(played, target, source, [truth, *nearer])
    rows = {
        TRUE: figures(truth, goal),
        COPY: figures(played, goal),
        WRONG_PIECE: figures(read(other_music, other_music.rendering, target), goal),
        OTHER_RENDERING: figures(last, goal),
    }
    return rows | _spoilt(truth, goal)


def _spoilt(truth: Sound, goal: Goal) -> dict[str, Figures]:
    versions = {
        NOISE: degradations.noise(truth.waveform),
        "smeared": degradations.smeared(truth.waveform),
        "hissing": degradations.hissing(truth.waveform),
        "clipped": degradations.clipped(truth.waveform),
        "interrupted": degradations.interrupted(truth.waveform, EVALUATION_RATE),
    }
    return {
        name: sound_figures(
            Sound(waveform, EVALUATION_RATE, truth.classifier), goal.target, goal.references
        )
        for name, waveform in versions.items()
    }


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
        if (auc := _auc(metric, rows)) is not None:
            result[name] = {
                "auc": auc,
                "auc_held_out": _auc(metric, alone),
                "rows": {row: _range(values) for row, values in rows.items()},
            }
    return result


def _auc(metric: Metric, rows: Mapping[str, Sequence[float]]) -> float | None:
    """Return how often a positive pair has a better figure than a negative one."""
    sign = 1 if metric.is_higher_better else -1
    better, worse = (
        [sign * value for value in rows.get(row, ())] for row in (metric.positive, metric.negative)
    )
    return separation(better, worse)


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
