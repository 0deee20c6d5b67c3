"""How much of the source's music a translation keeps: its pitches and its timing.

Definition: two sequences of features are taken from each file, unit chroma vectors (12 pitch
classes, from log-frequency filters between C2 and C8, 10 frames per second) and an onset envelope
(the rising part of the log-mel spectrum, 100 frames per second). They give three scores:

`chroma`: mean over frames of the cosine between the chroma vectors of source and output. Fujishima
    1999, "Realtime chord recognition of musical sound"; Müller 2015, "Fundamentals of Music
    Processing", ch. 3. Range 0 to 1.
`aligned_chroma`: the same over the pairs of frames that dynamic time warping within 2 s joins
    (`core.metrics.alignment`), so that late or slow attacks cost less. Range 0 to 1.
`onset`: correlation of the onset envelopes at the best lag within 0.1 s (spectral flux; Böck &
    Widmer 2013, "Maximum filter vibrato suppression for onset detection"). Range -1 to 1.

All three have no unit, higher is better, and identical audio gives 1. Each comes with the level
that chance reaches on the same pair: the median score of the source against the output rotated in
time by five large offsets, which is other music by the same instruments in the same key. A score
is informative only relative to its chance level, and not comparable across pieces without it.

Conventions: the shorter waveform is padded with silence, so missing music counts as 0. Level does
not matter. A frame is silent 40 dB below its file's loud frames; frames silent in both files are
left out, frames silent in one count 0. A silent source has no content to keep: every value is
None. A silent output, or one without a single attack, has kept nothing: 0. Chance is None below
8 s, where no rotation is far enough to be other music.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from core.metrics.alignment import warping_paths
from core.metrics.spectra import ANALYSIS_RATE, Waveform, mel_filters, power_blocks, sounding

Frames = npt.NDArray[np.float64]
Matcher = Callable[[Frames, Sequence[Frames]], list[float]]

CHROMA_RATE = 10  # frames per second
CHROMA_HOP = ANALYSIS_RATE // CHROMA_RATE
CHROMA_WINDOW = 8192  # samples; 0.5 s, which separates semitones from C3 upwards
LOWEST_PITCH, HIGHEST_PITCH = 36, 108  # MIDI numbers of C2 and C8
PITCH_WIDTH = 0.3  # semitones; standard deviation of a pitch's filter
BAND_RADIUS = 2 * CHROMA_RATE  # frames by which alignment may move either file

ONSET_RATE = 100  # frames per second
ONSET_HOP = ANALYSIS_RATE // ONSET_RATE
ONSET_WINDOW = 1024  # samples
ONSET_MELS = 80
ONSET_RISE = ONSET_RATE // 10  # frames over which the rise of a band is measured
ONSET_SMOOTHING = 8.0  # frames; standard deviation of the kernel on the envelope
ONSET_TREND = 50.0  # frames; what is slower than this is no onset
ONSET_FLOOR = 1e-4  # of the mean band power; rises below it are inaudible
ONSET_LAG = ONSET_RATE // 10  # frames
NO_ATTACK = 1e-3  # spread of an envelope, in nepers of power, that is only rounding

ROTATIONS = (0.23, 0.39, 0.5, 0.61, 0.77)  # fractions of the length
MIN_ROTATION_SECONDS = 4  # twice as far as alignment can bring back


@dataclass(frozen=True)
class Score:
    """One score of one pair of files.

    Attributes:
        value: The score, or None where the source has nothing to keep.
        chance: What other music scores on this pair, or None for too short or silent pairs.
    """

    value: float | None
    chance: float | None


UNDEFINED = Score(None, None)


@dataclass(frozen=True)
class ContentFeatures:
    """The features of one file: extracted once, they can be compared with many others.

    Attributes:
        chroma: float64 [L, 12], at 10 frames per second.
        onsets: float64 [L'], at 100 frames per second.
    """

    chroma: Frames
    onsets: Frames

    def part(self, first_second: int, n_seconds: int) -> ContentFeatures:
        """Return the features of a stretch of the file."""
        last_second = first_second + n_seconds
        return ContentFeatures(
            self.chroma[first_second * CHROMA_RATE : last_second * CHROMA_RATE],
            self.onsets[first_second * ONSET_RATE : last_second * ONSET_RATE],
        )


def extract(waveform: Waveform) -> ContentFeatures:
    """Extract the features of a waveform, float32 [T] at 16 kHz."""
    return ContentFeatures(chroma_frames(waveform), onset_envelope(waveform))


def compare(
    source: ContentFeatures, output: ContentFeatures, *, has_chance: bool = True
) -> dict[str, Score]:
    """Compute every score of a translation against its source.

    Args:
        source: Features of the source.
        output: Features of its translation, aligned with the source.
        has_chance: Whether to compute the chance level too, which takes most of the time.

    Returns:
        `chroma`, `aligned_chroma` and `onset`, in this order.
    """
    rotations = ROTATIONS if has_chance else ()
    chromas = _pad_to_same_length(source.chroma, output.chroma)
    return {
        "chroma": chroma(*chromas, rotations),
        "aligned_chroma": aligned_chroma(*chromas, rotations),
        "onset": onset(*_pad_to_same_length(source.onsets, output.onsets), rotations),
    }


def chroma(source: Frames, output: Frames, rotations: Sequence[float]) -> Score:
    """Score two chroma sequences [L, 12] frame by frame."""
    if not source.any():
        return UNDEFINED
    return _score(_match_frame_by_frame, source, output, CHROMA_RATE, rotations)


def aligned_chroma(source: Frames, output: Frames, rotations: Sequence[float]) -> Score:
    """Score two chroma sequences [L, 12] over the pairs of frames that alignment joins."""
    if not source.any():
        return UNDEFINED
    return _score(_match_along_path, source, output, CHROMA_RATE, rotations)


def onset(source: Frames, output: Frames, rotations: Sequence[float]) -> Score:
    """Score two onset envelopes [L]."""
    if not source.std() > NO_ATTACK:
        return UNDEFINED
    return _score(_match_at_best_lag, source, output, ONSET_RATE, rotations)


def usable_rotations(rotations: Sequence[float], seconds: int) -> list[float]:
    """Return the rotations, as fractions of a length, that are far enough to be other music."""
    least = MIN_ROTATION_SECONDS
    return [share for share in rotations if min(share, 1 - share) * seconds >= least]


def chroma_frames(waveform: Waveform) -> Frames:
    """Return unit chroma vectors [L, 12] at 10 frames per second, all zero where it is silent.

    Args:
        waveform: float32 [T] at 16 kHz.
    """
    vectors, power = [], []
    for block in power_blocks(waveform, CHROMA_WINDOW, CHROMA_HOP):
        vectors.append(block.sqrt() @ _pitch_filters())
        power.append(block.sum(dim=1))
    frames = torch.cat(vectors).double()
    frames /= frames.norm(dim=1, keepdim=True).clamp_min(1e-12)
    frames[~sounding(torch.cat(power), CHROMA_WINDOW)] = 0
    return frames.numpy()


def onset_envelope(waveform: Waveform) -> Frames:
    """Return the onset strength [L] at 100 frames per second, with the slow trend removed.

    Args:
        waveform: float32 [T] at 16 kHz.
    """
    filters = mel_filters(ONSET_WINDOW, ONSET_MELS, 60.0, 7_500.0)
    blocks = power_blocks(waveform, ONSET_WINDOW, ONSET_HOP)
    bands = torch.cat([block @ filters for block in blocks])
    # Windows that reach beyond the ends would report attacks that nobody played.
    cut = min(ONSET_WINDOW // 2 // ONSET_HOP + 1, (len(bands) - 1) // 2)
    bands[:cut] = bands[cut]
    bands[len(bands) - cut :] = bands[len(bands) - cut - 1]
    loudness = torch.log(bands / bands.mean().clamp_min(1e-12) + ONSET_FLOOR)
    rises = torch.zeros(len(bands))
    rises[ONSET_RISE:] = (loudness[ONSET_RISE:] - loudness[:-ONSET_RISE]).relu().mean(dim=1)
    envelope = _smooth(rises, ONSET_SMOOTHING)
    return (envelope - _smooth(envelope, ONSET_TREND)).double().numpy()


@cache
def _pitch_filters() -> torch.Tensor:
    """Return [bins, 12]: Gaussians on the log-frequency axis, folded into pitch classes."""
    hertz = torch.arange(1, CHROMA_WINDOW // 2 + 1) * (ANALYSIS_RATE / CHROMA_WINDOW)
    pitches = 69 + 12 * torch.log2(hertz / 440)
    centres = torch.arange(LOWEST_PITCH, HIGHEST_PITCH + 1)
    filters = torch.exp(-0.5 * ((pitches[:, None] - centres) / PITCH_WIDTH).square())
    # Equal weight for each pitch: otherwise the many bins of the high ones drown the rest.
    filters = filters / filters.sum(dim=0)
    classes = F.one_hot(centres % 12, 12).to(filters.dtype)
    return torch.cat([torch.zeros(1, 12), filters @ classes])


def _smooth(values: torch.Tensor, deviation: float) -> torch.Tensor:
    reach = int(3 * deviation)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    padded = F.pad(values[None, None], (reach, reach), mode="replicate")
    return F.conv1d(padded, kernel[None, None] / kernel.sum())[0, 0]


def _pad_to_same_length(first: Frames, second: Frames) -> tuple[Frames, Frames]:
    """Append silence, which is all zeros in either kind of frames, to the shorter one."""
    length = max(len(first), len(second))

    def padded(frames: Frames) -> Frames:
        return np.pad(frames, [(0, length - len(frames)), *[(0, 0)] * (frames.ndim - 1)])

    return padded(first), padded(second)


def _score(
    matcher: Matcher,
    source: Frames,
    output: Frames,
    frame_rate: int,
    rotations: Sequence[float],
) -> Score:
    usable = usable_rotations(rotations, len(output) // frame_rate)
    rotated = [np.roll(output, round(share * len(output)), axis=0) for share in usable]
    # In one call: aligning several outputs together takes no longer than aligning one.
    value, *others = matcher(source, [output, *rotated])
    return Score(value, float(np.median(others)) if others else None)


def _match_frame_by_frame(source: Frames, outputs: Sequence[Frames]) -> list[float]:
    """Match chroma frames [L, 12] at the same time."""
    return [
        _weighted_mean((source * output).sum(axis=1), _sounds(source) | _sounds(output))
        for output in outputs
    ]


def _match_along_path(source: Frames, outputs: Sequence[Frames]) -> list[float]:
    """Match chroma frames [L, 12] that time warping within 2 s joins."""
    paths = warping_paths(np.stack([_band_costs(source, output) for output in outputs]))
    return [
        _weighted_mean(
            (source[i] * output[j]).sum(axis=1), w * (_sounds(source)[i] | _sounds(output)[j])
        )
        for output, (i, j, w) in zip(outputs, paths, strict=True)
    ]


def _match_at_best_lag(source: Frames, outputs: Sequence[Frames]) -> list[float]:
    """Match onset envelopes [L] at the lag within 0.1 s at which they correlate best."""
    return [_correlation_at_best_lag(source, output) for output in outputs]


def _weighted_mean(agreement: Frames, weights: npt.NDArray[np.bool_ | np.intp]) -> float:
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
        # Silence on silence agrees: a path may pass through it, but gains nothing by it.
        cosines[~_sounds(source[first]) & ~_sounds(output[second])] = 1
        costs[first, BAND_RADIUS + offset] = 1 - cosines
    return costs


def _sounds(frames: Frames) -> npt.NDArray[np.bool_]:
    return np.asarray(frames.any(axis=1))


def _correlation_at_best_lag(source: Frames, output: Frames) -> float:
    found = []
    for lag in range(-ONSET_LAG, ONSET_LAG + 1):
        frames = np.arange(max(0, lag), len(source) + min(0, lag))
        found.append(np.mean(_standardise(source[frames]) * _standardise(output[frames - lag])))
    return float(max(found))


def _standardise(values: Frames) -> Frames:
    spread = values.std()
    return (values - values.mean()) / spread if spread > NO_ATTACK else np.zeros_like(values)
