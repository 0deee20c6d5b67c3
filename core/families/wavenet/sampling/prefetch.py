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

# A sequence's number, and: a block, float [l, D]; what went wrong; or None at its end.
Item = tuple[int, Tensor | BaseException | None]


class Reader:
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
        # Not for longer: the thread may wait for a live input that says nothing.
        self._thread.join(2 * POLL_SECONDS)

    def take(self, *, wait: bool) -> Item | None:
        """Return what was read next; None if it is not there yet and one is not to wait."""
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
        """Hand over an item; False if nobody wants it any more."""
        while not self._is_closed.is_set():
            try:
                self._queue.put(item, timeout=POLL_SECONDS)
            except Full:
                continue
            return True
        return False


def _next(blocks: Iterator[Tensor]) -> Tensor | BaseException | None:
    try:
        return next(blocks, None)
    except BaseException as error:
        return error
