"""What works where Python lacks what only Unix has."""

from __future__ import annotations

import ast
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from .pages import ROOT

ONLY_UNIX = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
HIDDEN = ("fcntl", "resource")  # those that umt imports where they are
# What Windows lacks of what umt has used. Other packages may need it: they are loaded before it
# is taken away.
WITHOUT = """
import os, shutil, signal, sys
import accelerate, multiprocessing, soundfile, soxr, tempfile, torch, torch.utils.data, typer
from torch.utils.tensorboard import SummaryWriter
shutil._use_fd_functions = False  # of Python itself, which has another way on Windows
for name in {modules}:
    sys.modules[name] = None
for module, names in (
    (os, ("pread", "register_at_fork", "O_NONBLOCK", "O_CLOEXEC", "sched_getaffinity")),
    (signal, ("pthread_sigmask",)),
):
    for name in names:
        delattr(module, name)
from umtcli.app import main
sys.exit(max(main(line.split()) for line in sys.argv[1:]))
"""


@pytest.fixture
def umt_without_unix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*lines: str) -> str:
        script = WITHOUT.format(modules=HIDDEN)
        done = subprocess.run(
            [sys.executable, "-c", script, *lines],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


def test_translating_and_preparing_need_nothing_that_only_unix_has(tmp_path, umt_without_unix):
    (tmp_path / "piano").mkdir()
    tone = 0.2 * np.sin(2 * np.pi * 262 * np.arange(22050) / 22050)
    soundfile.write(tmp_path / "piano" / "song.wav", tone, 22050)
    shown = umt_without_unix(
        "translate piano/song.wav --to piano,organ -m starter -o .", "prep piano"
    )
    for domain in ("piano", "organ"):
        assert soundfile.info(tmp_path / f"song.{domain}.wav").frames == 44100
    assert "has no locks" in shown
    assert (tmp_path / "data" / "piano" / "domain.json").exists()
    assert [path.name for path in tmp_path.rglob(".umt-*")] == [], "no leftovers"


@pytest.mark.parametrize("room", ["core", "umtcli"])
def test_nothing_that_only_unix_has_is_imported_without_a_guard(room: str) -> None:
    guarded: set[str] = set()
    for path in (ROOT / room).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {
            alias.name: node
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name in ONLY_UNIX
        }
        assert not [name for name, node in found.items() if node in tree.body], path
        guarded |= set(found)
    assert guarded <= set(HIDDEN), "hide it in the other test, too"
