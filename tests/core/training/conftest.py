"""Prepared domains made in memory, networks of a few hundred weights, and quick runs."""

from __future__ import annotations

import gc
import json
import multiprocessing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core.data.domain import Domain, Part, Track, write_domain_file
from core.presets import get_preset
from core.training import loop, validation
from core.training.logging import LOG_FILE, Reporter
from core.training.run_directory import RunDirectory
from core.training.step import Updater

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core.config import Config

RATE = 2000  # Hz
HOP = 100
SMALL_WAVENET = {
    "sample_rate": RATE,
    "hop_length": HOP,
    "latent_dim": 4,
    "encoder_channels": 6,
    "encoder_layers": 3,
    "residual_channels": 6,
    "skip_channels": 6,
    "decoder_layers": 3,
}


def tiny_config(**training: object) -> Config:
    """Return the preset `tiny`, a hundred times smaller."""
    quick = {
        "steps": 8,
        "batch_size": 4,
        "segment_seconds": 0.6,
        "learning_rate": 3e-3,
        "validate_steps": 1000,
        "validation_items": 2,
    }
    small = get_preset("tiny").updated("model", **SMALL_WAVENET)
    return small.updated("training", **(quick | training))


def spectral_config(**training: object) -> Config:
    """Return the preset `fast` with small networks; noise is added to its latents."""
    sizes = {
        f"{part}_{size}": 8 for part in ("encoder", "decoder") for size in ("channels", "hidden")
    }
    small = get_preset("fast").updated("model", **sizes, encoder_layers=1, decoder_layers=1)
    quick = {"batch_size": 2, "domains_per_step": 2, "segment_seconds": 0.3, "validation_items": 1}
    return small.updated("training", **(quick | training))


def store_domain(
    data: Path,
    name: str,
    tracks: Sequence[np.ndarray],
    parts: Sequence[Sequence[tuple[str, int, int]]] | None = None,
    *,
    sample_rate: int = RATE,
) -> Domain:
    """Write a prepared domain.

    Args:
        data: Where the domains are.
        name: The domain.
        tracks: int16 (T,) each.
        parts: Of each track: split, start, stop. By default all of it trains.
        sample_rate: Hz.
    """
    directory = data / name
    directory.mkdir(parents=True)
    parts = parts or [[("train", 0, len(track))] for track in tracks]
    stored = []
    for index, (samples, divided) in enumerate(zip(tracks, parts, strict=True)):
        assert samples.dtype == np.int16
        np.save(directory / f"{index}.npy", samples)
        stored.append(
            Track(
                file=f"{index}.npy",
                source=f"{index}.wav",
                source_sha256=f"{name}{index}",
                source_size=len(samples),
                source_mtime_ns=0,
                n_samples=len(samples),
                level_db=-20.0,
                parts=tuple(Part(*part) for part in divided),
            )
        )
    domain = Domain(name, sample_rate, tuple(stored), directory)
    write_domain_file(domain)
    return domain


def music(
    seconds: float, *, harmonics: int, sample_rate: int = RATE, seed: int = 0, peak: float = 0.4
) -> np.ndarray:
    """Return notes of 0.2 s with so many harmonics, int16 (T,)."""
    rng = np.random.default_rng(seed)
    length = round(0.2 * sample_rate)
    time = np.arange(length) / sample_rate
    notes = []
    for pitch in rng.integers(45, 69, size=round(seconds / 0.2)):
        hz = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, harmonics + 1))
        notes.append(tone * np.exp(-3 * time) * np.minimum(1, time / 0.01))
    waveform = np.concatenate(notes)
    return np.round(waveform / np.abs(waveform).max() * peak * 32767).astype(np.int16)


def store_music(data: Path, sample_rate: int = RATE, **seconds: float) -> list[Domain]:
    """Write one domain a keyword, of one track: the last second is validation audio."""
    domains = []
    for index, (name, length) in enumerate(seconds.items()):
        track = music(length, harmonics=1 + 3 * index, seed=index, sample_rate=sample_rate)
        end = len(track) - sample_rate
        divided = [("train", 0, end), ("validation", end, len(track))]
        domains.append(store_domain(data, name, [track], [divided], sample_rate=sample_rate))
    return domains


@dataclass
class RecordingReporter(Reporter):
    """A reporter that remembers."""

    notices: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    baselines: list[dict[str, dict[str, float]]] = field(default_factory=list)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def progress(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def validated(self, record: dict[str, Any], baselines: dict[str, dict[str, float]]) -> None:
        self.validations.append(record)
        self.baselines.append(baselines)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Keep training to one thread, and validation to a glance."""
    count_updates(monkeypatch.setattr)
    monkeypatch.setattr(validation, "EXAMPLE_SECONDS", HOP / RATE)
    monkeypatch.setattr(loop, "LOG_STEPS", 4)
    torch.set_num_threads(1)
    yield
    # What a test's error still refers to may hold workers, which heed no signal: end them, and
    # whatever is left, so that this process can end too.
    if multiprocessing.active_children():
        gc.collect()  # a third of a second
    for child in multiprocessing.active_children():
        child.kill()


@pytest.fixture
def duo(tmp_path) -> list[Domain]:
    """Two domains, one five times as long as the other."""
    return store_music(tmp_path / "data", bass=10.0, reed=3.0)


@pytest.fixture
def solo(tmp_path) -> list[Domain]:
    """One domain."""
    return store_music(tmp_path / "data", bass=3.0)


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def train(reporter) -> Callable[..., loop.TrainingResult]:
    """Run `core.training.loop.train` on the CPU, in this process."""

    def run(config: Config, domains: Sequence[Domain], directory: Path, **options: Any):
        return loop.train(config, domains, directory, reporter=reporter, device="cpu", **options)

    return run


def count_updates(patch: Callable[[type, str, Any], None] = setattr) -> None:
    """Let `stop_after` know how many updates were finished."""
    update = Updater.update

    def counted(updater: Updater, *args: Any) -> dict[str, float]:
        losses = update(updater, *args)
        finished.append(losses)
        return losses

    patch(Updater, "update", counted)


finished: list[dict[str, float]] = []  # losses of all updates of this process


def stop_after(n_updates: int, reason: str = "SIGTERM") -> Callable[[], str | None]:
    """Return a `should_stop` that gives the reason after so many more updates."""
    last = len(finished) + n_updates
    return lambda: reason if len(finished) >= last else None


def make_trainer(config: Config, domains: Sequence[Domain], run: Path, **options: Any):
    """Return a trainer to call update by update, which writes nothing."""
    return loop.Trainer(
        *(config, domains, RunDirectory(run)),
        accelerator=Accelerator(cpu=True),
        reporter=RecordingReporter(),
        **options,
    )


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return a run's log without what depends on the clock."""
    clock = ("seconds", "seconds_left", "items_per_second", "waiting_share")
    lines = (run / LOG_FILE).read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in clock}
        for line in lines
    ]


def events_of(run: Path) -> EventAccumulator:
    """Return what TensorBoard shows of a run."""
    events = EventAccumulator(str(run), size_guidance={"audio": 0, "scalars": 0})
    events.Reload()
    return events


def model_of(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's model."""
    return load_file(run / "model.safetensors")


def assert_equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
