"""Which notes of the source a translation keeps, by automatic transcription. An optional extra.

`pip install umtcli[transcription]` installs `onnxruntime` and `mir_eval`; without them these
figures are left out. The network is basic-pitch's, shipped in `core/metrics/basic_pitch` with its
licence: Bittner et al. 2022, "A lightweight instrument-agnostic model for polyphonic note
transcription and multipitch estimation". It gives, for each of the 88 piano keys and 86 times per
second, the probability that the key sounds and that it is struck.

`pitch_correlation`: correlation of the two files' sounding probabilities, over all keys and frames.
    Range -1 to 1, higher is better; identical audio gives 1.
`note_f1_150ms`, `note_f1_50ms`: F measure of the notes of source and output, matched within a
    quarter tone and 150 or 50 ms at their start; ends do not count. Raffel et al. 2014, "mir_eval:
    a transparent implementation of common MIR metrics". Range 0 to 1, higher is better. 50 ms is
    the field's convention; it penalises instruments with slow attacks even when perfectly played,
    so compare it with the true rendering's.

Conventions: the shorter file is padded with silence. A source in which nothing sounds has no notes
to keep: every value is None. An output in which nothing sounds has kept nothing: 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np
import soxr

from core.metrics.content import ROTATIONS, usable_rotations
from core.metrics.spectra import ANALYSIS_RATE, Waveform

if TYPE_CHECKING:
    import numpy.typing as npt

    Posteriors = npt.NDArray[np.float32]

# Names in the network's file; the outputs are what sounds and what is struck.
INPUT = "serving_default_input_2:0"
OUTPUTS = ("StatefulPartitionedCall:1", "StatefulPartitionedCall:2")
MODEL_RATE = 22_050  # Hz
HOP = 256  # samples in a frame
WINDOW_SAMPLES = 2 * MODEL_RATE - HOP  # what the network takes, 172 frames
MARGIN_FRAMES = 15  # at each end of a window, where the network lacks context
WINDOW_FRAMES = 172
STEP_FRAMES = WINDOW_FRAMES - 2 * MARGIN_FRAMES
LOWEST_KEY = 21  # MIDI number of the first of 88

# A note begins where a key is struck, and lasts while it sounds.
STRUCK, SOUNDS = 0.5, 0.3
MIN_NOTE_FRAMES = 11  # 128 ms; the network's own threshold for a note
MAX_GAP_FRAMES = 11  # of silence that do not end a note
PITCH_TOLERANCE_CENTS = 50.0


@dataclass(frozen=True)
class Notes:
    """Notes in order of their start: seconds [N, 2] of start and end, and Hz [N]."""

    intervals: npt.NDArray[np.float64]
    hertz: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Transcription:
    """The network's output for one file.

    Attributes:
        sounding: float32 [L, 88], probability that a key sounds.
        notes: The notes derived from it.
    """

    sounding: Posteriors
    notes: Notes

    def part(self, first_second: int, n_seconds: int) -> Transcription:
        """Return the transcription of a stretch of the file, with the notes that begin in it."""
        edges = np.array([first_second, first_second + n_seconds])
        first, last = (edges * MODEL_RATE / HOP).astype(int)
        starts = self.notes.intervals[:, 0]
        own = (edges[0] <= starts) & (starts < edges[1])
        notes = Notes(self.notes.intervals[own], self.notes.hertz[own])
        return Transcription(self.sounding[first:last], notes)

    def rotated(self, share: float) -> Transcription:
        """Return the transcription of the file rotated in time by a fraction of its length."""
        shift = round(share * len(self.sounding))
        seconds = np.array([shift, len(self.sounding)]) * HOP / MODEL_RATE
        starts, ends = self.notes.intervals.T
        moved = (starts + seconds[0]) % seconds[1]
        order = moved.argsort(kind="stable")
        intervals = np.stack([moved, moved + (ends - starts)], axis=1)
        notes = Notes(intervals[order], self.notes.hertz[order])
        return Transcription(np.roll(self.sounding, shift, axis=0), notes)


@cache
def is_available() -> bool:
    """Return whether the extra is installed."""
    return all(find_spec(name) is not None for name in ("onnxruntime", "mir_eval"))


def transcribe(waveform: Waveform) -> Transcription:
    """Transcribe a waveform, float32 [T] at 16 kHz."""
    sounding, struck = _posteriors(soxr.resample(waveform, ANALYSIS_RATE, MODEL_RATE))
    return Transcription(sounding, find_notes(sounding, struck))


def _posteriors(waveform: Waveform) -> tuple[Posteriors, Posteriors]:
    """Return the probabilities that each key sounds and is struck, float32 [L, 88] each."""
    n_frames = 1 + len(waveform) // HOP
    n_windows = -(-n_frames // STEP_FRAMES)
    before = MARGIN_FRAMES * HOP
    length = (n_windows - 1) * STEP_FRAMES * HOP + WINDOW_SAMPLES
    padded = np.pad(waveform, (before, max(0, length - before - len(waveform))))
    session = _session()
    parts: list[tuple[Posteriors, Posteriors]] = []
    for window in range(n_windows):
        first = window * STEP_FRAMES * HOP
        samples = padded[first : first + WINDOW_SAMPLES].astype(np.float32)
        sounding, struck = session.run(list(OUTPUTS), {INPUT: samples[None, :, None]})
        kept = slice(MARGIN_FRAMES, WINDOW_FRAMES - MARGIN_FRAMES)
        parts.append((sounding[0, kept], struck[0, kept]))
    sounding, struck = (np.concatenate(own)[:n_frames] for own in zip(*parts, strict=True))
    return sounding, struck


class _Session(Protocol):
    """The part of onnxruntime's session that is used; onnxruntime has no annotations."""

    def run(self, outputs: list[str], inputs: dict[str, Posteriors]) -> list[Posteriors]: ...


@cache
def _session() -> _Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with as_file(files("core.metrics") / "basic_pitch" / "nmp.onnx") as path:
        session: _Session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    return session


def find_notes(sounding: Posteriors, struck: Posteriors) -> Notes:
    """Derive notes from the probabilities of each key and frame, float32 [L, 88] each."""
    found = []
    for key in range(sounding.shape[1]):
        onsets = _peaks(struck[:, key])
        for number, start in enumerate(onsets):
            limit = onsets[number + 1] if number + 1 < len(onsets) else len(sounding)
            end = _end_of_note(sounding[:, key], start, limit)
            if end - start >= MIN_NOTE_FRAMES:
                found.append((start, end, key))
    found.sort()
    frames = np.array([note[:2] for note in found], dtype=float).reshape(-1, 2)
    keys = np.array([note[2] for note in found], dtype=float)
    return Notes(frames * HOP / MODEL_RATE, 440 * 2 ** ((keys + LOWEST_KEY - 69) / 12))


def _peaks(struck: Posteriors) -> list[int]:
    """Return the frames in which a key [L] is struck: local maxima above the threshold."""
    before, after = np.pad(struck, (1, 0))[:-1], np.pad(struck, (0, 1))[1:]
    return np.flatnonzero((struck >= STRUCK) & (struck > before) & (struck >= after)).tolist()


def _end_of_note(sounding: Posteriors, start: int, limit: int) -> int:
    """Return the frame at which a key [L] that was struck at `start` stops sounding."""
    end = start
    for frame in range(start, limit):
        if sounding[frame] >= SOUNDS:
            end = frame + 1
        elif frame - end >= MAX_GAP_FRAMES:
            break
    return end


def compare(source: Transcription, output: Transcription) -> dict[str, float | None]:
    """Compute every figure of this module, of an output that is aligned with its source."""
    return {
        "pitch_correlation": pitch_correlation(source.sounding, output.sounding),
        "note_f1_150ms": note_f1(source.notes, output.notes, 0.15),
        "note_f1_50ms": note_f1(source.notes, output.notes, 0.05),
    }


def chance(source: Transcription, output: Transcription) -> dict[str, float]:
    """Return the level of chance, as `core.metrics.content` defines it.

    Returns:
        Medians over the output rotated in time; empty below 8 s and for a source without notes.
    """
    seconds = len(output.sounding) * HOP // MODEL_RATE
    found = [compare(source, output.rotated(own)) for own in usable_rotations(ROTATIONS, seconds)]
    values = {name: [own[name] for own in found] for name in (found[0] if found else ())}
    return {
        name: float(np.median(known))
        for name, own in values.items()
        if (known := [value for value in own if value is not None])
    }


def pitch_correlation(source: Posteriors, output: Posteriors) -> float | None:
    """Return the correlation of sounding probabilities [L, 88]; None if the source is silent."""
    if source.max(initial=0) < SOUNDS:
        return None
    length = max(len(source), len(output))
    first, second = (
        np.pad(own, ((0, length - len(own)), (0, 0))).astype(np.float64).ravel()
        for own in (source, output)
    )
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / scale if output.max(initial=0) >= SOUNDS else 0.0


def note_f1(source: Notes, output: Notes, tolerance_seconds: float) -> float | None:
    """Return the F measure of the notes of two files; None if the source has none."""
    from mir_eval.transcription import precision_recall_f1_overlap

    if not len(source.hertz):
        return None
    if not len(output.hertz):
        return 0.0
    _, _, f1, _ = precision_recall_f1_overlap(
        source.intervals,
        source.hertz,
        output.intervals,
        output.hertz,
        onset_tolerance=tolerance_seconds,
        pitch_tolerance=PITCH_TOLERANCE_CENTS,
        offset_ratio=None,
    )
    return float(f1)
