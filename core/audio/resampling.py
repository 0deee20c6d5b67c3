"""Change the sample rate of a stream of blocks.

In and out: float32 blocks, (T,) of one channel or (T, 2) of two. The result is the same however the
input is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray


def resample_blocks(
    blocks: Iterable[NDArray[np.float32]], source_rate: int, target_rate: int
) -> Iterator[NDArray[np.float32]]:
    """Resample a stream; the result does not depend on how it is cut into blocks.

    Args:
        blocks: float32 (T,) or (T, C) each, at `source_rate`.
        source_rate: Hz.
        target_rate: Hz.

    Yields:
        float32 (T,) or (T, C) each, none empty, `resampled_length` samples in all.
    """
    if source_rate == target_rate:
        yield from (block for block in blocks if len(block))
        return
    resampler: Resampler | None = None
    for block in blocks:
        if resampler is None:
            resampler = Resampler(source_rate, target_rate, channels_of(block))
        if len(resampled := resampler.push(block)):
            yield resampled
    if resampler is not None and len(rest := resampler.finish()):
        yield rest


class Resampler:
    """A stream being resampled; give it blocks in order, then `finish`."""

    def __init__(self, source_rate: int, target_rate: int, n_channels: int = 1) -> None:
        """Begin a stream.

        Args:
            source_rate: Hz.
            target_rate: Hz; another one.
            n_channels: C; blocks are (T,) for one, (T, C) for more.
        """
        self._shape = () if n_channels == 1 else (n_channels,)
        self._rates = source_rate, target_rate
        self._stream = soxr.ResampleStream(source_rate, target_rate, n_channels, dtype="float32")
        self._n_read = self._n_written = 0

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resample float32 (T,) or (T, C); returns float32 (t,) or (t, C), which may be empty."""
        self._n_read += len(block)
        resampled: NDArray[np.float32] = self._stream.resample_chunk(
            np.ascontiguousarray(block, dtype=np.float32)
        )
        self._n_written += len(resampled)
        return resampled

    def finish(self) -> NDArray[np.float32]:
        """Return what is left; then there are `resampled_length` samples in all."""
        rest = self._stream.resample_chunk(np.zeros((0, *self._shape), np.float32), last=True)
        # soxr rounds an exact half up or down; headers are written before it does.
        n_missing = resampled_length(self._n_read, *self._rates) - self._n_written
        padding = np.zeros((max(n_missing - len(rest), 0), *self._shape), np.float32)
        return np.concatenate([rest[:n_missing], padding])


def channels_of(block: NDArray[np.float32]) -> int:
    """Return the number of channels of a block (T,) or (T, C)."""
    return 1 if block.ndim == 1 else block.shape[1]


def resampled_length(n_samples: int, source_rate: int, target_rate: int) -> int:
    """Say how many samples `resample_blocks` makes of `n_samples`: the nearest number.

    Args:
        n_samples: Samples at `source_rate`.
        source_rate: Hz.
        target_rate: Hz.

    Returns:
        Samples at `target_rate`; at least one, unless there were none.
    """
    if n_samples == 0:
        return 0
    return max(1, (2 * n_samples * target_rate + source_rate) // (2 * source_rate))
