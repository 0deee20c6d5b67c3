"""A watch over requests to stop: how long the loop may take to heed one by itself.

It heeds one between updates. On a CPU an update of a large WaveNet takes minutes, all of them
inside calls that no signal handler interrupts; a cluster kills what is still there half a minute
after its SIGTERM. So another thread looks at the clock.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_SECONDS = 6.0
# The first process saves meanwhile; without the others its own update would fail.
OTHERS_PATIENCE_SECONDS = 15.0
LOOK_SECONDS = 0.2


@contextmanager
def watched(
    should_stop: Callable[[], str | None], leave: Callable[[str], None], *, seconds: float
) -> Iterator[None]:
    """Call `leave` in another thread if the block goes on for too long after a request to stop.

    Args:
        should_stop: Asked in that thread; the reason to stop, or None.
        leave: Given the reason. It ends the process; where it returns, it is called again.
        seconds: How long the block may go on.
    """
    over = threading.Event()

    def watch() -> None:
        while (reason := should_stop()) is None:
            if over.wait(LOOK_SECONDS):
                return
        is_over = over.wait(seconds)
        while not is_over:
            leave(reason)
            is_over = over.wait(LOOK_SECONDS)

    thread = threading.Thread(target=watch, name="watch over requests to stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # where it is leaving, the process ends here
