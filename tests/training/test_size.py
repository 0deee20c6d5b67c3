"""A thousand hours of audio: simulated by sparse files that hold short blocks of noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.data.domain import Domain, Part, Track, write_domain_file

ROOT = Path(__file__).resolve().parents[2]
RATE = 44100
TRACK_HOURS = 2
N_TRACKS = {"bass": 400, "reed": 99, "voice": 1}  # 1000 hours in all
# Loads the domains as `umt train` does and draws batches in two workers.
LOADER = """
import json, resource, sys, time
from pathlib import Path
from torch.utils.data import DataLoader
from core.presets import get_preset
from core.data.dataset import Batches, Segments
from core.data.domain import load_domains
from core.training.run import check_same_run
config, domains = get_preset("fast"), load_domains(Path(sys.argv[1]), None)
check_same_run(Path(sys.argv[1]), config, domains)
segments = [Segments(d, "train", sample_rate=44100, length=66560) for d in domains]
batches = Batches(segments, config, rank=0, n_processes=1)
loader = DataLoader(batches, sampler=range(20), batch_size=None, num_workers=2)
first = None
for _ in loader:
    first = first or time.process_time()
whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
usage = [resource.getrusage(who).ru_maxrss for who in whose]
hours = sum(d.minutes("train") for d in domains) / 60
print(json.dumps({"first": first, "kib": usage, "hours": hours}))
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
        store_sparse(tmp_path, name, n_tracks)
    ran = subprocess.run(
        [sys.executable, "-c", LOADER, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(ran.stdout)
    assert facts["hours"] == 1000
    assert facts["first"] < 10  # seconds of its own, whatever else the machine does
    assert max(facts["kib"]) < 1 << 20  # 1 GiB a process
