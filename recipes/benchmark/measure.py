"""Measure a model on the benchmark's music, beside what one would do without it.

    python recipes/benchmark/measure.py starter --music benchmark

In: a model as `umt translate -m` takes it, and the folder that `music.py` and `route.py` filled.
Out: Markdown tables on stdout, and all figures as JSON with `--json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from figures import glide, onsets_found, pitch_error_cents, tones

from core.audio.levels import measure_level_db
from core.audio.reader import read_audio
from core.evaluation import EVALUATION_RATE
from core.evaluation.analysis import Analysis
from core.evaluation.classifier_cache import CACHE_NAME
from core.metrics import content, log_spectral
from core.metrics.spectra import ANALYSIS_RATE, at_analysis_rate
from core.metrics.timbre import TimbreClassifier
from core.metrics.transcription import Notes, note_f1
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Waveform = NDArray[np.float32]
    Figures = dict[str, float | None]

TRANSLATION, ROUTE, UNCHANGED, OTHER_MUSIC, TRUE = (
    "translation", "MIDI route", "unchanged", "other music", "true",
)  # fmt: skip
ROWS = (TRANSLATION, ROUTE, UNCHANGED, OTHER_MUSIC, TRUE)

TUNING_PITCHES = [60, 64, 67, 71, 74]
TUNINGS_CENTS = {"A415": -101.3, "A432": -31.8, "+20": 20.0, "+35": 35.0, "+50": 50.0}
TUNING_INSTRUMENTS = ("reed", "pipes")
NOTE_SECONDS = 0.8
IN_TUNE_CENTS, GLIDE_CENTS = 5.0, 20.0
GLIDE_LOW_HZ, GLIDE_SECONDS, GLIDE_HOLD_SECONDS = 261.63, 2.0, 0.5
GLIDE_FRAME, GLIDE_HOP = ANALYSIS_RATE // 10, ANALYSIS_RATE // 50
GLIDE_LAG_FRAMES = 2  # either way, the same for the whole glide

HELD_INSTRUMENT, HELD_PITCH, HELD_SECONDS = "reed", 67, 5.0
HELD_PLACES = (0.5, 4.3)  # seconds, between which its level is compared
RUMBLE_HZ = 60.0


@dataclass
class Audio:
    """One file or result with its features, each computed once."""

    waveform: Waveform
    sample_rate: int
    classifier: TimbreClassifier

    @cached_property
    def analysis(self) -> Analysis:
        """Features of `core.metrics`."""
        return Analysis(self.waveform, self.sample_rate, self.classifier)

    @cached_property
    def level_db(self) -> float:
        """Level of what sounds, dBFS."""
        return measure_level_db([self.waveform], self.sample_rate)


@dataclass
class Target:
    """What a domain should play of a piece.

    Attributes:
        notes: That it plays.
        truth: The true rendering.
        is_struck_or_plucked: Whether its notes begin at once.
    """

    notes: Notes
    truth: Audio
    is_struck_or_plucked: bool


@dataclass
class Piece:
    """A folder of the benchmark."""

    folder: Path
    content: Mapping[str, Any]
    classifier: TimbreClassifier
    sources: dict[str, Audio] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)

    def read(self, name: str) -> Audio:
        """Read a file of the piece."""
        waveform = read_audio(self.folder / f"{name}.flac", EVALUATION_RATE)
        return Audio(waveform, EVALUATION_RATE, self.classifier)

    def source(self, name: str) -> Audio:
        """Return what is translated, read once for all targets."""
        if name not in self.sources:
            self.sources[name] = self.read(f"source--{name}")
        return self.sources[name]

    def target(self, domain: str) -> Target:
        """Return what a domain should play, read once."""
        if domain not in self.targets:
            facts = self.content["targets"][domain]
            self.targets[domain] = Target(
                _notes(facts["notes"]),
                self.read(f"true--{domain}"),
                facts["is_struck_or_plucked"],
            )
        return self.targets[domain]


@dataclass(frozen=True)
class Case:
    """One source of one piece into one target."""

    piece: str
    source: str
    target: str


Rows = dict[str, dict[Case, "Figures"]]


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Measure a model on the benchmark.")
    parser.add_argument("model", help="a model file, a run, or a bundled name")
    parser.add_argument("--music", type=Path, required=True, help="what music.py has filled")
    parser.add_argument("--quick", action="store_true", help="two pieces and six sources")
    parser.add_argument("--to", action="append", help="targets; default: all that the model has")
    parser.add_argument("--classifier", type=Path, help="default: the shipped one")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    options = parser.parse_args()
    began = time.monotonic()
    path = options.classifier or Path(str(files("core.pretrained"))) / CACHE_NAME
    classifier = TimbreClassifier.load(path)
    model = Translator.load(options.model)
    pieces = _find_pieces(options.music, classifier)
    targets = options.to or sorted(model.decoders)
    cases = [own for own in _cases(pieces, is_quick=options.quick) if own.target in targets]
    rows = _measure(model, pieces, cases, Baselines(options.music, path, pieces))
    pitch = {target: _pitch_figures(model, target, classifier) for target in targets}
    held = {target: _held_figures(model, target, classifier) for target in targets}
    print(_report(rows, pitch, held, _labels(pieces)))
    minutes = (time.monotonic() - began) / 60
    print(f"\n{len(cases)} translations of model {model.id}, {minutes:.1f} minutes.")
    if options.json:
        _write_json(options.json, rows, pitch, held)


def _measure(
    model: Translator, pieces: Mapping[str, Piece], cases: Sequence[Case], baselines: Baselines
) -> Rows:
    rows: Rows = {row: {} for row in ROWS}
    for number, case in enumerate(cases, start=1):
        source = pieces[case.piece].source(case.source)
        output = _translate(model, source, case.target)
        rows[TRANSLATION][case] = _figures(output, source, pieces, case)
        for row, figures in baselines.of(case, source).items():
            rows[row][case] = figures
        print(f"\r{number} of {len(cases)} ", end="", file=sys.stderr, flush=True)
    baselines.save()
    print(file=sys.stderr)
    return rows


def _labels(pieces: Mapping[str, Piece]) -> dict[str, str]:
    every = [piece.content["sources"] for piece in pieces.values()]
    return {name: facts["label"] for own in every for name, facts in own.items()}


def _find_pieces(music: Path, classifier: TimbreClassifier) -> dict[str, Piece]:
    found = [
        Piece(path.parent, json.loads(path.read_text(encoding="utf-8")), classifier)
        for path in music.glob("*/piece.json")
    ]
    found.sort(key=lambda piece: piece.content["order"])
    return {piece.folder.name: piece for piece in found}


def _cases(pieces: Mapping[str, Piece], *, is_quick: bool) -> Iterator[Case]:
    for name, piece in pieces.items():
        for source, facts in piece.content["sources"].items():
            if facts["is_quick"] or not is_quick:
                for target in piece.content["targets"]:
                    if target != facts["instrument"]:
                        yield Case(name, source, target)


def _notes(listed: Sequence[tuple[float, float, float]]) -> Notes:
    starts, ends, pitches = np.array(listed, dtype=float).T
    return Notes(np.stack([starts, ends], axis=1), 440 * 2 ** ((pitches - 69) / 12))


def _translate(model: Translator, source: Audio, target: str) -> Audio:
    output = model.translate(source.waveform, source.sample_rate, to=target)
    return Audio(output, model.sample_rate, source.classifier)


def _figures(output: Audio, source: Audio, pieces: Mapping[str, Piece], case: Case) -> Figures:
    """Return every figure of an output of one case."""
    target = pieces[case.piece].target(case.target)
    truth = target.truth.analysis
    analysis = output.analysis
    heard = analysis.notes
    if heard is None:
        raise ModuleNotFoundError('note figures need pip install "umtcli[transcription]"')
    length = len(truth.resampled)
    scores = content.compare(source.analysis.content, analysis.content, has_chance=False)
    levels = [own.mel_decibels(length) for own in (analysis, truth)]
    struck = target.is_struck_or_plucked
    return {
        "note_f1_50ms": note_f1(target.notes, heard.notes, 0.05),
        "note_f1_100ms": note_f1(target.notes, heard.notes, 0.1),
        "chroma": scores["chroma"].value,
        "heard": _probability(output, case.target, list(pieces[case.piece].content["targets"])),
        "distance_db": log_spectral.distance_db(*levels),
        "onsets_found": onsets_found(analysis.resampled, truth.resampled) if struck else None,
        "level_db": output.level_db - source.level_db,
    }


def _probability(output: Audio, target: str, domains: Sequence[str]) -> float | None:
    """Return how surely the classifier takes an output for a target, among these domains."""
    shares = output.analysis.probabilities
    known = [shares[name] for name in domains if name in shares]
    return shares[target] / sum(known) if target in shares else None


class Baselines:
    """Rows that do not depend on the model, kept beside the music."""

    def __init__(self, music: Path, classifier: Path, pieces: Mapping[str, Piece]) -> None:
        digest = hashlib.sha256(classifier.read_bytes())
        for piece in pieces.values():
            digest.update(json.dumps(piece.content).encode())
            for file in sorted(piece.folder.glob("*.flac")):
                facts = file.stat()
                digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns}".encode())
        for module in ("measure.py", "figures.py"):
            digest.update((Path(__file__).parent / module).read_bytes())
        self._path = music / f"baselines-{digest.hexdigest()[:12]}.json"
        self._known: dict[str, Figures] = (
            json.loads(self._path.read_text()) if self._path.exists() else {}
        )
        self._pieces = pieces

    def of(self, case: Case, source: Audio) -> dict[str, Figures]:
        """Return the figures of each row of a case; the MIDI route's where it was played."""
        piece = self._pieces[case.piece]
        route = f"route--{case.source}--{case.target}"
        makers: dict[str, Callable[[], Audio]] = {
            UNCHANGED: lambda: source,
            OTHER_MUSIC: lambda: self._other_music(case),
            TRUE: lambda: piece.target(case.target).truth,
        }
        if (piece.folder / f"{route}.flac").exists():
            makers[ROUTE] = lambda: piece.read(route)
        found = {}
        for row, make in makers.items():
            key = "/".join((row, case.piece, case.source, case.target))
            if key not in self._known:
                self._known[key] = _figures(make(), source, self._pieces, case)
            found[row] = self._known[key]
        return found

    def _other_music(self, case: Case) -> Audio:
        names = list(self._pieces)
        other = self._pieces[names[(names.index(case.piece) + 1) % len(names)]]
        return other.target(case.target).truth

    def save(self) -> None:
        """Keep what was computed for the next model."""
        self._path.write_text(json.dumps(self._known), encoding="utf-8")


def _pitch_figures(model: Translator, target: str, classifier: TimbreClassifier) -> Figures:
    """Return errors in cents of detuned notes, and how closely a glide is followed."""
    found: Figures = {}
    everything = []
    for name, cents in TUNINGS_CENTS.items():
        errors = []
        for instrument in TUNING_INSTRUMENTS:
            played = tones(instrument, TUNING_PITCHES, cents, NOTE_SECONDS)
            output = _translate(model, Audio(played, ANALYSIS_RATE, classifier), target)
            waveform = at_analysis_rate(output.waveform, output.sample_rate, name="output")
            for index, pitch in enumerate(TUNING_PITCHES):
                first = round((index * NOTE_SECONDS + 0.15) * ANALYSIS_RATE)
                segment = waveform[first : first + round(0.5 * ANALYSIS_RATE)]
                expected_hz = 440 * 2 ** ((pitch + cents / 100 - 69) / 12)
                errors.append(abs(pitch_error_cents(segment, expected_hz)))
        found[name] = float(np.median(errors))
        everything += errors
    found["in_tune"] = float(np.mean(np.array(everything) <= IN_TUNE_CENTS))
    found["glide"] = _glide_share(model, target, classifier)
    return found


def _held_figures(model: Translator, target: str, classifier: TimbreClassifier) -> Figures:
    """Return what becomes of silence, and of a note that is held for five seconds."""
    silence = Audio(np.zeros(2 * ANALYSIS_RATE, np.float32), ANALYSIS_RATE, classifier)
    peak = float(np.abs(_translate(model, silence, target).waveform).max())
    note = tones(HELD_INSTRUMENT, [HELD_PITCH], 0.0, HELD_SECONDS)
    output = _translate(model, Audio(note, ANALYSIS_RATE, classifier), target)
    first, last = (
        output.waveform[round(start * output.sample_rate) :][: output.sample_rate // 2]
        for start in HELD_PLACES
    )
    spectrum = np.abs(np.fft.rfft(output.waveform * np.hanning(len(output.waveform)))) ** 2
    hertz = np.fft.rfftfreq(len(output.waveform), 1 / output.sample_rate)
    return {
        "silence_db": _decibels(peak**2),
        "rumble_db": _decibels(spectrum[hertz < RUMBLE_HZ].sum() / spectrum.sum()),
        "course_db": _decibels(np.mean(last**2)) - _decibels(np.mean(first**2)),
    }


def _decibels(power: float) -> float:
    return 10 * math.log10(max(power, 1e-12))


def _glide_share(model: Translator, target: str, classifier: TimbreClassifier) -> float:
    waveform, hertz = glide(GLIDE_LOW_HZ, GLIDE_SECONDS, GLIDE_HOLD_SECONDS)
    output = _translate(model, Audio(waveform, ANALYSIS_RATE, classifier), target)
    result = at_analysis_rate(output.waveform, output.sample_rate, name="output")
    first, last = (
        round(own * ANALYSIS_RATE)
        for own in (GLIDE_HOLD_SECONDS, GLIDE_HOLD_SECONDS + GLIDE_SECONDS)
    )
    starts = range(first, last, GLIDE_HOP)
    shares = []
    for lag in range(-GLIDE_LAG_FRAMES, GLIDE_LAG_FRAMES + 1):
        errors = [
            pitch_error_cents(
                result[start + lag * GLIDE_HOP - GLIDE_FRAME // 2 :][:GLIDE_FRAME], hertz[start]
            )
            for start in starts
        ]
        shares.append(np.mean(np.abs(errors) <= GLIDE_CENTS))
    return float(max(shares))


def _mean(row: Mapping[Case, Figures], name: str) -> float | None:
    values = [
        value
        for figures in row.values()
        if (value := figures[name]) is not None and math.isfinite(value)
    ]
    return float(np.mean(values)) if values else None


def _cell(value: float | None, digits: int = 2) -> str:
    # Not "-0.0".
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


COLUMNS = (
    ("note_f1_50ms", "note F1, 50 ms", 2),
    ("note_f1_100ms", "100 ms", 2),
    ("chroma", "chroma", 2),
    ("heard", "heard", 2),
    ("distance_db", "distance, dB", 1),
    ("onsets_found", "onsets found", 2),
    ("level_db", "louder, dB", 1),
)
# Of the tables by target and by source.
CELL_ROWS = (TRANSLATION, ROUTE, TRUE)
CELL_FIGURES = ("note_f1_50ms", "chroma", "heard", "distance_db", "onsets_found")


def _report(
    rows: Rows,
    pitch: Mapping[str, Figures],
    held: Mapping[str, Figures],
    labels: Mapping[str, str],
) -> str:
    """Return the tables as Markdown."""
    cases = list(rows[TRANSLATION])
    overall = [
        [row, *(_cell(_mean(own, name), digits) for name, _, digits in COLUMNS)]
        for row, own in rows.items()
        if own
    ]
    tuned = [
        [target, *(_cell(own[name], 0 if name in TUNINGS_CENTS else 2) for name in own)]
        for target, own in pitch.items()
    ]
    parts = [
        _table(["mean", *(label for _, label, _ in COLUMNS)], overall),
        f"In each cell: {' · '.join(CELL_ROWS)}.",
        _grouped(rows, "target", sorted({case.target for case in cases}), {}),
        _grouped(rows, "source", list(dict.fromkeys(case.source for case in cases)), labels),
        _table(["cents off", *TUNINGS_CENTS, "within 5 cents", "glide"], tuned),
        _table(
            ["dB", "silence, peak", "rumble", "held note, course"],
            [
                [target, *(_cell(value, 0) for value in own.values())]
                for target, own in held.items()
            ],
        ),
    ]
    return "\n\n".join(parts)


def _grouped(rows: Rows, attribute: str, names: Sequence[str], labels: Mapping[str, str]) -> str:
    """Return a table with a line for each target or source, and several rows in each cell."""
    columns = [column for column in COLUMNS if column[0] in CELL_FIGURES]
    header = [attribute, *(label for _, label, _ in columns)]
    lines = []
    for value in names:
        own = [
            {case: found for case, found in rows[row].items() if getattr(case, attribute) == value}
            for row in CELL_ROWS
        ]
        cells = [
            " · ".join(_cell(_mean(row, name), digits) for row in own)
            for name, _, digits in columns
        ]
        lines.append([labels.get(value, value), *cells])
    return _table(header, lines)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    text = [f"| {' | '.join(line)} |" for line in [header, *lines]]
    return "\n".join([text[0], "|" + "---|" * len(header), *text[1:]])


def _write_json(
    path: Path, rows: Rows, pitch: Mapping[str, Figures], held: Mapping[str, Figures]
) -> None:
    listed: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row, own in rows.items():
        for case, figures in own.items():
            listed[row].append(vars(case) | figures)
    content = {"rows": listed, "pitch": pitch, "held": held}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
