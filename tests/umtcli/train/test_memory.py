"""`umt train` with less memory than an update needs."""

from __future__ import annotations

import resource
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
import pytest
import torch

from umtcli import training_process

from .conftest import TINY, TOML

LARGE = ("--steps", 1, "--domains", "bach", "--batch-size", 2048, "--run", "r")


@contextmanager
def scarce_memory():
    """Let this process have 200 MB more than it has."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = psutil.Process().memory_info().data + 200_000_000
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.slow
def test_too_large_an_update_is_one_line_whose_advice_helps_the_same_run(umt):
    with scarce_memory():
        ran = umt("train", *TINY, *LARGE)
    assert (ran.code, len(ran.errors)) == (1, 1)
    told = "out of memory with 2048 items at a time; [training] accumulate = 2 in a file"
    assert told in ran.errors[0]
    assert not list(Path("r").glob("checkpoints/*"))
    Path("tiny.toml").write_text(f"{TOML}accumulate = 512\n")
    with scarce_memory():
        ran = umt("train", *TINY, *LARGE)
    assert ran.code == 0, ran.stderr


@pytest.mark.parametrize(("n_processes", "fits"), [(1, True), (2, False)])
def test_processes_share_the_memory_that_is_free(monkeypatch, n_processes, fits):
    """Two thirds of it, promised but never used, are one process's right, and not one of two's."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(n_processes))
    allowed = nullcontext() if fits else pytest.raises(RuntimeError, match="can't allocate memory")
    with training_process.limited_memory(), allowed:
        torch.empty(psutil.virtual_memory().available * 2 // 3, dtype=torch.uint8)


VERSIONS = {
    "1": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    "2": ("", "memory.max", "memory.current", "inactive_file"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_memory_is_what_the_control_groups_leave(tmp_path, version):
    """Of all groups around this process, each with its own limit; cached files do not count."""
    folder, limit, usage, cached = VERSIONS[version]
    for path, values in [
        ("", ("max", 9000, 0)),
        ("a", (5000, 3000, 400)),
        ("a/b", (4000, 1000, 0)),
        ("other", (10, 10, 0)),
    ]:
        group = tmp_path / "mounted" / folder / path
        group.mkdir(parents=True, exist_ok=True)
        (group / limit).write_text(f"{values[0]}\n")
        (group / usage).write_text(f"{values[1]}\n")
        (group / "memory.stat").write_text(f"cache 77\n{cached} {values[2]}\n")
    own = tmp_path / "cgroup"
    own.write_text("0::/a/b\n" if version == "2" else "3:cpu:/other\n4:memory,x:/a/b\nstrange\n")
    left = list(training_process._left_in_cgroups(own, tmp_path / "mounted"))
    assert left == [3000, 2400]


def test_machine_without_control_groups_has_all_its_memory(tmp_path):
    assert list(training_process._left_in_cgroups(tmp_path / "none", tmp_path)) == []


def test_the_limit_ends_with_the_command(umt):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert umt("train", *TINY, "--steps", 1).code == 0
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
