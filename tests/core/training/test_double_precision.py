"""Two processes against one, so exactly that only rounding is left to differ."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.training.run_directory import list_checkpoints

from .conftest import RATE, store_music

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("in_double_precision.py")
LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    *("--num_processes", "2"),
)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wavenet", "spectral"])
def test_two_processes_reach_the_weights_of_one_in_float64(tmp_path, family):
    rate = 44100 if family == "spectral" else RATE
    store_music(tmp_path / "data", rate, bass=3.0, reed=3.0)
    states = []
    for n_processes, start in enumerate([(sys.executable,), LAUNCH], start=1):
        run = tmp_path / f"{n_processes}"
        command = [*start, str(PROGRAM), family, str(tmp_path / "data"), str(run)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        ended = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        assert ended.stdout.split() == n_processes * [b"%d" % n_processes]
        (checkpoint,) = list_checkpoints(run / "checkpoints")
        states.append(torch.load(checkpoint))
    one, two = states
    assert one["step"] == two["step"] == 20
    for name, tensor in one["model"].items():
        assert tensor.dtype == torch.float64
        torch.testing.assert_close(two["model"][name], tensor, rtol=0, atol=1e-6)
    moved = [float(x["exp_avg"].abs().max()) for x in one["optimizer"]["state"].values()]
    assert max(moved) > 1e-3  # it has learnt something
