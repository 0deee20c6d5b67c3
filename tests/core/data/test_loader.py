"""Worker processes that make batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.data import loader
from core.errors import TrainingError

ROOT = Path(__file__).resolve().parents[3]


class Numbers:
    """Stands in for the batches of a run."""

    def __getitem__(self, step):
        return step

    def __len__(self):
        return 3


class Failing(Numbers):
    def __getitem__(self, step):
        if step == 1:
            raise OSError("the disk is gone")
        return step


class Deadly(Numbers):
    def __getitem__(self, step):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def _numbers_are_no_tensors(monkeypatch):
    monkeypatch.setattr(loader.Batch, "share_memory", lambda step: step)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_worker_that_gets_a_signal_before_it_is_ready_works_on(monkeypatch, number):
    """As when a cluster ends the whole process group just then: the loop decides when to stop."""
    prepare = loader._leave_signals_to_the_loop

    def struck_first(worker):
        os.kill(os.getpid(), number)
        prepare(worker)

    monkeypatch.setattr(loader, "_leave_signals_to_the_loop", struck_first)
    with loader.load_batches(Numbers(), range(3), on_gpu=False) as batches:
        assert list(batches) == [0, 1, 2]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])  # this process gets them again


@pytest.mark.parametrize("kind", [Failing, Deadly])
def test_failed_worker_is_an_error_and_none_is_left_even_while_the_error_is_kept(kind):
    with (
        pytest.raises(TrainingError, match="could not make a batch") as kept,
        loader.load_batches(kind(), range(3), on_gpu=False) as batches,
    ):
        list(batches)
    assert kept.value.__traceback__
    assert not multiprocessing.active_children()


def learn_while_the_worker_is_killed():
    with loader.load_batches(Numbers(), range(3), on_gpu=False) as batches:
        next(batches)
        for child in multiprocessing.active_children():
            child.kill()
        signal.pause()  # until the death is noticed


def test_worker_that_is_killed_while_a_batch_is_learnt_from_is_an_error_too():
    """As by a system that is out of memory: torch raises it in the main thread, anywhere."""
    with pytest.raises(TrainingError, match=r"could not make a batch.*killed by signal"):
        learn_while_the_worker_is_killed()
    assert not multiprocessing.active_children()


STUCK = """
import sys, time
from core.data import loader

class Stuck:
    def __getitem__(self, step):
        while step == 1:
            time.sleep(1)  # as on a disk that does not answer
        return step

    def __len__(self):
        return 3

loader.Batch.share_memory = lambda step: step
with loader.load_batches(Stuck(), range(3), on_gpu=False) as batches:
    next(batches)
    raise ValueError("training failed")
"""


def test_worker_that_does_not_end_by_itself_does_not_keep_a_failed_program_alive():
    """It ignores SIGTERM, which is all that Python would send it before it waits for ever."""
    ended = subprocess.run(
        [sys.executable, "-c", STUCK],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert b"training failed" in ended.stderr
