"""Runs that go on: after a stop, after a crash, with damaged files, with more steps."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from core.errors import TrainingError
from core.model_file import read_header
from core.training.checkpoint import list_checkpoints
from core.training.run_directory import LOG_FILE

from .conftest import (
    assert_equal_weights,
    events_of,
    model_of,
    read_log,
    spectral_config,
    stop_after,
    store_music,
    tiny_config,
)


@pytest.mark.parametrize("n_first", [4, 5])
def test_continued_run_equals_an_uninterrupted_one(duo, tmp_path, train, told, n_first):
    """Bit for bit: weights, optimizers, log, also between two records of the log."""
    check_continued(tiny_config(), duo, tmp_path, train, n_first)
    assert f"continuing {tmp_path / 'parts'} at step {n_first}" in told.notices


def test_continued_run_of_a_model_with_noise_equals_an_uninterrupted_one(tmp_path, train):
    domains = store_music(tmp_path / "data", 44100, bass=2.0, reed=2.0)
    check_continued(spectral_config(steps=5), domains, tmp_path, train, 3)


def check_continued(config, domains, folder, train, n_first):
    whole, parts = folder / "whole", folder / "parts"
    assert train(config, domains, whole).stopped_by == "steps"
    first = train(config, domains, parts, should_stop=stop_after(n_first))
    assert (first.step, first.stopped_by) == (n_first, "SIGTERM")
    assert train(config, domains, parts).step == config.training.steps
    assert read_log(parts) == read_log(whole)
    for name in ("model.safetensors", "best.safetensors"):
        assert_equal_weights(load_file(parts / name), load_file(whole / name))
    ids = [read_header(run / "model.safetensors").id for run in (whole, parts)]
    assert ids[0] == ids[1]
    states = [torch.load(list_checkpoints(run / "checkpoints")[0]) for run in (whole, parts)]
    for name in ("optimizer", "classifier_optimizer"):
        moments = [state[name]["state"] for state in states]
        assert moments[0].keys() == moments[1].keys() != set()
        for index, values in moments[0].items():
            for key, tensor in values.items():
                assert torch.equal(tensor, moments[1][index][key])


def test_finished_run_can_be_given_more_steps_and_is_left_alone_without(duo, tmp_path, train):
    run = tmp_path / "run"
    train(tiny_config(steps=2), duo, run)
    before = (run / "model.safetensors").read_bytes()
    assert train(tiny_config(steps=2), duo, run).step == 2
    assert (run / "model.safetensors").read_bytes() == before
    assert train(tiny_config(steps=3), duo, run).step == 3
    assert (run / "model.safetensors").read_bytes() != before


def test_figures_of_the_last_validation_stay_with_the_model(duo, tmp_path, train, told):
    run, config = tmp_path / "run", tiny_config(steps=100, validate_steps=2)
    train(config, duo, run, should_stop=stop_after(3))
    train(config, duo, run, should_stop=stop_after(1))
    training = read_header(run / "model.safetensors").training
    assert training["steps"] == 4
    train(config, duo, run, should_stop=stop_after(1))
    training = read_header(run / "model.safetensors").training
    assert training["steps"] == 5
    last = {k: v for k, v in told.validations[-1].items() if k != "step"}
    assert training["figures"] == last


def test_new_order_of_the_same_domains_is_the_same_run(duo, tmp_path, train):
    run, config = tmp_path / "run", tiny_config(steps=4)
    train(config, duo, tmp_path / "sorted")
    train(config, duo, run, should_stop=stop_after(2))
    train(config, duo[::-1], run)
    assert_equal_weights(model_of(run), model_of(tmp_path / "sorted"))


def test_damaged_newest_checkpoint_is_passed_over_with_a_notice(duo, tmp_path, train, told):
    config, run = tiny_config(validate_steps=4), tmp_path / "run"
    train(config, duo, run)
    whole, log = model_of(run), read_log(run)
    newest = list_checkpoints(run / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    train(config, duo, run)
    assert any(f"{newest} is damaged" in notice for notice in told.notices)
    assert f"continuing {run} at step 4" in told.notices
    assert_equal_weights(model_of(run), whole)
    assert read_log(run) == log


def test_run_with_only_damaged_checkpoints_is_refused(duo, tmp_path, train):
    run = tmp_path / "run"
    train(tiny_config(steps=2, validate_steps=1), duo, run)
    model = (run / "model.safetensors").read_bytes()
    for path in list_checkpoints(run / "checkpoints"):
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="all checkpoints are damaged"):
        train(tiny_config(steps=2, validate_steps=1), duo, run)
    assert (run / "model.safetensors").read_bytes() == model


def test_log_is_cut_to_the_checkpoint_and_half_lines_are_dropped(duo, tmp_path, train):
    config, run = tiny_config(validate_steps=4), tmp_path / "run"
    train(config, duo, run)
    whole = read_log(run)
    list_checkpoints(run / "checkpoints")[0].unlink()
    with (run / LOG_FILE).open("a") as log:
        log.write('{"step": 9, "loss/bass": 1.0}\n{"step": 12, "loss/ba')
    train(config, duo, run)
    assert read_log(run) == whole


def test_tensorboard_is_purged_on_continuing(duo, tmp_path, train):
    config, run = tiny_config(validate_steps=4), tmp_path / "run"
    train(config, duo, run)
    list_checkpoints(run / "checkpoints")[0].unlink()  # as if killed before the last was saved
    train(config, duo, run)
    assert [scalar.step for scalar in events_of(run).Scalars("loss/bass")] == [4, 8]


def test_run_killed_before_its_first_checkpoint_starts_over(duo, tmp_path, train):
    run = tmp_path / "run"
    train(tiny_config(), duo, run)
    whole, weights = read_log(run), model_of(run)
    shutil.rmtree(run / "checkpoints")
    train(tiny_config(), duo, run)
    assert read_log(run) == whole
    assert_equal_weights(model_of(run), weights)
