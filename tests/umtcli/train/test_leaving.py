"""`umt train` asked to stop in the middle of what takes too long to be waited for."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from .conftest import TOML, logged, weights_of

# One call of an update, or of a validation, takes minutes in which no signal handler runs.
SLOW = """
import signal, sys, time
import torch
from pathlib import Path
from core.training import loop, step, validation
from umtcli.app import main

def deep(*args):
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    Path("deep").touch()
    time.sleep(600)

def second_phase(updater, part, latents, step):
    return deep() if step == 6 else add_gradients(updater, part, latents, step)

add_gradients = step.Updater._add_gradients
loop._share_threads = lambda: torch.set_num_threads(1)  # as in the tests' own process
loop.PATIENCE_SECONDS, loop.SLOW_SECONDS = 0.5, 0.0
if sys.argv.pop(1) == "update":
    step.Updater._add_gradients = second_phase
else:
    validation.Validator.figures = deep
sys.exit(main())
"""
CLOCK = {"seconds", "seconds_left", "items_per_second", "waiting_share"}


@pytest.mark.parametrize(
    ("where", "name", "code", "step"),
    [("update", "SIGTERM", 143, 6), ("validation", "SIGINT", 130, 5)],
)
def test_nobody_waits_for_a_long_update_or_validation_and_nothing_finished_is_lost(
    umt, where, name, code, step
):
    """The classifier has moved by then: the rest of the run must not notice."""
    validate_steps = 5 if where == "validation" else 100
    Path("tiny.toml").write_text(TOML.replace("10_000", str(validate_steps)))
    Path("slow.py").write_text(SLOW)
    args = ("train", "--preset", "tiny", "--config", "tiny.toml", "--steps", "12", "--run")
    process = subprocess.Popen(
        [sys.executable, "slow.py", where, *args, "left"], stderr=subprocess.PIPE
    )
    while not Path("deep").exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr.decode()
    assert f"left/model.safetensors holds the model of step {step}" in stderr.decode()
    ran = umt(*args, "left")
    assert ran.code == 0
    assert f"continuing left at step {step}" in ran.stderr
    assert umt(*args, "whole").code == 0
    left, whole = weights_of("left"), weights_of("whole")
    assert all(torch.equal(tensor, left[name]) for name, tensor in whole.items())
    left, whole = (
        [
            {key: value for key, value in record.items() if key not in CLOCK}
            for record in logged(run)
        ]
        for run in ("left", "whole")
    )
    assert left == whole


def test_first_update_is_not_waited_for_and_leaves_no_model():
    Path("slow.py").write_text(SLOW.replace("step == 6", "step == 0"))
    args = ("train", "--preset", "tiny", "--config", "tiny.toml", "--json", "--run", "left")
    process = subprocess.Popen(
        [sys.executable, "slow.py", "update", *args], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    while not Path("deep").exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    process.terminate()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr.decode()
    assert b'"step": 0' in stdout
    assert b"left/model.safetensors is not there yet: stopped in the first update" in stderr
    assert not list(Path("left").glob("*.safetensors"))
