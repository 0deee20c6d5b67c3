"""A network applied to a long sequence in windows, with the result of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor


def run_in_windows(
    blocks: Iterator[Tensor],
    run: Callable[[Tensor], Tensor],
    *,
    window: int,
    before: int,
    after: int,
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
        blocks: float [l, A] each, frames first.
        run: The network, float [n, A] to float [n, B].
        window: Frames kept of a window.
        before: Frames of context before a window.
        after: Frames of context after it.

    Yields:
        float [n, B]; together as many frames as came in.
    """
    pending: list[Tensor] = []
    held = 0  # frames in `pending`
    done = 0  # of those, how many are already yielded: context of the next window
    for block in blocks:
        pending.append(block)
        held += len(block)
        while held >= done + window + after:
            # One block may hold hours: cut from it, do not copy it for each window.
            frames = torch.cat(pending) if len(pending) > 1 else pending[0]
            yield run(frames[: done + window + after])[done : done + window]
            keep_from = max(0, done + window - before)
            pending = [frames[keep_from:]]
            held, done = len(pending[0]), done + window - keep_from
    if held > done:
        yield run(torch.cat(pending))[done:]
