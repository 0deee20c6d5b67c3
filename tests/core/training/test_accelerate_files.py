"""The commands of docs/multi-gpu.md, as `accelerate launch` understands them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from accelerate.commands import launch
from accelerate.utils.launch import prepare_multi_gpu_env

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "multi-gpu.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^accelerate launch (--config_file .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "n_processes", "n_nodes"), list(zip(COMMANDS, (8, 16), (1, 2), strict=True))
)
def test_files_start_one_process_a_gpu_in_bfloat16(monkeypatch, command, n_processes, n_nodes):
    monkeypatch.chdir(ROOT)
    found = understood(shlex.split(command))
    assert (found.multi_gpu, found.use_cpu, found.mixed_precision) == (True, False, "bf16")
    assert (found.num_processes, found.num_machines, found.machine_rank) == (
        n_processes,
        n_nodes,
        0,
    )
    assert (found.module, found.training_script) == (True, "umtcli")
    assert found.training_script_args == ["train", "--preset", "paper"]
    prepare_multi_gpu_env(found)  # what it hands to torch's own launcher
    assert int(found.nproc_per_node) == 8
    if n_nodes > 1:
        assert (int(found.nnodes), found.rdzv_endpoint) == (2, "HOST:29500")


def understood(arguments):
    """Return what `accelerate launch` makes of its arguments."""
    parsed = launch.launch_command_parser().parse_args(arguments)
    found, *_ = launch._validate_launch_command(parsed)
    return found


def test_every_file_stands_on_the_page():
    named = set(re.findall(r"recipes/accelerate/([\w.-]+)", PAGE))
    assert named == {path.name for path in (ROOT / "recipes" / "accelerate").iterdir()}


# Slurm's programs: the nodes of a job, and a task on each of them, here one after the other.
STAND_INS = {
    "scontrol": "[ \"$*\" = 'show hostnames node[1-3]' ] && printf 'node1\\nnode2\\nnode3\\n'",
    "srun": 'shift; for SLURM_NODEID in 0 1 2; do export SLURM_NODEID; "$@"; done',
    "accelerate": 'python3 -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@"',
}


def test_slurm_starts_a_launcher_on_each_node_that_knows_the_first(tmp_path, monkeypatch):
    for name, line in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "node[1-3]", "SLURM_NNODES": "3", "SLURM_GPUS_ON_NODE": "4"}
    words = ["translate", "my album/", "--to", "piano"]
    ran = subprocess.run(
        ["bash", "recipes/accelerate/slurm.sbatch", *words],
        cwd=ROOT,
        env={**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    monkeypatch.chdir(ROOT)
    launched = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(launched) == 3
    for rank, (first, *arguments) in enumerate(launched):
        assert first == "launch"
        found = understood(arguments)
        assert (found.machine_rank, found.num_machines, found.num_processes) == (rank, 3, 12)
        assert (found.module, found.training_script) == (True, "umtcli")
        assert found.training_script_args == words
        prepare_multi_gpu_env(found)
        assert (int(found.nproc_per_node), found.rdzv_endpoint) == (4, "node1:29500")
