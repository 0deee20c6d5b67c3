"""How well two files agree: frame by frame, along an alignment, or at the best lag.

In: what was heard in a source and in several outputs, as frames of equal number. Out: the mean
agreement of the source with each output; `core.metrics.content` says what it means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from core.metrics.alignment import warping_paths
from core.metrics.pitch_and_onset import CHROMA_RATE, ONSET_RATE, Frames

BAND_RADIUS = 2 * CHROMA_RATE  # frames by which alignment may move either file
ONSET_LAG = ONSET_RATE // 10  # frames
NO_ATTACK = 1e-3  # spread of an envelope, in nepers of power, that is only rounding

Matcher = Callable[[Frames, Sequence[Frames]], list[float]]


def frame_by_frame(source: Frames, outputs: Sequence[Frames]) -> list[float]:
    """Match chroma frames [L, 12] that sound at the same time."""
    return [
        _mean((source * output).sum(axis=1), _sounds(source) | _sounds(output))
        for output in outputs
    ]


def along_path(source: Frames, outputs: Sequence[Frames]) -> list[float]:
    """Match chroma frames [L, 12] that time warping within 2 s joins."""
    paths = warping_paths(np.stack([_band_costs(source, output) for output in outputs]))
    return [
        _mean((source[i] * output[j]).sum(axis=1), w * (_sounds(source)[i] | _sounds(output)[j]))
        for output, (i, j, w) in zip(outputs, paths, strict=True)
    ]


def _mean(agreement: Frames, weights: npt.NDArray[np.bool_ | np.intp]) -> float:
    return float(np.average(agreement, weights=weights))


def _band_costs(source: Frames, output: Frames) -> Frames:
    """Return the distance [L, 2 BAND_RADIUS + 1] of each frame to its neighbours in the output."""
    length = len(source)
    costs = np.full((length, 2 * BAND_RADIUS + 1), np.inf)
    reach = min(BAND_RADIUS, length - 1)
    for offset in range(-reach, reach + 1):
        first = slice(max(0, -offset), length - max(0, offset))
        second = slice(max(0, offset), length - max(0, -offset))
        cosines = (source[first] * output[second]).sum(axis=1)
        # Silence on silence agrees: a path may walk through it, but earns nothing by it.
        cosines[~_sounds(source[first]) & ~_sounds(output[second])] = 1
        costs[first, BAND_RADIUS + offset] = 1 - cosines
    return costs


def _sounds(frames: Frames) -> npt.NDArray[np.bool_]:
    return np.asarray(frames.any(axis=1))


def at_best_lag(source: Frames, outputs: Sequence[Frames]) -> list[float]:
    """Match onset envelopes [L] at the lag within 0.1 s at which they correlate best."""
    return [_correlation_at_best_lag(source, output) for output in outputs]


def _correlation_at_best_lag(source: Frames, output: Frames) -> float:
    found = []
    for lag in range(-ONSET_LAG, ONSET_LAG + 1):
        frames = np.arange(max(0, lag), len(source) + min(0, lag))
        found.append(np.mean(_standardise(source[frames]) * _standardise(output[frames - lag])))
    return float(max(found))


def _standardise(values: Frames) -> Frames:
    spread = values.std()
    return (values - values.mean()) / spread if spread > NO_ATTACK else np.zeros_like(values)
