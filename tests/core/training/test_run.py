"""A run's folder: its lock and its log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.errors import TrainingError
from core.training.run_directory import LOG_FILE, cut_log, locked

ROOT = Path(__file__).resolve().parents[3]
# A child stays behind, as a loader's worker does for some seconds.
HOLDER = """
import os, sys, time
from pathlib import Path
from core.training.run_directory import locked
with locked(Path(sys.argv[1])):
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process_training(run):
    """Hold the lock from another process; yields it and its child's id."""
    command = [sys.executable, "-c", HOLDER, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        child = int(holder.stdout.readline())
        try:
            yield holder
        finally:
            holder.kill()
            os.kill(child, signal.SIGKILL)


def test_run_that_another_process_trains_is_refused(tmp_path):
    with (
        another_process_training(tmp_path / "run"),
        pytest.raises(TrainingError, match="run: another process is training this run"),
        locked(tmp_path / "run"),
    ):
        pass


def test_lock_ends_with_a_killed_process_even_if_its_workers_live_on(tmp_path):
    with another_process_training(tmp_path / "run") as holder:
        holder.kill()
        holder.wait()
        with locked(tmp_path / "run"):
            pass


def test_lock_ends_with_the_block(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "run"):
            pass
    with another_process_training(tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    ("step", "kept"), [(0, []), (4, ["4"]), (7, ["4", "7", "7b"]), (20, ["4", "7", "7b", "10"])]
)
def test_log_is_cut_after_a_step(tmp_path, step, kept):
    lines = {
        "4": '{"step": 4, "loss/bass": 5.5}',
        "7": '{"step": 7, "loss/bass": 5.1}',
        "7b": '{"step": 7, "validation/bass": 7.5}',
        "10": '{"step": 10}',
    }
    text = "\n".join([*lines.values(), "", '{"step": 1'])
    (tmp_path / LOG_FILE).write_text(text)
    cut_log(tmp_path, step)
    assert (tmp_path / LOG_FILE).read_text() == "".join(f"{lines[name]}\n" for name in kept)


def test_run_without_a_log_needs_no_cut(tmp_path):
    cut_log(tmp_path, 5)
    assert not (tmp_path / LOG_FILE).exists()
