"""Worker processes that make batches."""

import os
import signal

import pytest

from core.training import loading


class Numbers:
    """Stands in for the batches of a run."""

    def __getitem__(self, step):
        return step

    def __len__(self):
        return 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_worker_that_is_told_to_end_before_it_is_ready_works_on(monkeypatch, number):
    """As when a cluster ends the whole process group just then: the loop decides when to stop."""
    prepare = loading._leave_signals_to_the_loop

    def struck_first(worker):
        os.kill(os.getpid(), number)
        prepare(worker)

    monkeypatch.setattr(loading, "_leave_signals_to_the_loop", struck_first)
    monkeypatch.setattr(loading.Batch, "share_memory", lambda step: step)
    assert list(loading.load_batches(Numbers(), range(3), on_gpu=False)) == [0, 1, 2]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])  # this process hears them again
