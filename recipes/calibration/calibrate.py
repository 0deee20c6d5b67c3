"""Measure how far each metric can be trusted, and publish it.

    pip install ".[transcription]"
    python recipes/starter/render.py --out corpus --minutes 0 --paired-pieces 24
    python recipes/calibration/calibrate.py corpus/paired --held-out freepats

In: pieces of which several domains and several renderings exist, and no model. Each piece is
"translated" perfectly: the output is the true rendering itself. It is measured beside the baselines
of the catalogue and beside the true rendering degraded in every way of `core.metrics.degradations`.
The pieces alternate in the rendering they are played in.

Out: `core/metrics/calibration.json`, which `umt eval` takes its warnings and usual ranges from;
`page.py` then writes the tables of `docs/evaluation.md`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.audio.reader import read_audio
from core.evaluation import EVALUATION_RATE
from core.evaluation.analysis import Analysis, Figures, Goal, figures, sound_figures
from core.evaluation.classifier_cache import shipped_classifier
from core.evaluation.paired import Piece, find_pieces
from core.metrics import degradations
from core.metrics.catalogue import COPY, METRICS, NOISE, OTHER_RENDERING, TRUE, WRONG_PIECE
from core.metrics.intervals import separation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from core.metrics.catalogue import Metric, MetricCalibration, RowStatistics
    from core.metrics.timbre import TimbreClassifier

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "core" / "metrics" / "calibration.json"
DIGITS = 5  # significant ones in the file
EXCERPT_SECONDS = 15
PERCENTILES = (5, 95)

Observation = tuple[str, dict[str, Figures]]  # the rendering, and figures by row or degradation


def main() -> None:
    """Read the command line, measure, publish."""
    parser = argparse.ArgumentParser(description="Calibrate the metrics of umt eval.")
    parser.add_argument("paired", type=Path, help="PIECE/DOMAIN--RENDERING.EXTENSION")
    parser.add_argument("--held-out", help="a rendering the classifier was not trained on")
    parser.add_argument("--pieces", type=int, help="how many of them; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    classifier = shipped_classifier()
    pieces = find_pieces(options.paired, classifier.domains)[: options.pieces]
    observations = []
    size = -(-len(pieces) // options.jobs)
    chunks = [range(start, min(start + size, len(pieces))) for start in range(0, len(pieces), size)]
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for found in pool.map(_observe, [pieces] * len(chunks), chunks):
            observations += found
    renderings = sorted({rendering for piece in pieces for rendering in piece.files})
    content = {
        "pieces": len(pieces),
        "translations": len(observations),
        "domains": list(classifier.domains),
        "renderings": renderings,
        "held_out_rendering": options.held_out,
        "excerpt_seconds": EXCERPT_SECONDS,
        "percentiles": PERCENTILES,
        "metrics": _rounded(summarise(observations, options.held_out)),
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _observe(pieces: list[Piece], numbers: range) -> list[Observation]:
    found: list[Observation] = []
    for observation in observe(pieces, shipped_classifier(), numbers):
        found.append(observation)
        print(f"pieces from {numbers.start + 1}: {len(found)} translations", flush=True)
    return found


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(own) for key, own in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def observe(
    pieces: Sequence[Piece], classifier: TimbreClassifier, numbers: range | None = None
) -> Iterator[Observation]:
    """Measure perfect translations, their baselines and their degraded versions.

    Args:
        pieces: At least two, all in the same domains and in two renderings or more.
        classifier: Of their domains.
        numbers: Which of the pieces, one after the other; default: all of them.

    Yields:
        The rendering, and its figures; half as many per piece as there are domains, each of which
        is a source or a target once.
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
    def read(own: Piece, rendering: str, domain: str) -> Analysis:
        waveform = read_audio(own.files[rendering][domain], EVALUATION_RATE)
        return Analysis(waveform[: EXCERPT_SECONDS * EVALUATION_RATE], EVALUATION_RATE, classifier)

    played, truth = (read(piece, piece.rendering, domain) for domain in (source, target))
    *nearer, last = (read(piece, name, target) for name in piece.others)
    goal = Goal(played, target, source, [truth, *nearer])
    rows = {
        TRUE: figures(truth, goal),
        COPY: figures(played, goal),
        WRONG_PIECE: figures(read(other_music, other_music.rendering, target), goal),
        OTHER_RENDERING: figures(last, goal),
    }
    return rows | _degraded(truth, goal)


def _degraded(truth: Analysis, goal: Goal) -> dict[str, Figures]:
    versions = {
        NOISE: degradations.noise(truth.waveform),
        "smeared": degradations.smear(truth.waveform),
        "hissing": degradations.add_hiss(truth.waveform),
        "clipped": degradations.clip(truth.waveform),
        "interrupted": degradations.interrupt(truth.waveform, EVALUATION_RATE),
    }
    return {
        name: sound_figures(
            Analysis(waveform, EVALUATION_RATE, truth.classifier), goal.target, goal.references
        )
        for name, waveform in versions.items()
    }


def summarise(
    observations: Sequence[Observation], held_out: str | None
) -> dict[str, MetricCalibration]:
    """Return what is published of each metric.

    Args:
        observations: From `observe`.
        held_out: The rendering that the classifier was not trained on, if there is one.

    Returns:
        By metric: `auc` of its positive against its negative pairs, `auc_held_out` of those in
        the held-out rendering alone, and each row's mean and 5 to 95 % range.
    """
    result: dict[str, MetricCalibration] = {}
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


def _range(values: Sequence[float]) -> RowStatistics:
    low, high = np.percentile(values, PERCENTILES)
    return {
        "mean": float(np.mean(values)),
        "low": float(low),
        "high": float(high),
        "n": len(values),
    }


if __name__ == "__main__":
    main()
