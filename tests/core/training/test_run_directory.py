"""A run's folder: what it was started with, its lock, its checkpoints."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from contextlib import contextmanager

import pytest
import torch

from core.data.domain import Part
from core.errors import TrainingError, UsageError
from core.training.run_directory import (
    KEPT_CHECKPOINTS,
    RUN_FILE,
    RunDirectory,
    list_checkpoints,
    restore_newest,
    save_checkpoint,
)

from .conftest import RATE, store_music, tiny_config

FORK = multiprocessing.get_context("fork")  # a fresh process would load torch for seconds


def hold(run, told):
    """Hold the lock; a child stays behind, as a loader's worker does for some seconds."""
    with RunDirectory(run).locked():
        if child := os.fork():
            told.send(child)
        time.sleep(60)


@contextmanager
def another_process_training(run):
    """Hold the lock from another process; yields it."""
    receiver, sender = FORK.Pipe(duplex=False)
    holder = FORK.Process(target=hold, args=(run, sender))
    holder.start()
    child = receiver.recv()
    try:
        yield holder
    finally:
        holder.kill()
        holder.join()
        os.kill(child, signal.SIGKILL)


def test_run_that_another_process_trains_is_refused(tmp_path):
    with (
        another_process_training(tmp_path / "run"),
        pytest.raises(TrainingError, match="run: another process is training this run"),
        RunDirectory(tmp_path / "run").locked(),
    ):
        pass


def test_lock_ends_with_a_killed_process_even_if_its_workers_live_on(tmp_path):
    with another_process_training(tmp_path / "run") as holder:
        holder.kill()
        holder.join()
        with RunDirectory(tmp_path / "run").locked():
            pass


def test_lock_ends_with_the_block(tmp_path):
    for _ in range(2):
        with RunDirectory(tmp_path / "run").locked():
            pass
    with another_process_training(tmp_path / "run"):
        pass


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A run that has been started, and its data."""
    folder = tmp_path_factory.mktemp("started")
    domains = store_music(folder / "data", bass=3.0, reed=3.0)
    (folder / "run").mkdir()
    RunDirectory(folder / "run").check(tiny_config(), domains, {})
    return folder / "run", domains


CHANGES = [
    ("preset", lambda c, d: (dataclasses.replace(c, preset="small"), d), "preset tiny, now small"),
    (
        "training",
        lambda c, d: (c.updated("training", batch_size=8), d),
        "training.batch_size = 4, now 8",
    ),
    ("model", lambda c, d: (c.updated("model", latent_dim=5), d), "model.latent_dim = 4, now 5"),
    (
        "confusion",
        lambda c, d: (c.updated("confusion", weight=0.5), d),
        "confusion.weight = 0.01, now 0.5",
    ),
    (
        "distortion",
        lambda c, d: (c.updated("distortion", pitch_segment_seconds=[0.1, 0.2]), d),
        r"distortion.pitch_segment_seconds = \[0.25, 0.5\], now \[0.1, 0.2\]",
    ),
    ("fewer domains", lambda c, d: (c, d[:1]), "domains bass, reed, now bass;"),
    (
        "more domains",
        lambda c, d: (c, [*d, dataclasses.replace(d[0], name="voice")]),
        "domains bass, reed, now bass, reed, voice",
    ),
    (
        "recordings",
        lambda c, d: (c, [d[0], _with_track(d[1], source_sha256="x")]),
        "other recordings of reed",
    ),
    (
        "split",
        lambda c, d: (c, [d[0], _with_track(d[1], parts=(Part("train", 0, 6000),))]),
        "other recordings of reed",
    ),
    (
        "rate",
        lambda c, d: (c, [dataclasses.replace(d[0], sample_rate=2 * RATE), d[1]]),
        "other recordings of bass",
    ),
]


def _with_track(domain, **changes):
    tracks = (dataclasses.replace(domain.tracks[0], **changes),)
    return dataclasses.replace(domain, tracks=tracks)


@pytest.mark.parametrize(
    ("change", "named"), [pytest.param(change, named, id=name) for name, change, named in CHANGES]
)
def test_run_with_something_else_is_refused_and_the_difference_named(started, train, change, named):
    run, domains = started
    before = (run / RUN_FILE).read_bytes()
    config, domains = change(tiny_config(), domains)
    with pytest.raises(UsageError, match=f"run was started with {named}.*another --run"):
        train(config, domains, run)
    assert (run / RUN_FILE).read_bytes() == before


def state_of(step: int) -> dict:
    return {"step": step, "model": {"weight": torch.arange(5000.0) + step}}


@pytest.fixture
def notices() -> list[str]:
    return []


def load_newest(directory, notice):
    """Return the state of the newest checkpoint that can be used, None without one."""
    states = []
    found = restore_newest(directory, states.append, notice)
    assert found == bool(states)
    return states[0] if states else None


@pytest.fixture
def saved(tmp_path):
    """A folder with the checkpoints of steps 10 and 20."""
    for step in (10, 20):
        save_checkpoint(tmp_path / "checkpoints", step, state_of(step))
    return tmp_path / "checkpoints"


def truncate(path):
    path.write_bytes(path.read_bytes()[:-700])


def empty(path):
    path.write_bytes(b"")


def overwrite_with_zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip_a_bit_of_a_weight(path):
    data = bytearray(path.read_bytes())
    place = data.index(torch.arange(20.0, 5020.0).numpy().tobytes()) + 8001
    data[place] ^= 0x10
    path.write_bytes(data)


def replace_with_text(path):
    path.write_text("not a checkpoint\n")


DAMAGES = [truncate, empty, overwrite_with_zeros, flip_a_bit_of_a_weight, replace_with_text]


def test_newest_checkpoint_is_loaded_as_it_was_saved(saved, notices):
    state = load_newest(saved, notices.append)
    assert state["step"] == 20
    assert torch.equal(state["model"]["weight"], state_of(20)["model"]["weight"])
    assert not notices


def test_without_checkpoints_there_is_nothing_to_load(tmp_path, notices):
    assert load_newest(tmp_path / "checkpoints", notices.append) is None


def test_only_the_newest_are_kept(tmp_path):
    for step in (9, 10, 100, 1_000_000):
        save_checkpoint(tmp_path, step, state_of(step))
    assert [torch.load(path)["step"] for path in list_checkpoints(tmp_path)] == [1_000_000, 100]
    assert len(list(tmp_path.iterdir())) == KEPT_CHECKPOINTS


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_falls_back_to_the_one_before_and_says_so(saved, notices, damage):
    damage(saved / "step-000000020.pt")
    assert load_newest(saved, notices.append)["step"] == 10
    (notice,) = notices
    assert "step-000000020.pt is damaged" in notice


@pytest.mark.parametrize("damage", DAMAGES[:3])
def test_all_damaged_is_an_error_and_not_a_fresh_start(saved, notices, damage):
    for path in list_checkpoints(saved):
        damage(path)
    with pytest.raises(
        TrainingError, match="all checkpoints are damaged or of another run; delete"
    ):
        load_newest(saved, notices.append)
    assert len(notices) == 2


def test_loading_runs_no_code_of_the_file(saved, notices, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"step": 20, "model": Harmful()}, saved / "step-000000020.pt")
    assert load_newest(saved, notices.append)["step"] == 10
    assert not (tmp_path / "ran").exists()


def test_full_disk_is_an_error_that_leaves_the_checkpoints_before(saved, notices, full_disk):
    expected = pytest.raises(
        TrainingError, match=r"cannot save the checkpoint of step 30.*free some"
    )
    with expected, full_disk(8_000):
        save_checkpoint(saved, 30, state_of(30))
    assert load_newest(saved, notices.append)["step"] == 20
    assert not notices
    assert len(list(saved.iterdir())) == 2


def test_unwritable_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(TrainingError, match="checkpoints: cannot save the checkpoint of step 5"):
        save_checkpoint(tmp_path / "checkpoints", 5, state_of(5))
