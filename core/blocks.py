"""Sequences that arrive in blocks: cut into other blocks, side by side, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float32]


class Block(Protocol):
    """What arrays and tensors have in common here."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> Self: ...


B = TypeVar("B", bound=Block)


def regroup(
    blocks: Iterable[B],
    length: int,
    *,
    join: Callable[[list[B]], B],
    first: int | None = None,
) -> Iterator[B]:
    """Cut a sequence into blocks of one length, whatever the blocks are in which it arrives.

    Args:
        blocks: [l, ...] each.
        length: Of a block; the last may be shorter.
        join: Puts blocks end to end: `np.concatenate`, `torch.cat`.
        first: Length of the first block, if it is another.

    Yields:
        [length, ...] each, none empty.
    """
    pieces: list[B] = []
    missing = first or length
    for block in blocks:
        rest = block
        while len(rest) >= missing:
            # One block may hold hours: cut from it, do not copy it for each piece.
            yield join([*pieces, rest[:missing]]) if pieces else rest[:missing]
            rest = rest[missing:]
            pieces, missing = [], length
        if len(rest):
            pieces.append(rest)
            missing -= len(rest)
    if pieces:
        yield join(pieces)


def side_by_side(*streams: Iterator[B]) -> Iterator[list[B]]:
    """Cut streams of equal length, of which some lag behind, into blocks that belong together.

    Args:
        streams: [l, ...] each, arrays or tensors.

    Yields:
        A block of each stream, all of the same length.
    """
    held: list[B | None] = [None] * len(streams)
    while True:
        for index, stream in enumerate(streams):
            block = held[index]
            if block is None or not len(block):
                held[index] = next(stream, None)
        blocks = [block for block in held if block is not None]
        if len(blocks) < len(streams):
            return
        length = min(len(block) for block in blocks)
        yield [block[:length] for block in blocks]
        held = [block[length:] for block in blocks]


def add_up(streams: Sequence[Iterator[Array]], shares: Sequence[float]) -> Iterator[Array]:
    """Add streams of equal length up, each times its share.

    Args:
        streams: float32 [t, ...] each.
        shares: As many.

    Yields:
        float32 [t, ...].
    """
    for blocks in side_by_side(*streams):
        yield weighted_sum(blocks, shares)


def weighted_sum(blocks: Sequence[Array], shares: Sequence[float]) -> Array:
    """Return the sum of arrays of one shape, each times its share."""
    total = blocks[0] * np.float32(shares[0])
    for block, share in zip(blocks[1:], shares[1:], strict=True):
        total += block * np.float32(share)
    return total
