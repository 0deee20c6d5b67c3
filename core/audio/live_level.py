"""The level of what is heard while it is played: on the way into a model, and out of it.

In and out: blocks of float32, (T,) of one channel or (T, C) of several, of any length. No result
depends on how a stream is cut. Memory grows by some 1.5 kB a second.

On the way in, quiet sound is raised (`LiveLevel.raise_input`). On the way out that is undone,
sample by sample, and what is left of the difference in loudness is measured and made up for
(`LiveLevel.match_output`). So the first note has nearly the source's level, though
there was nothing to measure before it.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

import numpy as np

from core.audio.levels import (
    ABSOLUTE_GATE_DB,
    GATE_BLOCK_SECONDS,
    RELATIVE_GATE_DB,
    constant_offset,
    matching_gain_db,
    on_channels,
)
from core.audio.loudness import MAX_GAIN_DB, LoudnessMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float32]
    Means = NDArray[np.float64]

RAISED_SECONDS = 0.01  # in which the gain of the input moves on
# By how many of these steps it is undone early: a note that is found with the raised gain is played
# with a soft start of half a synthesizer's frame.
EARLY_STEPS = 4
MATCHED_SECONDS = 0.05  # in which that of the output does
OFFSET_SECONDS = 0.2  # less of a bass note has a mean that is no offset
# What a spectral model plays before anything could be measured: `EXPECTED_DB` less than it gets,
# and of what is above its training level `EXPECTED_SLOPE` less. Somewhat below the medians over two
# models, three domains, and four sources at three levels: 3.8 dB and 0.41.
EXPECTED_DB = 3.0
EXPECTED_SLOPE = 0.35
CREST_DB = 3.0  # of the loudest 0.05 s above the level of the music
TRUSTED_SECONDS = 1.5  # of sound, after which what is measured counts alone
BIN_DB = 0.1
N_BINS = 1200  # from the gate on
_NO_MEAN = np.zeros(())


class RunningLevel:
    """The level of all that has sounded so far, gated as in `core.audio.levels.measure_level_db`.

    The powers of blocks are kept as a histogram, so memory does not grow.

    Args:
        step_seconds: Of what is pushed at a time.
        starts_anew: Whether a block begins with a step that sounds, and begins anew with one that
            is far above what it has so far. The first block then soon has the level of the music,
            however much silence or noise came before.
    """

    def __init__(self, step_seconds: float, *, starts_anew: bool = False) -> None:
        self._n_steps = round(GATE_BLOCK_SECONDS / step_seconds)
        self._starts_anew = starts_anew
        self._steps: list[tuple[float, Means]] = []  # of the unfinished block
        self._counts = np.zeros(N_BINS)
        self._powers = np.zeros(N_BINS)

    def push(self, power: float, mean: Means = _NO_MEAN) -> None:
        """Count a step.

        Args:
            power: Mean square, the mean of channels.
            mean: Of each channel, (C,) or (): a constant offset is not sound.
        """
        own_db = _to_db(_without_mean(power, mean))
        if self._starts_anew:
            if self._steps and own_db + RELATIVE_GATE_DB > self._block_db():
                self._steps.clear()
            if not self._steps and own_db <= ABSOLUTE_GATE_DB:
                return
        self._steps.append((power, mean))
        if len(self._steps) == self._n_steps:
            block_db = self._block_db()
            if block_db > ABSOLUTE_GATE_DB:
                self._counts[_place(block_db)] += 1
                self._powers[_place(block_db)] += 10 ** (block_db / 10)
            self._steps.clear()

    def level_db(self) -> float:
        """Return the level in dB, -inf for silence; the unfinished block counts for its length."""
        counts, powers = self._counts, self._powers
        block_db = self._block_db() if self._steps else -math.inf
        if block_db > ABSOLUTE_GATE_DB:
            counts, powers = counts.copy(), powers.copy()
            share = len(self._steps) / self._n_steps
            counts[_place(block_db)] += share
            powers[_place(block_db)] += share * 10 ** (block_db / 10)
        if not counts.any():
            return -math.inf
        mean = powers.sum() / counts.sum()
        loud = slice(_place(_to_db(mean) + RELATIVE_GATE_DB), None)
        return _to_db(powers[loud].sum() / counts[loud].sum())

    def _block_db(self) -> float:
        powers, means = zip(*self._steps, strict=True)
        return _to_db(_without_mean(float(np.mean(powers)), np.mean(means, axis=0)))


def _without_mean(power: float, mean: Means) -> float:
    return power - float(np.mean(np.square(mean)))


def _place(level_db: float) -> int:
    """Return the bin of a level."""
    return min(max(int((level_db - ABSOLUTE_GATE_DB) / BIN_DB), 0), N_BINS - 1)


def _to_db(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf


class GainTrack:
    """A gain that moves in straight lines from one value to the next.

    Args:
        length: Samples from value to value.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._gains = array("d")

    def append(self, gain: float) -> None:
        """Add the gain that is reached next; the first is that of the first sample."""
        self._gains.append(gain)

    def __len__(self) -> int:
        """Return how many values there are."""
        return len(self._gains)

    def between(self, start: int, stop: int, n_early: int = 0) -> Array:
        """Return the gains of samples, float32 (stop - start,); past the end the last one.

        Args:
            start: The first sample.
            stop: The one after the last.
            n_early: By how many values the gain rises early; it falls in time.
        """
        first = min(start // self.length, len(self._gains) - 1)
        n_values = max(-(-stop // self.length) + 1 - first, 1)
        known = np.array(self._gains[first : first + n_values + n_early])
        padded = np.pad(known, (0, n_values + n_early - len(known)), mode="edge")
        values = np.lib.stride_tricks.sliding_window_view(padded, n_early + 1).max(axis=1)
        places = np.arange(start, stop) / self.length - first
        gains: Array = np.interp(places, np.arange(len(values)), values).astype(np.float32)
        return gains


class LiveLevel:
    """What is known of the level of a source that is being played.

    Args:
        sample_rate: Of the model, at which everything passes here, Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.target_db = math.inf  # none is loud
        self._raised = GainTrack(max(1, round(RAISED_SECONDS * sample_rate)))
        self._raised.append(1.0)
        self._meter = LoudnessMeter(MATCHED_SECONDS)

    def raise_input(self, blocks: Iterable[Array], target_db: float) -> Iterator[Array]:
        """Raise a stream to a level by the gain that all of it so far asks for.

        The gain is measured every 0.01 s, and reached 0.01 s later, so that no sample has to wait
        for those after it. It begins with 0 dB.

        Args:
            blocks: float32 (T,) or (T, C) each.
            target_db: The wanted level in dBFS, as `measure_level_db` defines it.

        Yields:
            The same, each block at once.
        """
        self.target_db = target_db
        level = RunningLevel(RAISED_SECONDS, starts_anew=True)
        total, n_steps = np.zeros(()), 0
        offsets = [np.zeros(()), np.zeros(())]  # before and after this step
        self._raised.append(1.0)

        def move_on(step: Array) -> None:
            nonlocal total, n_steps
            power, mean = _moments(step)
            level.push(power, mean)
            level_db = level.level_db()
            self._raised.append(10 ** (matching_gain_db(level_db, target_db) / 20))
            total, n_steps = total + mean, n_steps + 1
            is_known = n_steps * RAISED_SECONDS >= OFFSET_SECONDS
            now = constant_offset(total / n_steps, level_db) if is_known else np.zeros(())
            offsets[:] = [offsets[1], now]

        for part, start, share in _stepwise(blocks, self._raised.length, move_on):
            moving = offsets[0] + on_channels(share, part) * (offsets[1] - offsets[0])
            gains = self._raised.between(start, start + len(part))
            yield (part - moving.astype(np.float32)) * on_channels(gains, part)

    def listen(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """Pass a raised stream on, and measure it as it was before."""
        n_done = 0
        for block in blocks:
            gains = self._raised.between(n_done, n_done + len(block))
            self._meter.push(block / on_channels(gains, block), self.sample_rate)
            n_done += len(block)
            yield block

    def match_output(
        self, blocks: Iterable[Array], report: Callable[[float], None]
    ) -> Iterator[Array]:
        """Bring a stream to the loudness of the source, which is 0.1 s ahead of it or waited for.

        The gain that the source was raised by is undone. What loudness is missing then is what
        models are known for at first, and is measured more and more; see `TRUSTED_SECONDS`.

        Args:
            blocks: What was made of the source, float32 (T,) or (T, C) each.
            report: Called with each gain in dB.

        Yields:
            The same samples; silence while the source is silent.
        """
        length = round(MATCHED_SECONDS * self.sample_rate)
        track = GainTrack(length)
        powers = self._meter.powers
        meter = LoudnessMeter(MATCHED_SECONDS)
        levels = RunningLevel(MATCHED_SECONDS), RunningLevel(MATCHED_SECONDS)
        loudest_db = [-math.inf, -math.inf]  # of the source: in all, and while it was compared
        n_compared = 0

        def next_gain() -> float:
            """Return the gain that is reached at the end of the step that comes now."""
            nonlocal n_compared
            n_steps = len(meter.powers)
            loudest_db[0] = max([loudest_db[0], *map(_to_db, powers[n_steps : n_steps + 2])])
            if 0 < n_steps <= len(powers):
                last = powers[n_steps - 1], meter.powers[n_steps - 1]
                loudest_db[1] = max(loudest_db[1], _to_db(last[0]))
                if loudest_db[1] > ABSOLUTE_GATE_DB:
                    n_compared += 1
                    for level, power in zip(levels, last, strict=True):
                        level.push(power)
            if loudest_db[0] <= ABSOLUTE_GATE_DB:
                return 0.0
            above_db = max(loudest_db[0] - CREST_DB - self.target_db, 0.0)
            gain_db = EXPECTED_DB + EXPECTED_SLOPE * above_db
            wanted_db, found_db = (level.level_db() for level in levels)
            if wanted_db > -math.inf and found_db > -math.inf:
                trust = min(n_compared * MATCHED_SECONDS / TRUSTED_SECONDS, 1.0)
                gain_db += trust * (min(wanted_db - found_db, MAX_GAIN_DB) - gain_db)
            return float(10 ** (gain_db / 20))

        def move_on(step: Array) -> None:
            meter.push(step, self.sample_rate)
            track.append(next_gain())

        for part, start, _ in _stepwise(
            self._behind(self._lowered(blocks), length), length, move_on
        ):
            if start == 0:
                track.append(next_gain())  # the first sound begins with its own gain
                track.append(track.between(0, 1)[0])
            gains = track.between(start, start + len(part))
            yield part * on_channels(gains, part)
            if gains[-1]:
                raised = self._raised.between(start, start + 1)[0]
                report(20 * math.log10(gains[-1] / raised))

    def _lowered(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """Undo the gain of the source; it must be known by then."""
        n_done = 0
        for block in blocks:
            gains = self._raised.between(n_done, n_done + len(block), EARLY_STEPS)
            yield block / on_channels(gains, block)
            n_done += len(block)

    def _behind(self, blocks: Iterable[Array], length: int) -> Iterator[Array]:
        """Hold back what would begin a step before the source has the next one whole."""
        waiting: list[Array] = []
        n_done = 0
        for block in blocks:
            waiting.append(block)
            n_ready = max((len(self._meter.powers) - 1) * length - n_done, 0)
            if n_ready:
                held = np.concatenate(waiting)
                yield held[:n_ready]
                waiting = [held[n_ready:]]
                n_done += len(held[:n_ready])
        yield from waiting


def _stepwise(
    blocks: Iterable[Array], length: int, move_on: Callable[[Array], None]
) -> Iterator[tuple[Array, int, Array]]:
    """Cut a stream at the ends of steps, without waiting for them.

    Args:
        blocks: float32 (T,) or (T, C) each.
        length: Of a step.
        move_on: Called with each whole step after it was taken.

    Yields:
        A part of a step, where in the stream it begins, and how far its samples are on the way
        through the step, 0..1 (T,).
    """
    step: list[Array] = []
    start = 0
    for block in blocks:
        rest = block
        while len(rest):
            place = start % length
            part, rest = rest[: length - place], rest[length - place :]
            yield (
                part,
                start,
                np.arange(place, place + len(part), dtype=np.float32) / np.float32(length),
            )
            step.append(part)
            start += len(part)
            if start % length == 0:
                move_on(np.concatenate(step))
                step = []


def _moments(block: Array) -> tuple[float, Means]:
    """Return the mean square of a block, the mean of channels, and the mean of each channel."""
    # Channel by channel, so that two that are the same have the power of one to the last bit.
    channels = np.ascontiguousarray(block.reshape(len(block), -1).T)
    powers = [np.mean(np.square(own, dtype=np.float64)) for own in channels]
    return float(np.mean(powers)), np.array([np.mean(own, dtype=np.float64) for own in channels])
