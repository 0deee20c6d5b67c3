"""`umt train` as one process or several: signals, `kill -9`, `accelerate launch`."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch

from .. import launching
from ..conftest import umt_command
from .conftest import TINY, TOML, logged, weights_of


def assert_close(run, other, **tolerance):
    first, second = weights_of(run), weights_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], **tolerance)


def start(*args, **options):
    """Start `umt train` as a process group of its own, as a terminal or a cluster does."""
    command = umt_command("train", *args)
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, **options
    )


def wait_for_lines(path, n_lines, process):
    """Wait until the process has written so many lines."""
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_text().count("\n") < n_lines:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_signal_saves_and_stops_and_the_run_continues(umt, name, code):
    process = start(*TINY, "--run", "r", "--steps", 1_000_000)
    wait_for_lines(Path("r/run.json"), 1, process)
    os.killpg(process.pid, signal.Signals[name])
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr.decode()
    assert b"Traceback" not in stderr
    assert b"r/model.safetensors holds the model of step" in stderr
    (checkpoint,) = Path("r/checkpoints").iterdir()
    step = int(checkpoint.stem.split("-")[1])
    ran = umt("train", *TINY, "--run", "r", "--steps", step + 1)
    assert ran.code == 0
    assert f"continuing r at step {step}" in ran.stderr


@pytest.mark.slow
def test_run_killed_at_twenty_random_moments_ends_as_an_uninterrupted_one():
    Path("often.toml").write_text(TOML.replace("validate_steps = 10_000", "validate_steps = 16"))
    args = ("--preset", "tiny", "--config", "often.toml", "--steps", 240)
    core = {min(os.sched_getaffinity(0))}  # one thread, which is as fast on networks so small
    alone = {"preexec_fn": lambda: os.sched_setaffinity(0, core)}
    start(*args, "--run", "whole", **alone).communicate(timeout=400)
    chance = random.Random(0)
    log = Path("killed/log.jsonl")
    for _ in range(20):
        n_lines = log.read_text().count("\n") if log.exists() else 0
        process = start(*args, "--run", "killed", **alone)
        # Sometimes before it has done anything new, in a save or in a validation.
        wanted = n_lines + chance.randint(-2, 1)
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < wanted):
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)  # its worker lives on for a while
        process.communicate()
    start(*args, "--run", "killed", **alone).communicate(timeout=400)
    assert_close("killed", "whole", rtol=0, atol=0)
    clock = {"seconds", "seconds_left", "items_per_second", "waiting_share"}
    killed, whole = (
        [{k: v for k, v in record.items() if k not in clock} for record in logged(run)]
        for run in ("killed", "whole")
    )
    assert killed == whole


TRAIN = ("train", "--device", "cpu")


def launch(*args, **options):
    return launching.launch(*TRAIN, *args, **options)


def said_once(ran):
    """Return the one error of a launch that failed."""
    assert ran.returncode != 0
    lines = launching.errors_of(ran)
    assert len(lines) == 1, ran.stderr.decode()
    return lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("domains_per_step", [1, 2])
def test_two_processes_train_as_one_does(umt, domains_per_step):
    Path("shared.toml").write_text(f"{TOML}domains_per_step = {domains_per_step}\n")
    args = ("--preset", "tiny", "--config", "shared.toml", "--steps", 20)
    assert umt("train", *args, "--run", "one").code == 0
    # Without a GPU nobody needs to ask for the CPU.
    device = () if torch.cuda.is_available() else ("--device", "auto")
    ran = launch(*args, *device, "--run", "two")
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stderr.decode().count("holds the model of step 20") == 1
    assert_same_losses("two", "one")
    assert_close("two", "one", rtol=1e-3, atol=1e-4)


def assert_same_losses(run, other):
    """Compare the records of two runs but for what the clock says."""
    first, second = logged(run), logged(other)
    assert [record["step"] for record in first] == [record["step"] for record in second]
    for record, expected in zip(first, second, strict=True):
        for name in record:
            if name.startswith(("loss/", "validation/", "confusion/")):
                assert record[name] == pytest.approx(expected[name], abs=1e-3), name


@pytest.mark.slow
def test_eight_processes_train_as_one_does(umt):
    args = (*TINY, "--batch-size", 8, "--steps", 10)
    assert umt("train", *args, "--run", "one").code == 0
    ran = launch(*args, "--run", "eight", n_processes=8)
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stderr.decode().count("holds the model of step 10") == 1
    assert_same_losses("eight", "one")
    assert_close("eight", "one", rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_nodes_train_as_one_process_does(umt):
    """Two launchers, of which each starts the process of its own node."""
    args = (*TINY, "--steps", 10)
    assert umt("train", *args, "--run", "one").code == 0
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    address = ("--main_process_ip", "127.0.0.1", "--main_process_port", port)
    launchers = [
        subprocess.Popen(
            launching.launch_command(
                *(*TRAIN, *args, "--run", "nodes"),
                nodes=("--num_machines", 2, "--machine_rank", rank, *address),
            ),
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    said = [launcher.communicate(timeout=300)[1].decode() for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], said
    assert ["holds the model of step 10" in text for text in said] == [True, False]
    assert_same_losses("nodes", "one")
    assert_close("nodes", "one", rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_batch_that_two_processes_cannot_share_is_refused():
    """And so there are two."""
    error = said_once(launch(*TINY, "--batch-size", 3))
    assert "batch_size=3 cannot be shared: 1 domains a step on 2 processes" in error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_two_processes_save_at_a_signal_and_continue(umt, name):
    """As a terminal or a cluster sends it, to the launcher and to both."""
    args = (*TINY, "--run", "two", "--steps")
    process = subprocess.Popen(
        launching.launch_command(*TRAIN, *args, 1_000_000),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for_lines(Path("two/log.jsonl"), 1, process)
    os.killpg(process.pid, signal.Signals[name])
    _, stderr = process.communicate(timeout=120)
    assert b"two/model.safetensors holds the model of step" in stderr, stderr.decode()
    (checkpoint,) = Path("two/checkpoints").iterdir()
    step = int(checkpoint.stem.split("-")[1])
    ran = launch(*args, step + 1)
    assert ran.returncode == 0, ran.stderr.decode()
    assert f"continuing two at step {step}" in ran.stderr.decode()


# One of two processes is asked to stop between the parts of its seventh update.
ASKED = """
import os, signal, sys
from core.training.step import Updater
from umtcli.app import main

add_gradients, parts = Updater._add_gradients, []

def ask(updater, part, latents, step):
    parts.append(step)
    if step == 6 and parts.count(6) == 1 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return add_gradients(updater, part, latents, step)

if "--ask" in sys.argv:
    sys.argv.remove("--ask")
    Updater._add_gradients = ask
sys.exit(main())
"""


@pytest.mark.slow
def test_two_processes_drop_the_same_update_and_continue():
    Path("asked.py").write_text(ASKED)
    accumulated = TOML.replace("batch_size = 4", "batch_size = 8\naccumulate = 2")
    Path("parts.toml").write_text(accumulated)
    args = ("--preset", "tiny", "--config", "parts.toml", "--steps", 9)
    ran = launch(*args, "--run", "two", "--ask", program=("asked.py",))
    assert b"two/model.safetensors holds the model of step 6" in ran.stderr, ran.stderr.decode()
    assert b"umt: error" not in ran.stderr, ran.stderr.decode()
    for run in ("two", "whole"):
        ran = launch(*args, "--run", run, program=("asked.py",))
        assert ran.returncode == 0, ran.stderr.decode()
    assert_close("two", "whole", rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_stop_together_and_continue(umt):
    args = (*TINY, "--run", "two", "--steps")
    assert launch(*args, 1000, "--max-minutes", "0.02").returncode == 0
    step = logged("two")[-1]["step"]
    assert 0 < step < 1000
    ran = launch(*args, step + 2)
    assert ran.returncode == 0, ran.stderr.decode()
    assert f"continuing two at step {step}" in ran.stderr.decode()
    assert umt("train", *args, step + 3).code == 0  # also in another number of processes


@pytest.mark.slow
def test_error_on_the_first_process_ends_them_all(umt):
    assert umt("train", *TINY, "--run", "two", "--steps", 1).code == 0
    ran = launch(*TINY, "--run", "two", "--seed", 5)
    assert "training.seed = 0, now 5" in said_once(ran)


@pytest.mark.slow
def test_error_on_all_processes_is_said_once(umt):
    Path("wild.toml").write_text(f"{TOML}learning_rate = 1e30\n")
    ran = launch("--preset", "tiny", "--config", "wild.toml", "--run", "wild", "--steps", 5)
    assert "the loss is nan" in said_once(ran)
    assert umt("train", *TINY, "--run", "two", "--steps", 1).code == 0
    for checkpoint in Path("two/checkpoints").iterdir():
        checkpoint.write_bytes(b"")
    assert "all checkpoints are damaged" in said_once(launch(*TINY, "--run", "two"))
    ran = launch(*TINY, "--data", "nowhere")
    assert "nowhere" in said_once(ran)


FAILING = """
import os, sys
from core.training.optimizers import diverged
from core.training.step import Updater
from umtcli.app import main

def fail(updater, batch, step, check_stop):
    raise diverged("an update failed")

if os.environ["RANK"] == "1":
    Updater.update = fail
sys.exit(main())
"""


@pytest.mark.slow
def test_error_on_another_process_is_said_by_that_one():
    Path("failing.py").write_text(FAILING)
    assert "an update failed" in said_once(launch(*TINY, program=("failing.py",)))


# The second of two processes is killed in its sixth update, in the launcher's first attempt.
KILLED = """
import os, signal, sys
from core.training.step import Updater
from umtcli.app import main

update = Updater.update

def kill(updater, batch, step, check_stop):
    if step == 5 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return update(updater, batch, step, check_stop)

if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    Updater.update = kill
sys.exit(main())
"""


@pytest.mark.slow
def test_launcher_restarts_processes_that_end_and_they_continue(umt):
    Path("killed.py").write_text(KILLED)
    Path("often.toml").write_text(TOML.replace("validate_steps = 10_000", "validate_steps = 4"))
    args = ("--preset", "tiny", "--config", "often.toml", "--steps", 8)
    restarts = (*launching.ONE_NODE, "--max_restarts", 1)
    ran = launch(*args, "--run", "two", program=("killed.py",), nodes=restarts)
    assert ran.returncode == 0, ran.stderr.decode()
    assert "continuing two at step 4" in ran.stderr.decode()
    assert umt("train", *args, "--run", "one").code == 0
    assert_close("two", "one", rtol=1e-3, atol=1e-4)
