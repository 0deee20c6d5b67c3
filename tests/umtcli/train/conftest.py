"""Prepared tones, networks of a few hundred weights, and runs of `umt train`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file

from core.data.prepare import prepare
from core.training import validation

RATE = 2000
TOML = f"""
[model]
sample_rate = {RATE}
hop_length = 100
latent_dim = 4
encoder_channels = 4
encoder_layers = 2
residual_channels = 4
skip_channels = 4
decoder_layers = 2
[training]
batch_size = 4
segment_seconds = 0.5
validation_items = 2
validate_steps = 10_000
clip_value = 0.0
"""
TINY = ("--preset", "tiny", "--config", "tiny.toml")


def write_tones(folder, n_harmonics, seconds, n_tracks=2):
    folder.mkdir()
    for index in range(n_tracks):
        time_seconds = np.arange(round(seconds * RATE)) / RATE
        tone = sum(
            np.sin(2 * np.pi * (110 + 17 * index) * k * time_seconds) / k
            for k in range(1, n_harmonics + 1)
        )
        soundfile.write(folder / f"{index}.wav", 0.2 * tone, RATE)
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Domains made by `prepare` from WAV files of synthetic tones."""
    folder = tmp_path_factory.mktemp("recordings")
    directories = [write_tones(folder / "bach", 1, 4.0), write_tones(folder / "organ", 5, 2.0)]
    prepare(directories, data=folder / "data", sample_rate=RATE)
    return folder / "data"


@pytest.fixture(autouse=True)
def _project(prepared, tmp_path, monkeypatch):
    """A directory with `data` and a configuration of tiny networks."""
    (tmp_path / "data").symlink_to(prepared)
    (tmp_path / "tiny.toml").write_text(TOML)
    monkeypatch.setattr(validation, "EXAMPLE_SECONDS", 0.1)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # threads of processes that share a core


def logged(run):
    return [json.loads(line) for line in (Path(run) / "log.jsonl").read_text().splitlines()]


def weights_of(run):
    return load_file(Path(run) / "model.safetensors")
