"""Whole runs in this process: what is trained, what is said, and how they end."""

from __future__ import annotations

import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest

from core.model_file import read_header
from core.training import loop
from core.training.checkpoint import list_checkpoints
from core.training.step import Updater
from core.training.validation import Validator
from core.translator import Translator

from .conftest import (
    assert_equal_weights,
    events_of,
    model_of,
    music,
    read_log,
    stop_after,
    store_domain,
    store_music,
    tiny_config,
)


def test_loss_falls(duo, tmp_path, train):
    config = tiny_config(steps=40, learning_rate=2e-2, segment_seconds=0.4)
    config = config.updated("model", residual_channels=16, skip_channels=16)
    train(config, duo, tmp_path / "run")
    records = [record for record in read_log(tmp_path / "run") if "learning_rate" in record]
    for name in ("loss/bass", "loss/reed"):
        losses = [record[name] for record in records]
        assert losses[0] > 5  # ln 256 is 5.55
        assert np.mean(losses[-2:]) < 0.9 * losses[0]


def test_runs_of_other_seeds_differ(duo, tmp_path, train):
    for seed in (0, 1):
        train(tiny_config(steps=1, seed=seed), duo, tmp_path / f"{seed}")
    first, second = (read_log(tmp_path / f"{seed}") for seed in (0, 1))
    assert first[0]["loss/bass"] != second[0]["loss/bass"]


def test_run_does_not_depend_on_whether_it_validates(duo, tmp_path, train):
    train(tiny_config(), duo, tmp_path / "rarely")
    train(tiny_config(validate_steps=2), duo, tmp_path / "often")
    assert_equal_weights(model_of(tmp_path / "rarely"), model_of(tmp_path / "often"))


def test_one_domain_trains_without_confusion_and_says_so(solo, tmp_path, train, told):
    result = train(tiny_config(), solo, tmp_path / "run")
    assert "only one domain (bass): training without the confusion term" in told.notices
    for record in read_log(result.model.parent):
        assert not [name for name in record if "classifier" in name or "confusion" in name]
    fresh = Translator.create(tiny_config(), ["bass"], seed=0)
    assert_equal_weights(
        Translator.load(result.model).classifier.state_dict(), fresh.classifier.state_dict()
    )


def test_data_without_validation_audio_is_trained_on_and_said(tmp_path, train, told):
    domains = store_music(tmp_path / "data", bass=3.0)
    domains.append(store_domain(tmp_path / "data", "reed", [music(2.0, harmonics=5)]))
    result = train(tiny_config(steps=2), domains, tmp_path / "run")
    assert "reed has no validation audio: no held-out figure for it" in told.notices
    assert "validation/bass" in told.validations[-1]
    assert "validation/reed" not in told.validations[-1]
    assert events_of(tmp_path / "run").Tags()["audio"]
    assert result.model.exists()


def test_no_validation_audio_at_all_still_gives_a_model(tmp_path, train, told):
    domains = [store_domain(tmp_path / "data", "bass", [music(2.0, harmonics=5)])]
    result = train(tiny_config(steps=2), domains, tmp_path / "run")
    assert result.model.exists()
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert told.validations == [{"step": 2}]


@pytest.mark.parametrize(("steps", "is_long"), [(10**12, True), (100, False)])
def test_a_run_of_weeks_is_announced_after_its_first_update(
    duo, tmp_path, train, told, steps, is_long
):
    train(tiny_config(steps=steps), duo, tmp_path / "run", should_stop=stop_after(1))
    assert any("days on this machine" in notice for notice in told.notices) == is_long


def test_nothing_is_printed(duo, tmp_path, train, capfd, monkeypatch):
    """Also when an example is beyond full scale, of which TensorBoard would speak on stdout."""
    generate = Translator.decode_blocks
    monkeypatch.setattr(
        Translator,
        "decode_blocks",
        lambda *args, **options: (3 * block for block in generate(*args, **options)),
    )
    train(tiny_config(steps=1), duo, tmp_path / "run")
    assert capfd.readouterr().out == ""


def test_interruption_saves_without_waiting_for_a_validation(duo, tmp_path, train, told):
    run = tmp_path / "run"
    train(tiny_config(steps=100), duo, run, should_stop=stop_after(1, "SIGINT"))
    assert len(list_checkpoints(run / "checkpoints")) == 1
    assert read_header(run / "model.safetensors").training["steps"] == 1
    assert told.validations == []


def test_time_limit_validates_saves_and_stops(duo, tmp_path, train, told):
    result = train(tiny_config(steps=1000), duo, tmp_path / "run", max_minutes=1e-6)
    assert (result.step, result.stopped_by) == (1, "minutes")
    assert [record["step"] for record in told.validations] == [1]
    assert read_header(result.model).training["figures"]


@pytest.mark.parametrize(
    ("validate_steps", "validation_seconds", "n_steps"),
    # Before the first validation it is expected to take as long as an update of as many items.
    [(4, 60, 7), (1000, 10, 18)],
)
def test_time_limit_includes_the_last_validation(
    duo, tmp_path, train, monkeypatch, validate_steps, validation_seconds, n_steps
):
    """By a clock that only updates, 10 s each, and validations move on."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)

    def slow(method, seconds):
        def slowly(*args):
            clock.now += seconds
            return method(*args)

        return slowly

    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(Updater, "update", slow(Updater.update, 10))
    monkeypatch.setattr(Validator, "figures", slow(Validator.figures, validation_seconds - 5))
    monkeypatch.setattr(Validator, "examples", slow(Validator.examples, 5))
    config = tiny_config(steps=1000, validate_steps=validate_steps)
    result = train(config, duo, tmp_path / "run", max_minutes=190 / 60)
    assert (result.stopped_by, result.step) == ("minutes", n_steps)
    assert clock.now == 190


@pytest.mark.parametrize("end", ["stop", "error"])
def test_no_worker_outlives_training(duo, tmp_path, train, end):
    """Workers heed no signal, so that one left over would keep the process from ending."""

    def fail():
        raise KeyboardInterrupt

    should_stop = stop_after(2) if end == "stop" else fail
    before = set(multiprocessing.active_children())
    try:
        train(tiny_config(), duo, tmp_path / "run", should_stop=should_stop)
    except KeyboardInterrupt as error:
        kept = error  # with its traceback, as a test's report or a debugger keeps it
        assert end == "error"
    assert set(multiprocessing.active_children()) <= before
    assert end == "stop" or kept.__traceback__
