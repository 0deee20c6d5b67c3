"""Figures beside their baselines: confidence intervals, normalised scores, usual ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.metrics.catalogue import COPY, METRICS, ROWS, calibration
from core.metrics.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from core.evaluation.analysis import Figures
    from core.metrics.timbre import TimbreClassifier

HEARD = 0.5  # probability above which audio counts as a domain's
Rows = dict[str, "Figures"]  # the figures of each row of the catalogue that there is


@dataclass(frozen=True)
class Estimate:
    """One figure of one row.

    Attributes:
        value: None where it is not defined.
        interval: 95 % bootstrap interval; None where there is only one observation.
        score: Normalised score: 0 = worst baseline, 1 = best.
    """

    value: float | None
    interval: Interval | None
    score: float | None


ScoreCard = dict[str, dict[str, Estimate]]  # by metric, then by row


def card_of_one(rows: Rows, intervals: Mapping[str, Mapping[str, Interval | None]]) -> ScoreCard:
    """Build the score card of one piece of audio.

    Args:
        rows: Figures by row.
        intervals: By row and metric, where there are any.
    """
    means = {row: dict(figures) for row, figures in rows.items()}
    return _card(means, intervals)


def card_of_many(pieces: Sequence[tuple[Hashable, Rows]]) -> ScoreCard:
    """Build the score card of the means over many translations.

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
    # A source that is in the target's domain already leaves nothing to gain.
    is_there = (means.get(COPY, {}).get("target_probability") or 0.0) > HEARD
    for name, metric in METRICS.items():
        values = {row: own[name] for row in ROWS if name in (own := means.get(row, {}))}
        if not values:
            continue
        has_no_score = is_there and metric.question == "target"
        card[name] = {
            row: Estimate(
                value=value,
                interval=intervals.get(row, {}).get(name),
                score=None if has_no_score else metric.score(value, values),
            )
            for row, value in values.items()
        }
    return card


def interval_around(value: float | None, parts: Iterable[float | None]) -> Interval | None:
    """Return the interval of a figure of a whole file from the figures of its parts.

    A figure of the whole is not exactly the mean of its parts' figures, so only their spread is
    used.
    """
    known = [own for own in parts if own is not None]
    found = mean_interval(known)
    if value is None or found is None:
        return None
    shift = value - float(np.mean(known))
    return found[0] + shift, found[1] + shift


def usual_ranges(classifier: TimbreClassifier, target: str | None) -> dict[str, Interval]:
    """Return the range of each figure that holds 90 % of what recordings show.

    The quality figures of a target that the classifier knows are compared with its own training
    audio, excerpt by excerpt. All others are compared with the true renderings of the published
    calibration; its timbre figures are of the shipped classifier's domains and hold for no other.
    """
    # One trained on the user's data may have the same domains, but its probabilities differ.
    is_calibrated = (
        set(classifier.domains) == set(calibration()["domains"])
        and "data" not in classifier.training
    )
    found = {
        name: own
        for name, metric in METRICS.items()
        if (own := metric.calibrated_range) is not None
        and (is_calibrated or metric.question != "target")
    }
    recordings = classifier.references[target].quality if target is not None else {}
    # A classifier that an earlier version stored has figures that are no metrics any more.
    own_ranges = {name: (low, high) for name, (low, _, high) in recordings.items()}
    return found | {name: own for name, own in own_ranges.items() if name in METRICS}


def unusual_figures(found: Figures, usual: Mapping[str, Interval]) -> tuple[str, ...]:
    """Return the metrics whose figure is outside the range that recordings usually show."""
    return tuple(
        name
        for name, own in usual.items()
        if (value := found.get(name)) is not None and METRICS[name].is_unusual(value, own)
    )
