"""Figures beside their yardsticks, with intervals, and as shares of the way between two ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.metrics.catalogue import COPY, METRICS, ROWS
from core.metrics.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from core.evaluation.sound import Figures

HEARD = 0.5  # probability above which a sound is heard as a domain's
Rows = dict[str, "Figures"]  # the figures of each row of the catalogue that there is


@dataclass(frozen=True)
class Estimate:
    """One figure of one row.

    Attributes:
        value: None where it is not defined.
        interval: Where the value lies with a probability of 95 %; None where that is unknown.
        share: Of the way between the metric's two ends; 1 is all of it.
    """

    value: float | None
    interval: Interval | None
    share: float | None


ScoreCard = dict[str, dict[str, Estimate]]  # by metric, then by row


def card_of_one(rows: Rows, intervals: Mapping[str, Mapping[str, Interval | None]]) -> ScoreCard:
    """Make the score card of one piece of audio.

    Args:
        rows: Figures by row.
        intervals: By row and metric, where there are any.
    """
    means = {row: dict(figures) for row, figures in rows.items()}
    return _card(means, intervals)


def card_of_many(pieces: Sequence[tuple[Hashable, Rows]]) -> ScoreCard:
    """Make the score card of the means over many translations.

    A row's mean is over the translations that have a figure of it.

    Args:
        pieces: For each translation the piece of music it is of, and its rows. Translations of
            one piece depend on one another, so intervals are drawn by piece.
    """
    means: dict[str, Figures] = {}
    intervals: dict[str, dict[str, Interval | None]] = {}
    for row in ROWS:
        for name in METRICS:
            found = [
                (piece, value)
                for piece, rows in pieces
                if (value := rows.get(row, {}).get(name)) is not None
            ]
            if found:
                labels, values = zip(*found, strict=True)
                means.setdefault(row, {})[name] = float(np.mean(values))
                intervals.setdefault(row, {})[name] = mean_interval(values, labels)
    return _card(means, intervals)


def _card(
    means: Mapping[str, Figures], intervals: Mapping[str, Mapping[str, Interval | None]]
) -> ScoreCard:
    card: ScoreCard = {}
    # A source that is heard as the target already has no way to go.
    is_there = (means.get(COPY, {}).get("target_probability") or 0.0) > HEARD
    for name, metric in METRICS.items():
        values = {row: own[name] for row in ROWS if name in (own := means.get(row, {}))}
        if not values:
            continue
        has_no_way = is_there and metric.question == "target"
        card[name] = {
            row: Estimate(
                value=value,
                interval=intervals.get(row, {}).get(name),
                share=None if has_no_way else metric.share(value, values),
            )
            for row, value in values.items()
        }
    return card


def interval_around(value: float | None, parts: Iterable[float | None]) -> Interval | None:
    """Return the interval of a figure of a whole file from the figures of its parts.

    A figure of the whole is not quite the mean of its parts' figures; only their spread is taken.
    """
    known = [own for own in parts if own is not None]
    found = mean_interval(known)
    if value is None or found is None:
        return None
    shift = value - float(np.mean(known))
    return found[0] + shift, found[1] + shift
