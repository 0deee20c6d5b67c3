"""The commands of docs/multi-gpu.md, as `accelerate launch` understands them."""

from __future__ import annotations

import re
import shlex
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
    arguments = launch.launch_command_parser().parse_args(shlex.split(command))
    found, *_ = launch._validate_launch_command(arguments)
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


def test_every_file_stands_on_the_page():
    named = {re.search(r"accelerate/(\S+)", command).group(1) for command in COMMANDS}
    assert named == {path.name for path in (ROOT / "recipes" / "accelerate").iterdir()}
