"""Input level and output peaks, on streams of any length and on arrays (`ArrayRecording`).

In and out: blocks of float32, (T,) of one channel or (T, 2) of two, which share all gains. A model
works only on input about as loud as its training data, so `level_input` raises quiet input.
Decoders sometimes overshoot full scale, so `guard_peaks` lowers peaks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np

from core.audio.resampling import resample_blocks, resampled_length
from core.blocks import regroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

GATE_BLOCK_SECONDS = 0.4
ABSOLUTE_GATE_DB = -80.0  # dBFS; below it a block is silence, or 16-bit noise
RELATIVE_GATE_DB = -10.0  # below the level of the blocks above the absolute gate
MIN_GAIN_DB = 3.0  # less is not worth touching the input
MAX_GAIN_DB = 40.0  # more would raise mostly noise
LIVE_SECONDS = 5.0  # what a live stream is measured on, from its first sound
MAX_LIVE_SILENCE_SECONDS = 60.0  # a live stream that begins with more is left as it is
GUARD_SECONDS = 0.05
LIVE_GUARD_SECONDS = 0.005  # for who plays along, and waits twice as long
GUARD_STEPS = 20  # in that time, at whose ends the gain is set
SMALL_OFFSET_DB = -20.0  # of a constant offset beside the sound, below which it is left alone


class Recording(Protocol):
    """What can be levelled: an `AudioInput`, or a `ArrayRecording` in memory."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def n_samples(self) -> int | None:
        """Samples in all; None when not known in advance."""

    @property
    def is_live(self) -> bool:
        """Whether it can be read only once."""

    @property
    def is_stereo(self) -> bool:
        """Whether its blocks have two channels."""

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Return blocks of float32, (T,) or (T, 2), from the beginning."""


@dataclass(frozen=True)
class RecordingView:
    """A recording seen through something that changes or counts its blocks.

    Attributes:
        recording: The recording, whose rate, length and channels are also the view's.
    """

    recording: Recording

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.recording.sample_rate

    @property
    def n_samples(self) -> int | None:
        """Samples in all; None when not known in advance."""
        return self.recording.n_samples

    @property
    def is_live(self) -> bool:
        """Whether it can be read only once."""
        return self.recording.is_live

    @property
    def is_stereo(self) -> bool:
        """Whether its blocks have two channels."""
        return self.recording.is_stereo


@dataclass(frozen=True)
class ArrayRecording:
    """A waveform in memory, as a `Recording`.

    Attributes:
        samples: float32 (T,) or (T, 2), in [-1, 1].
        sample_rate: Hz.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    is_live: bool = False

    @property
    def n_samples(self) -> int:
        """Samples in all."""
        return len(self.samples)

    @property
    def is_stereo(self) -> bool:
        """Whether it has two channels."""
        return self.samples.ndim == 2

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Return the whole waveform as one block."""
        return iter([self.samples])


@dataclass
class LevelledInput:
    """An input ready for the encoder.

    Attributes:
        blocks: float32 (T,) or (T, 2) each at the target rate; can be read once.
        gain_db: What was added to the input's level, in dB; 0 when it was left alone.
        n_samples: Samples in all at the target rate; None when not known in advance.
    """

    blocks: Iterator[NDArray[np.float32]]
    gain_db: float
    n_samples: int | None


def measure_level_db(blocks: Iterable[NDArray[np.float32]], sample_rate: int) -> float:
    """Measure the level of the parts that sound.

    Gated as in ITU-R BS.1770, without its frequency weighting and overlap: the mean power of
    the 400 ms blocks that are above -80 dBFS and not more than 10 dB below the mean power of
    those. The power of two channels is their mean. The mean of each block is taken out first: a
    constant offset is not sound. An incomplete last block counts only if it is the only one.

    Args:
        blocks: float32 (T,) or (T, C) each.
        sample_rate: Hz.

    Returns:
        RMS level in dBFS (a square wave at full scale has 0); -inf for silence.
    """
    length = max(1, round(GATE_BLOCK_SECONDS * sample_rate))
    powers = [
        _power(block)
        for index, block in enumerate(regroup(blocks, length, join=np.concatenate))
        if len(block) == length or index == 0
    ]
    return _gated_db(np.array(powers))


def level_input(audio: Recording, sample_rate: int, target_db: float | None) -> LevelledInput:
    """Resample an input, and raise it to a level if it is quiet; it is never lowered.

    A file is measured whole, in a first pass; a live stream on its first 5 s of sound, which
    are read here (after a minute of silence it is left as it is). A gain under 3 dB is not applied,
    and none is over 40 dB. A constant offset that is not far below the sound is taken out.

    Args:
        audio: The input; a live one is consumed.
        sample_rate: The wanted rate in Hz.
        target_db: The wanted level in dBFS, as `measure_level_db` defines it; None to leave the
            level as it is.

    Returns:
        The blocks with what is known of them.

    Raises:
        AudioError: The input cannot be read; also while the blocks are read.
    """
    blocks = resample_blocks(audio.blocks(), audio.sample_rate, sample_rate)
    n_samples = audio.n_samples
    if n_samples is not None:
        n_samples = resampled_length(n_samples, audio.sample_rate, sample_rate)
    if target_db is None:
        return LevelledInput(blocks, 0.0, n_samples)
    offset = _Offset()
    if audio.is_live:
        opening, measured = _read_opening(blocks, sample_rate)
        level_db = measure_level_db(offset.passed([measured]), sample_rate)
        blocks = chain(opening, blocks)
    else:
        level_db = measure_level_db(offset.passed(blocks), sample_rate)
        blocks = resample_blocks(audio.blocks(), audio.sample_rate, sample_rate)
    gain_db = matching_gain_db(level_db, target_db)
    return LevelledInput(_scaled(blocks, gain_db, offset.beside(level_db)), gain_db, n_samples)


def matching_gain_db(level_db: float, target_db: float) -> float:
    """Return the gain in dB that brings quiet audio to a level; 0 where none is due.

    Args:
        level_db: The audio's level in dBFS; -inf for silence.
        target_db: The wanted level in dBFS.
    """
    gain_db = min(target_db - level_db, MAX_GAIN_DB)
    return 0.0 if level_db == -math.inf or gain_db < MIN_GAIN_DB else gain_db


def guard_peaks(
    blocks: Iterable[NDArray[np.float32]],
    sample_rate: int,
    report: Callable[[float], None],
    *,
    seconds: float = GUARD_SECONDS,
) -> Iterator[NDArray[np.float32]]:
    """Lower the gain around peaks that exceed full scale; all else passes unchanged.

    The gain goes down over 0.05 s before a peak, and up over 0.05 s after it. That is short enough
    to leave the loudness of the music as it is, and long enough not to distort its waves.

    Args:
        blocks: float32 (T,) or (T, C) each.
        sample_rate: Hz.
        report: Called once at the end with the lowest gain in dB, if it was lowered.
        seconds: In which the gain moves.

    Yields:
        The same within [-1, 1], twice as many seconds later at most.
    """
    length = GUARD_STEPS * max(1, round(seconds / GUARD_STEPS * sample_rate))
    lowest = 1.0
    free = np.ones(GUARD_STEPS)
    before, waiting = free, None  # limits of the block before, and the block that waits
    limits = free  # its own
    for block in chain(regroup(blocks, length, join=np.concatenate), [None]):
        after = free if block is None else _limits(block, length)
        if waiting is not None:
            gains = _gains_within(np.concatenate([before, limits, after]))
            lowest = min(lowest, float(gains.min()))
            yield _faded(waiting, gains, length)
        before, limits, waiting = limits, after, block
    if lowest < 1:
        report(20 * math.log10(lowest))


def _limits(block: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """Return the gains that the steps of a block can stand, at most 1."""
    heights = np.zeros((length, *block.shape[1:]), np.float32)
    np.abs(block, out=heights[: len(block)])
    peaks = heights.reshape(GUARD_STEPS, -1).max(axis=1)
    limits: NDArray[np.float64] = 1 / np.maximum(peaks, 1.0)
    return limits


def _gains_within(limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return gains between the steps of a block, and at both its ends.

    A gain is the mean over all runs of steps that contain those on both sides of it, and of each
    run the lowest limit, so it is not above theirs.

    Args:
        limits: Of the block before, the block, and the block after it.
    """
    if (limits == 1).all():
        return np.ones(GUARD_STEPS + 1)
    lowest = np.lib.stride_tricks.sliding_window_view(limits, GUARD_STEPS).min(axis=1)
    runs = np.lib.stride_tricks.sliding_window_view(lowest, GUARD_STEPS - 1)
    gains: NDArray[np.float64] = runs[1 : GUARD_STEPS + 2].mean(axis=1)
    return gains


def _faded(
    block: NDArray[np.float32], gains: NDArray[np.float64], length: int
) -> NDArray[np.float32]:
    """Multiply by gains that are given at the ends of steps; rounding never exceeds 1."""
    if (gains == 1).all():
        return block
    ends = np.linspace(0, length, len(gains))
    all_gains = np.interp(np.arange(len(block)) + 0.5, ends, gains).astype(np.float32)
    faded: NDArray[np.float32] = np.clip(block * on_channels(all_gains, block), -1, 1)
    return faded


def on_channels(gains: NDArray[np.float32], block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return gains (T,) in a shape that multiplies each channel of a block, (T,) or (T, C)."""
    return gains if block.ndim == 1 else gains[:, None]


class _Offset:
    """The mean of a stream that passes by, of each channel."""

    def __init__(self) -> None:
        self._total: float | NDArray[np.float64] = 0.0
        self._n_samples = 0

    def passed(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Pass blocks on."""
        for block in blocks:
            self._total = self._total + np.sum(block, axis=0, dtype=np.float64)
            self._n_samples += len(block)
            yield block

    def beside(self, level_db: float) -> NDArray[np.float64]:
        """Return the means that matter beside sound of this level, else 0: () or (C,)."""
        return constant_offset(np.asarray(self._total / max(self._n_samples, 1)), level_db)


def constant_offset(mean: NDArray[np.float64], level_db: float) -> NDArray[np.float64]:
    """Return the means of channels, () or (C,), that matter beside sound of a level, else 0."""
    limit = 10 ** ((max(level_db, ABSOLUTE_GATE_DB) + SMALL_OFFSET_DB) / 20)
    return np.where(np.abs(mean) < limit, 0.0, mean)


def _scaled(
    blocks: Iterable[NDArray[np.float32]], gain_db: float, offset: NDArray[np.float64]
) -> Iterator[NDArray[np.float32]]:
    factor = np.float32(10 ** (gain_db / 20))
    for block in blocks:
        centred = block - offset.astype(np.float32) if offset.any() else block
        yield centred if gain_db == 0 else centred * factor


def _read_opening(
    blocks: Iterator[NDArray[np.float32]], sample_rate: int
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Read a live stream through its first 5 s of sound; return all of it, and that sound."""
    opening: list[NDArray[np.float32]] = []
    heard: list[NDArray[np.float32]] = []
    n_silent = n_heard = 0
    for block in blocks:
        opening.append(block)
        sounding = block if n_heard else block[_first_sound(block) :]
        heard.append(sounding)
        n_heard += len(sounding)
        n_silent += len(block) - len(sounding)
        if n_heard >= LIVE_SECONDS * sample_rate:
            break
        if n_silent >= MAX_LIVE_SILENCE_SECONDS * sample_rate:
            break
    return opening, np.concatenate(heard)[: round(LIVE_SECONDS * sample_rate)]


def _first_sound(block: NDArray[np.float32]) -> int:
    """Return the index of the first sample above the gate; the length if there is none."""
    loud = np.abs(block).reshape(len(block), -1).max(axis=1) > 10 ** (ABSOLUTE_GATE_DB / 20)
    return int(np.argmax(loud)) if loud.any() else len(block)


def _gated_db(powers: NDArray[np.float64]) -> float:
    """Return the level of the blocks that sound, given the powers of all; -inf if none does."""
    loud = _above(powers, ABSOLUTE_GATE_DB)
    if not len(loud):
        return -math.inf
    return _to_db(_above(loud, _to_db(loud.mean()) + RELATIVE_GATE_DB).mean())


def _power(block: NDArray[np.float32]) -> float:
    """Return the mean square of a block without its mean: a constant offset is not sound."""
    # Channel by channel, so that two that are the same have the power of one to the last bit.
    channels = np.ascontiguousarray(block.reshape(len(block), -1).T)
    return float(np.mean([np.var(channel, dtype=np.float64) for channel in channels]))


def _above(powers: NDArray[np.float64], gate_db: float) -> NDArray[np.float64]:
    return powers[powers > 10 ** (gate_db / 10)]


def _to_db(power: float) -> float:
    return 10 * math.log10(power)
