"""Runs that cannot go on: bad numbers, bad data, no room."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from core.errors import DataError, TrainingError, UsageError
from core.training import loop
from core.training.checkpoint import list_checkpoints
from core.training.run_directory import LOG_FILE
from core.training.step import Updater

from .conftest import model_of, music, store_domain, tiny_config


def test_no_training_audio_is_an_error(tmp_path, train):
    track = music(2.0, harmonics=5)
    divided = [[("validation", 0, len(track))]]
    domains = [store_domain(tmp_path / "data", "bass", [track], divided)]
    with pytest.raises(DataError, match="bass has no train audio"):
        train(tiny_config(), domains, tmp_path / "run")


def test_start_that_failed_does_not_bind_the_run(duo, tmp_path, train):
    """A batch that cannot be shared is corrected by running the command again."""
    run = tmp_path / "run"
    with pytest.raises(DataError, match="cannot be shared"):
        train(tiny_config(steps=1, batch_size=3, domains_per_step=2), duo, run)
    assert train(tiny_config(steps=1), duo, run).step == 1


@pytest.fixture
def spoiled(monkeypatch):
    """Make update 6 spoil the weights, after its loss was found good."""
    update = Updater.update

    def spoil(self, batch, step):
        losses = update(self, batch, step)
        if step == 5:
            with torch.no_grad():
                next(self.model.encoder.parameters()).fill_(float("nan"))
        return losses

    monkeypatch.setattr(Updater, "update", spoil)


@pytest.mark.parametrize(
    ("validate_steps", "message"), [(4, "the loss is nan at step 7"), (3, "weights are not finite")]
)
@pytest.mark.usefixtures("spoiled")
def test_nan_is_an_error_that_leaves_the_last_checkpoint(
    duo, tmp_path, train, validate_steps, message
):
    config, run = tiny_config(validate_steps=validate_steps), tmp_path / "run"
    with pytest.raises(TrainingError, match=f"{message}.*last checkpoint is unharmed.*new --run"):
        train(config, duo, run)
    (checkpoint,) = list_checkpoints(run / "checkpoints")
    assert checkpoint.name == f"step-00000000{validate_steps}.pt"
    state = torch.load(checkpoint)["model"]
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert all(tensor.isfinite().all() for tensor in model_of(run).values())
    assert "NaN" not in (run / LOG_FILE).read_text()


def test_model_that_cannot_be_written_is_an_error(duo, tmp_path, train):
    (tmp_path / "run" / "model.safetensors").mkdir(parents=True)
    with pytest.raises(TrainingError, match="run: cannot save the model"):
        train(tiny_config(steps=1), duo, tmp_path / "run")


def test_full_disk_is_an_error_that_leaves_no_half_file(duo, tmp_path, train, full_disk):
    # The shared memory of a batch, 19 kB, counts as a file and must fit.
    expected = pytest.raises(TrainingError, match=r"cannot save the model.*File too large")
    with expected, full_disk(24_000):
        train(tiny_config(steps=1), duo, tmp_path / "run")
    assert not [path for path in (tmp_path / "run").iterdir() if path.suffix == ".part"]
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_batch_that_cannot_be_passed_on_is_an_error_and_not_waited_for(
    duo, tmp_path, train, full_disk
):
    expected = pytest.raises(TrainingError, match=r"could not make a batch.*shared memory left")
    with expected, full_disk(12_000):  # a batch has 19 kB
        train(tiny_config(steps=1), duo, tmp_path / "run")


def test_data_that_disappears_is_an_error(duo, tmp_path, train):
    def lose_it():
        for domain in duo:
            (domain.directory / domain.tracks[0].file).unlink(missing_ok=True)

    with pytest.raises(TrainingError, match=r"could not make a batch.*No such file.*0\.npy"):
        train(tiny_config(steps=50), duo, tmp_path / "run", should_stop=lose_it)


def test_half_precision_without_loss_scaling_is_refused(duo, tmp_path, train, monkeypatch):
    monkeypatch.setattr(
        loop, "Accelerator", lambda **options: SimpleNamespace(mixed_precision="fp16")
    )
    with pytest.raises(UsageError, match=r"mixed precision fp16 would need loss scaling.*bf16"):
        train(tiny_config(steps=1), duo, tmp_path / "run")


def test_an_apple_gpu_is_left_alone(duo, tmp_path, told, monkeypatch):
    """It has no float64; `accelerate` takes it where nobody says otherwise."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    asked = []

    def accelerator(*, cpu):
        asked.append(cpu)
        return SimpleNamespace(mixed_precision="fp16")  # refused: what follows is not wanted

    monkeypatch.setattr(loop, "Accelerator", accelerator)
    with pytest.raises(UsageError):
        loop.train(tiny_config(steps=1), duo, tmp_path / "run", reporter=told, device="auto")
    assert asked == [True]


def test_run_folder_that_cannot_be_made_is_an_error(duo, tmp_path, train):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(TrainingError, match="cannot write here"):
        train(tiny_config(steps=1), duo, tmp_path / "runs" / "bass")
