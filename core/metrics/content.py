"""How much of the source's music is left in a translation: its pitches and its timing.

Three scores, each with the level that chance reaches on the very same pair:

`chroma`: mean over frames of the cosine between the two files' chroma vectors, 12 pitch classes
    out of log-frequency filters from C2 to C8, 10 frames a second. Fujishima 1999, "Realtime
    chord recognition of musical sound"; Müller 2015, "Fundamentals of Music Processing", ch. 3.
    Unit: none. Range 0 to 1, higher is better; identical audio gives 1.
`aligned_chroma`: the same over pairs of frames that dynamic time warping within 2 s joins
    (`core.metrics.alignment`), so that late or slow attacks cost less. Range 0 to 1.
`onset`: correlation of the two onset envelopes, the rising part of the log-mel spectrum (spectral
    flux; Böck & Widmer 2013, "Maximum filter vibrato suppression for onset detection"), at the best
    lag within 0.1 s. Range -1 to 1, higher is better; identical audio gives 1.

Chance is the median score of the source against the output rotated in time by five large offsets:
other music by the same instruments in the same key. What lies between chance and 1 is what the
figure says. Read no score without it; compare no score across pieces without it.

How well each score tells the same piece from another is in `docs/evaluation.md`.

Conventions: the shorter waveform is taken to be followed by silence, so music that is missing
counts as 0. Level does not matter. A frame is silent 40 dB below its file's loud frames; frames
silent in both files are left out, frames silent in one count 0. A silent source has no content to
keep: every value is None. A silent output, or one without a single attack, has kept nothing: 0.
Chance is None below 8 s, where no rotation is far enough to be other music.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.metrics.matching import NO_ATTACK, along_path, at_best_lag, frame_by_frame
from core.metrics.pitch_and_onset import CHROMA_RATE, ONSET_RATE, chroma_frames, onset_envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.metrics.matching import Matcher
    from core.metrics.pitch_and_onset import Frames
    from core.metrics.spectra import Waveform

ROTATIONS = (0.23, 0.39, 0.5, 0.61, 0.77)  # shares of the length
MIN_ROTATION_SECONDS = 4  # twice as far as alignment can bring back


@dataclass(frozen=True)
class Score:
    """One figure about one pair of files.

    Attributes:
        value: the score, or None where the source has nothing to keep.
        chance: what other music scores on this pair, or None for too short or silent pairs.
    """

    value: float | None
    chance: float | None


NOTHING = Score(None, None)


@dataclass(frozen=True)
class Heard:
    """What this module hears in one file: heard once, it can be compared with many others.

    Attributes:
        chromas: float64 [L, 12], at 10 frames a second.
        onsets: float64 [L'], at 100 frames a second.
    """

    chromas: Frames
    onsets: Frames

    def part(self, first_second: int, n_seconds: int) -> Heard:
        """Return what was heard in a stretch of the file."""
        last_second = first_second + n_seconds
        return Heard(
            self.chromas[first_second * CHROMA_RATE : last_second * CHROMA_RATE],
            self.onsets[first_second * ONSET_RATE : last_second * ONSET_RATE],
        )


def listen(waveform: Waveform) -> Heard:
    """Hear a waveform [T] at 16 kHz."""
    return Heard(chroma_frames(waveform), onset_envelope(waveform))


def compare(source: Heard, output: Heard, *, has_chance: bool = True) -> dict[str, Score]:
    """Compute every score of this module.

    Args:
        source: What was translated.
        output: What came out of it, aligned with the source.
        has_chance: Whether chance is worked out too, which takes most of the time.

    Returns:
        `chroma`, `aligned_chroma` and `onset`, in this order.
    """
    rotations = ROTATIONS if has_chance else ()
    chromas = _same_length(source.chromas, output.chromas)
    return {
        "chroma": chroma(*chromas, rotations),
        "aligned_chroma": aligned_chroma(*chromas, rotations),
        "onset": onset(*_same_length(source.onsets, output.onsets), rotations),
    }


def _same_length(first: Frames, second: Frames) -> tuple[Frames, Frames]:
    """Let silence, which is all zeros in either kind of frames, follow the shorter one."""
    length = max(len(first), len(second))

    def padded(frames: Frames) -> Frames:
        return np.pad(frames, [(0, length - len(frames)), *[(0, 0)] * (frames.ndim - 1)])

    return padded(first), padded(second)


def chroma(source: Frames, output: Frames, rotations: Sequence[float]) -> Score:
    """Score chroma frames [L, 12] of both files, frame by frame."""
    if not source.any():
        return NOTHING
    return _score(frame_by_frame, source, output, CHROMA_RATE, rotations)


def aligned_chroma(source: Frames, output: Frames, rotations: Sequence[float]) -> Score:
    """Score chroma frames [L, 12] of both files, over the pairs that alignment joins."""
    if not source.any():
        return NOTHING
    return _score(along_path, source, output, CHROMA_RATE, rotations)


def onset(source: Frames, output: Frames, rotations: Sequence[float]) -> Score:
    """Score the onset envelopes [L] of both files."""
    if not source.std() > NO_ATTACK:
        return NOTHING
    return _score(at_best_lag, source, output, ONSET_RATE, rotations)


def _score(
    matcher: Matcher,
    source: Frames,
    output: Frames,
    frame_rate: int,
    rotations: Sequence[float],
) -> Score:
    far = far_enough(rotations, len(output) // frame_rate)
    rotated = [np.roll(output, round(share * len(output)), axis=0) for share in far]
    value, *others = matcher(source, [output, *rotated])
    return Score(value, float(np.median(others)) if others else None)


def far_enough(rotations: Sequence[float], seconds: int) -> list[float]:
    """Return the shares of a length by which a rotation makes other music of it."""
    least = MIN_ROTATION_SECONDS
    return [share for share in rotations if min(share, 1 - share) * seconds >= least]
