"""Checkpoints: complete or absent, checked when read, and only the newest few kept."""

from __future__ import annotations

import pytest
import torch

from core.errors import TrainingError
from core.training.checkpoint import KEPT, list_checkpoints, load_newest, save_checkpoint


def state_of(step: int) -> dict:
    return {"step": step, "model": {"weight": torch.arange(5000.0) + step}}


@pytest.fixture
def notices() -> list[str]:
    return []


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
    assert len(list(tmp_path.iterdir())) == KEPT


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
    with pytest.raises(TrainingError, match="all checkpoints are damaged; delete the run"):
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
