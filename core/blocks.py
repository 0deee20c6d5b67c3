"""Sequences that arrive in blocks, cut into blocks of one length; arrays and tensors alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


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
