"""Measure how far each metric can be trusted, and publish it.

    pip install ".[transcription]"
    python recipes/starter/render.py --out corpus --minutes 0 --paired-pieces 24
    python recipes/calibration/calibrate.py corpus/paired --held-out freepats

Writes `core/metrics/calibration.json`, which `umt eval` takes its warnings from; `page.py` then
writes the tables of `docs/evaluation.md`.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from core.evaluation.calibration import Observation, observe, summarise
from core.evaluation.classifier_cache import shipped_classifier
from core.evaluation.paired import Piece, find_pieces

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "core" / "metrics" / "calibration.json"
DIGITS = 5  # significant ones in the file


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


if __name__ == "__main__":
    main()
