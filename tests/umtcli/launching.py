"""`accelerate launch`, with as many processes on this machine as a test wants."""

from __future__ import annotations

import subprocess
import sys

ONE_NODE = ("--num_machines", 1, "--main_process_port", 0)


def launch_command(*args, program=("-m", "umtcli"), n_processes=2, nodes=ONE_NODE):
    """Return the command line of several processes; with `--cpu` there would be one."""
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"),
        *("--num_processes", n_processes, *nodes),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
        *(*program, *args),
    ]
    return [str(word) for word in command]


def launch(*args, **options):
    command = launch_command(*args, **options)
    return subprocess.run(command, capture_output=True, timeout=300, check=False)


def errors_of(ran) -> list[str]:
    """Return the errors that all processes of a launch have reported."""
    return [line for line in ran.stderr.decode().splitlines() if "umt: error:" in line]
