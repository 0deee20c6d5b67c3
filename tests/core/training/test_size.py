"""A thousand hours of audio: simulated by sparse files that hold short blocks of noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.data.domain import Domain, Part, Track, load_domains, write_domain_file

ROOT = Path(__file__).resolve().parents[3]
RATE = 44100
TRACK_HOURS = 2
N_TRACKS = {"bass": 400, "reed": 99, "voice": 1}  # 1000 hours in all
# One update by `umt train`; what it and its worker, which counts as a child, took.
PROGRAM = """
import json, resource, sys, time
from core.training.step import Updater
from umtcli.app import main

def timed(*args):
    global first
    figures = update(*args)
    first = time.process_time()
    return figures

update, Updater.update = Updater.update, timed
code = main(sys.argv[1:])
whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
usage = [resource.getrusage(who).ru_maxrss for who in whose]
print(json.dumps({"code": code, "first": first, "kib": usage}))
"""
CONFIG = """
[model]
sample_rate = 44100
hop_length = 2205
[training]
batch_size = 3
domains_per_step = 3
segment_seconds = 0.25
"""


def store_sparse(data: Path, name: str, n_tracks: int) -> None:
    """Write two-hour tracks of silence with half a second of noise every five."""
    (data / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    n_samples = TRACK_HOURS * 3600 * RATE
    tracks = []
    for index in range(n_tracks):
        path = data / name / f"{index}.npy"
        samples = np.lib.format.open_memmap(path, "w+", np.int16, (n_samples,))
        for start in range(0, 20 * 5 * RATE, 5 * RATE):  # the first 100 seconds; the rest is a hole
            samples[start : start + RATE // 2] = rng.integers(-3000, 3000, RATE // 2)
        del samples
        whole = (Part("train", 0, n_samples),)
        tracks.append(
            Track(path.name, f"{index}.wav", f"{index}", n_samples, 0, n_samples, -20.0, whole)
        )
    write_domain_file(Domain(name, RATE, tuple(tracks), data / name))


@pytest.mark.slow
def test_a_thousand_hours_start_at_once_and_need_little_memory(tmp_path):
    for name, n_tracks in N_TRACKS.items():
        store_sparse(tmp_path / "data", name, n_tracks)
    domains = load_domains(tmp_path / "data", None)
    assert sum(domain.minutes("train") for domain in domains) / 60 == 1000
    (tmp_path / "own.toml").write_text(CONFIG)
    args = ("train", "--preset", "tiny", "--config", "own.toml", "--steps", "1", "--run", "run")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *args],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(ran.stdout)
    assert facts["code"] == 0, ran.stderr
    assert facts["first"] < 10  # seconds of its own, whatever else the machine does
    assert max(facts["kib"]) < 1 << 20  # 1 GiB a process
