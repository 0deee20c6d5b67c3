"""Measure `umt translate --live` on the benchmark's music.

    python recipes/benchmark/live.py starter --music benchmark --quick

Takes the options of `measure.py`, and prints the same tables. Without `--tones` those of pitches
and held notes are left out, which take half the time.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import measure
import numpy as np

from core.arrays import as_waveform
from core.evaluation.classifier_cache import CACHE_NAME
from core.metrics.timbre import TimbreClassifier
from core.translator import Translator

if TYPE_CHECKING:
    from core.streams import LatentStream


class LiveTranslations:
    """Makes translations as `--live` does; a source is encoded once for all targets."""

    def __init__(self) -> None:
        self._key = b""
        self._stream: LatentStream | None = None

    def __call__(self, model: Translator, source: measure.Audio, target: str) -> measure.Audio:
        """Translate a waveform; stands in for `measure._translate`."""
        options = model.generation_options({"is_live": True})
        key = source.waveform.tobytes()
        if self._stream is None or key != self._key:
            recording = as_waveform(source.waveform, source.sample_rate)
            self._key, self._stream = key, model.encode_stream(recording, is_live=True)
            self._latents = list(self._stream.blocks)
        self._stream.blocks = iter(self._latents)
        made = model.decode_streams([self._stream], to=target, options=options)
        output = np.concatenate(list(next(made).blocks))
        return measure.Audio(output, model.sample_rate, source.classifier)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Measure --live on the benchmark.")
    parser.add_argument("model", help="a model file, a run, or a bundled name")
    parser.add_argument("--music", type=Path, required=True, help="what music.py has filled")
    parser.add_argument("--quick", action="store_true", help="two pieces and six sources")
    parser.add_argument("--to", action="append", help="targets; default: all that the model has")
    parser.add_argument("--tones", action="store_true", help="also measure pitches and held notes")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    options = parser.parse_args()
    path = Path(str(files("core.pretrained"))) / CACHE_NAME
    classifier = TimbreClassifier.load(path)
    model = Translator.load(options.model)
    pieces = measure._find_pieces(options.music, classifier)
    targets = options.to or sorted(model.decoders)
    cases = [own for own in measure._cases(pieces, is_quick=options.quick) if own.target in targets]
    measure._translate = LiveTranslations()
    rows = measure._measure(model, pieces, cases, measure.Baselines(options.music, path, pieces))
    toned = targets if options.tones else []
    pitch = {target: measure._pitch_figures(model, target, classifier) for target in toned}
    held = {target: measure._held_figures(model, target, classifier) for target in toned}
    print(measure._report(rows, pitch, held, measure._labels(pieces)))
    print(f"\n{len(cases)} live translations of model {model.id}.")
    if options.json:
        measure._write_json(options.json, rows, pitch, held)


if __name__ == "__main__":
    main()
