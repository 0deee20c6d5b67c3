"""Loudness, and bringing one stream to the loudness of another.

In: blocks of float32, (T,) of one channel or (T, C) of several. Loudness is that of ITU-R BS.1770:
frequencies are weighted as the ear does, blocks of 0.4 s that are silent or far below the others do
not count. Unlike there, blocks do not overlap, and the power of channels is their mean, so that two
that are the same are as loud as one.

A stream that is written to a file is matched as a whole, by one gain. What is heard while it is
made cannot wait for its end: its gain is that of all of it so far. What is played along with is in
`core.audio.live_level`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from core.audio.levels import ABSOLUTE_GATE_DB, RELATIVE_GATE_DB, on_channels
from core.blocks import regroup, side_by_side, weighted_sum
from core.errors import AudioError
from core.files import temporary_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

LevelMatching = Literal["whole", "running", "off"]

BLOCK_SECONDS = 0.4
RUNNING_SECONDS = 10.0  # after which a running gain moves on
RAMP_SECONDS = 2.0  # at most, in which it moves
MAX_GAIN_DB = 24.0  # more would raise mostly noise
# Both filters of BS.1770 at 48 kHz, feed-forward and feed-back coefficients: the head's effect on
# high frequencies, and the ear's deafness to low ones.
FILTER_RATE = 48_000
HEAD = (
    (1.53512485958697, -2.69169618940638, 1.19839281085285),
    (-1.69065929318241, 0.73248077421585),
)
EAR = (1.0, -2.0, 1.0), (-1.99004745483398, 0.99007225036621)


class LoudnessMeter:
    """The loudness of a stream that passes by.

    Args:
        block_seconds: Of a block; 0.4 s in the standard.

    Attributes:
        powers: Weighted mean square of each whole block so far.
    """

    def __init__(self, block_seconds: float = BLOCK_SECONDS) -> None:
        self.powers: list[float] = []
        self._block_seconds = block_seconds
        self._rest: Array | None = None
        self._length = 0  # of a block, in samples
        self._weights = np.zeros(0)

    def reset(self) -> None:
        """Forget what has passed by."""
        self.powers.clear()
        self._rest = None

    def push(self, block: Array, sample_rate: int) -> None:
        """Count samples.

        Args:
            block: float32 (T,) or (T, C).
            sample_rate: Hz, the same for all blocks.
        """
        if not self._length:
            self._length = round(self._block_seconds * sample_rate)
            self._weights = _weights(self._length, sample_rate)
        length = self._length
        samples = block if self._rest is None else np.concatenate([self._rest, block])
        n_blocks = len(samples) // length
        for start in range(0, n_blocks * length, length):
            self.powers.append(self._power(samples[start : start + length]))
        self._rest = samples[n_blocks * length :]

    def loudness_db(self, n_blocks: int | None = None) -> float:
        """Return the loudness in LUFS, -inf for silence.

        Args:
            n_blocks: Of the first so many blocks; None for all, and if there are none, for what
                there is of the first.
        """
        powers = self.powers[:n_blocks]
        if not powers and n_blocks is None and self._rest is not None and len(self._rest):
            shape = (self._length - len(self._rest), *self._rest.shape[1:])
            powers = [self._power(np.concatenate([self._rest, np.zeros(shape, np.float32)]))]
        return gated_loudness_db(np.array(powers))

    def _power(self, block: Array) -> float:
        channels = np.ascontiguousarray(block.reshape(len(block), -1).T)
        spectra = np.fft.rfft(channels)
        # Twice as fast as squares of `np.abs`, which takes roots.
        return float(np.mean((spectra.real**2 + spectra.imag**2) @ self._weights))


def _weights(length: int, sample_rate: int) -> NDArray[np.float64]:
    """Return what the bins of a block's power spectrum count in its weighted mean square."""
    hertz = np.fft.rfftfreq(length, 1 / sample_rate)
    delay = np.exp(-2j * np.pi * np.minimum(hertz, FILTER_RATE / 2) / FILTER_RATE)
    response = np.ones_like(delay)
    for (b0, b1, b2), (a1, a2) in (HEAD, EAR):
        response *= (b0 + b1 * delay + b2 * delay**2) / (1 + a1 * delay + a2 * delay**2)
    weights: NDArray[np.float64] = np.abs(response) ** 2 / length**2
    weights[1 : (length + 1) // 2] *= 2  # the negative frequencies of a real signal
    return weights


def gated_loudness_db(powers: NDArray[np.float64]) -> float:
    """Return the loudness of the blocks that sound, in LUFS; -inf if none does."""
    loud = powers[powers > 10 ** (ABSOLUTE_GATE_DB / 10)]
    if not len(loud):
        return -math.inf
    loud = loud[loud > loud.mean() * 10 ** (RELATIVE_GATE_DB / 10)]
    return -0.691 + 10 * math.log10(loud.mean())


def match_whole(
    parts: Sequence[Iterator[Array]],
    shares: Sequence[float],
    sample_rate: int,
    source: LoudnessMeter,
    report: Callable[[float], None],
) -> Iterator[Array]:
    """Bring a sum of streams to the loudness of another; they are stored on the disk meanwhile.

    Each stream is brought to that loudness by one gain, and so is their sum.

    Args:
        parts: Streams of one length, blocks of float32 (T,) or (T, C) each.
        shares: Of each in the sum.
        sample_rate: Hz.
        source: The other; complete when the streams are.
        report: Called with the last gain in dB.

    Yields:
        The sum, float32 (T,) or (T, C) each. Where the other is silent, it is.

    Raises:
        AudioError: The directory of temporary files is full.
    """
    meters = [LoudnessMeter() for _ in parts]
    shapes = []
    with temporary_file(error=AudioError) as file:
        for blocks in side_by_side(*parts):
            for meter, block in zip(meters, blocks, strict=True):
                meter.push(block, sample_rate)
                file.write(np.ascontiguousarray(block, dtype=np.float32).tobytes())
            shapes.append(blocks[0].shape)

        def mixed(gains: Sequence[float]) -> Iterator[Array]:
            file.rewind()
            for shape in shapes:
                data = [file.stream.read(4 * math.prod(shape)) for _ in gains]
                stored = [np.frombuffer(own, np.float32).reshape(shape) for own in data]
                yield weighted_sum(stored, gains)

        wanted_db = source.loudness_db()
        gains = [_gain(wanted_db, meter.loudness_db(), report) for meter in meters]
        if len(parts) > 1:
            gains = [share * gain for share, gain in zip(shares, gains, strict=True)]
            total = LoudnessMeter()
            for block in mixed(gains):
                total.push(block, sample_rate)
            last = _gain(wanted_db, total.loudness_db(), report)
            gains = [last * gain for gain in gains]
        yield from mixed(gains)


def match_running(
    blocks: Iterable[Array],
    sample_rate: int,
    source: LoudnessMeter,
    report: Callable[[float], None],
    *,
    seconds: float,
) -> Iterator[Array]:
    """Bring a stream to the loudness of another by a gain that follows both.

    Args:
        blocks: float32 (T,) or (T, C) each.
        sample_rate: Hz.
        source: The other, which is ahead of the blocks.
        report: Called with each gain in dB.
        seconds: After how much the gain moves on, which is measured through the end of that.

    Yields:
        The same samples in blocks of so many seconds. Before the other sounds, they are silent.
    """
    meter = LoudnessMeter()
    gain = 0.0
    for block in regroup(blocks, round(seconds * sample_rate), join=np.concatenate):
        meter.push(block, sample_rate)
        n_blocks = min(len(source.powers), len(meter.powers)) or None
        now = _gain(source.loudness_db(n_blocks), meter.loudness_db(n_blocks), report)
        ramp = np.full(len(block), now, np.float32)
        n_moving = min(len(block), round(RAMP_SECONDS * sample_rate))
        # The first sound begins with its own gain.
        ramp[:n_moving] = np.linspace(gain or now, now, n_moving)
        yield block * on_channels(ramp, block)
        gain = now


def _gain(wanted_db: float, found_db: float, report: Callable[[float], None]) -> float:
    """Return the factor from one loudness to another: 0 for silence, 1 where there is nothing."""
    if wanted_db == -math.inf:
        return 0.0
    gain_db = 0.0 if found_db == -math.inf else min(wanted_db - found_db, MAX_GAIN_DB)
    report(gain_db)
    return float(10 ** (gain_db / 20))
