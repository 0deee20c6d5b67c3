"""Change the sample rate of a stream of mono blocks.

In and out: float32 (T,) blocks. The result is the same however the input is cut.
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
        blocks: float32 (T,) each, at `source_rate`.
        source_rate: Hz.
        target_rate: Hz.

    Yields:
        float32 (T,) each, none empty, `resampled_length` samples in all.
    """
    if source_rate == target_rate:
        yield from (block for block in blocks if len(block))
        return
    resampler = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")
    first: NDArray[np.float32] | None = None
    is_empty = True
    for block in blocks:
        if first is None and len(block):
            first = block[:1].copy()
        resampled = resampler.resample_chunk(np.ascontiguousarray(block))
        if len(resampled):
            is_empty = False
            yield resampled
    rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(rest):
        yield rest
    elif is_empty and first is not None:
        yield first  # less than half a sample at the new rate, but the input was not empty


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
