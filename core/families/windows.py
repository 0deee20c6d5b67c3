"""Networks applied to a long sequence as it arrives, with the result of the whole.

In: blocks of a sequence, frames first. Out: blocks of results. A network of several layers can be
applied as a chain of `run_in_context`, each layer with its own context, so that nothing is computed
twice but what a single layer looks back to. The first of the chain gets blocks of one length
(`core.blocks.regroup`), so that nothing depends on how the sequence arrives, not even rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F

from core.blocks import regroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

T = TypeVar("T")


def run_in_windows(
    blocks: Iterator[Tensor],
    run: Callable[[Tensor], Tensor],
    *,
    window: int,
    before: int,
    after: int,
    ratio: int = 1,
) -> Iterator[Tensor]:
    """Apply a network to a long sequence in windows, as if it were applied to the whole.

    Each window has frames of context on both sides, whose output is discarded, so every kept
    frame is computed from its whole receptive field. At the true ends of the sequence the
    windows end too, and the network pads as it would there::

        sequence   |=================================|
        window 1   |kkkkkkkk....|
        window 2        |....kkkkkkkk....|             k kept, . context
        window 3                     |....kkkkkkkkkkk|

    The windows lie at multiples of `window`, however the sequence arrives in blocks.

    Args:
        blocks: float [l, ...] each, frames first.
        run: The network, float [n * ratio, ...] to float [n, B].
        window: Frames kept of a window, a multiple of `ratio`.
        before: Frames of context before a window, a multiple of `ratio`.
        after: Frames of context after it.
        ratio: Frames of the sequence for each of the result's.

    Yields:
        float [n, B]; together as many as `ratio` goes into the frames that came in.
    """
    return run_in_context(
        regroup(blocks, window, join=torch.cat, first=window + after),
        lambda frames, kept: run(frames)[kept],
        before=before,
        after=after,
        ratio=ratio,
    )


def run_in_context(
    blocks: Iterator[Tensor],
    run: Callable[[Tensor, slice], T],
    *,
    before: int,
    after: int,
    ratio: int = 1,
) -> Iterator[T]:
    """Apply a layer to each block of a sequence as soon as the context after it is there.

    Args:
        blocks: float [l, ...] each, frames first.
        run: The layer; gets frames, float [n * ratio, ...], and which of its n results to return.
        before: Frames of context before a block, a multiple of `ratio`.
        after: Frames of context after it.
        ratio: Frames of the sequence for each of the result's.

    Yields:
        What `run` returns.
    """
    pending: Tensor | None = None
    done = 0  # frames of `pending` whose results are out: context of what follows
    for block in blocks:
        pending = block if pending is None else torch.cat([pending, block])
        ready = (len(pending) - after) // ratio * ratio
        if ready > done:
            yield run(pending, slice(done // ratio, ready // ratio))
            keep_from = max(0, ready - before)
            pending, done = pending[keep_from:], ready - keep_from
    if pending is not None and len(pending) > done:
        yield run(pending, slice(done // ratio, len(pending) // ratio))


def frames_for(frames: Tensor, kept: slice, *, before: int, after: int) -> Tensor:
    """Return the frames that a layer needs for those that are kept; beyond the ends they are zero.

    Args:
        frames: float [B, N, ...].
        kept: Frames of the result.
        before: Frames before a frame that it depends on.
        after: Frames after it.
    """
    start, stop, _ = kept.indices(frames.shape[1])
    missing = (max(before - start, 0), max(stop + after - frames.shape[1], 0))
    needed = frames[:, max(start - before, 0) : stop + after]
    if not any(missing):
        return needed
    return F.pad(needed, (*[0] * (2 * (frames.dim() - 2)), *missing))
