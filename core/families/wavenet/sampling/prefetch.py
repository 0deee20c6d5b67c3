"""Latents of one sequence after the other, read and encoded while the engine works."""

from __future__ import annotations

from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCKS_AHEAD = 2  # of latents, read before they are needed
POLL_SECONDS = 0.2

# A sequence's number, with a block, float [l, D], or the error of reading it, or None at its end.
Item = tuple[int, Tensor | BaseException | None]


class Prefetcher:
    """Reads ahead on a thread of its own; a sequence is begun when the one before has ended.

    The very first block is read before that, on the caller's thread, with all of torch's
    threads.

    Args:
        sequences: Blocks of latents, float [l, D] each.

    Attributes:
        wanted: Number of the first sequence that is still of use; what is left of those before
            it is not read.
    """

    def __init__(self, sequences: Sequence[Iterator[Tensor]]) -> None:
        self.wanted = 0
        self._items = self._read(sequences)
        self._first = next(self._items, None)
        self._queue: Queue[Item] = Queue(BLOCKS_AHEAD)
        self._is_closed = Event()
        self._thread = Thread(target=self._run, name="umt-latents", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed.set()
        # Bounded: the thread may be blocked reading a live input on which nothing arrives.
        self._thread.join(2 * POLL_SECONDS)

    def take(self, *, wait: bool) -> Item | None:
        """Return the next item; None if there is none yet and `wait` is false."""
        if self._first is not None:
            item, self._first = self._first, None
            return item
        try:
            return self._queue.get(block=wait)
        except Empty:
            return None

    def _read(self, sequences: Sequence[Iterator[Tensor]]) -> Iterator[Item]:
        for number, blocks in enumerate(sequences):
            item = _next(blocks)
            while isinstance(item, Tensor):
                yield number, item
                item = None if number < self.wanted else _next(blocks)
            yield number, item

    def _run(self) -> None:
        for item in self._items:
            if not self._put(item):
                return

    def _put(self, item: Item) -> bool:
        """Queue an item; return False if the prefetcher was closed before there was room."""
        while not self._is_closed.is_set():
            try:
                self._queue.put(item, timeout=POLL_SECONDS)
            except Full:
                continue
            return True
        return False


def _next(blocks: Iterator[Tensor]) -> Tensor | BaseException | None:
    # Errors become items: they belong to a sequence, and are raised where that one is played.
    try:
        return next(blocks, None)
    except BaseException as error:
        return error
