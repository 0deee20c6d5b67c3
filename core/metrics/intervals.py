"""Uncertainty of figures: bootstrap intervals, and how well two groups of figures separate.

`mean_interval`: the 2.5th and 97.5th percentiles of the mean over 2,000 resamplings, drawn with a
    fixed seed. Efron 1979, "Bootstrap methods: another look at the jackknife". Values of one group
    (all figures of one piece of music, all answers of one listener) are drawn together: thirty
    translations of one piece are not thirty independent observations.
`figure_interval`: the same for a figure that is no mean, such as the distance of a distribution,
    from 200 resamplings. Repeated draws make a distribution look narrower than it is, which shifts
    all resampled figures to one side; only their spread is used, around the figure itself.
`separation`: the area under the receiver operating characteristic (AUC): the probability that a
    figure of the better group beats one of the worse group, ties counting half. 0.5 is chance, 1 is
    never wrong. Hanley & McNeil 1982, "The meaning and use of the area under a ROC curve".

Conventions: empty input gives None, and so does an interval from a single group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

N_RESAMPLINGS = 2_000
N_FIGURE_RESAMPLINGS = 200
PERCENTILES = (2.5, 97.5)

Interval = tuple[float, float]


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable] | None = None
) -> Interval | None:
    """Return the 95 % interval of the mean of values.

    Args:
        values: N finite figures.
        groups: N labels; values of one label are drawn together. Default: each by itself.

    Returns:
        Lower and upper end; None for fewer than two groups.
    """
    labels = list(range(len(values))) if groups is None else list(groups)
    sums: dict[Hashable, float] = {}
    counts: dict[Hashable, int] = {}
    for label, value in zip(labels, values, strict=True):
        sums[label] = sums.get(label, 0.0) + value
        counts[label] = counts.get(label, 0) + 1
    if len(sums) < 2:
        return None
    totals, sizes = np.array(list(sums.values())), np.array(list(counts.values()))
    drawn = np.random.default_rng(0).integers(len(totals), size=(N_RESAMPLINGS, len(totals)))
    means = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, PERCENTILES)
    return float(low), float(high)


def figure_interval(
    value: float, groups: Sequence[Hashable], measure: Callable[[NDArray[np.intp]], float | None]
) -> Interval | None:
    """Return the 95 % interval of a figure of N observations.

    Args:
        value: The figure of all of them.
        groups: N labels; observations of one label are drawn together.
        measure: Returns the figure of the observations at the given indices; None where there
            are too few.

    Returns:
        Lower and upper end; None for fewer than two groups.
    """
    labels = list(dict.fromkeys(groups))
    if len(labels) < 2:
        return None
    members = [np.flatnonzero([own == label for own in groups]) for label in labels]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(labels), size=(N_FIGURE_RESAMPLINGS, len(labels)))
    measured = (measure(np.concatenate([members[label] for label in draw])) for draw in draws)
    drawn = [own for own in measured if own is not None]
    if not drawn:
        return None
    low, high = np.percentile(drawn, PERCENTILES) - np.mean(drawn)
    return value + float(low), value + float(high)


def separation(better: Sequence[float], worse: Sequence[float]) -> float | None:
    """Return how often a value of `better` is above one of `worse`; None if either is empty.

    Example:
        >>> separation([3, 4], [1, 2]), separation([1, 2], [1, 2])
        (1.0, 0.5)
    """
    if not better or not worse:
        return None
    ordered = np.sort(np.asarray(worse, dtype=float))
    below = np.searchsorted(ordered, better, side="left")
    not_above = np.searchsorted(ordered, better, side="right")
    return float((below + not_above).mean() / (2 * len(ordered)))
