"""The running average of weights: its value, and where it is used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from core.training.averaging import FIRST_UPDATES, Average
from core.training.checkpoint import list_checkpoints

from .conftest import make_loop, read_log, stop_after, tiny_config


def test_average_is_exponential_and_short_at_first():
    module = nn.Linear(1, 1, bias=False)
    values = np.random.default_rng(0).normal(size=200)
    module.weight.data.fill_(1000.0)  # initial weights, to be forgotten
    average = Average(module, 0.9)
    expected = 1000.0
    for n, value in enumerate(values, start=1):
        module.weight.data.fill_(value)
        average.update([module.weight])
        keep = min(0.9, n / (n + FIRST_UPDATES))
        expected = keep * expected + (1 - keep) * value
    with average.in_place():
        assert module.weight.item() == pytest.approx(expected, rel=1e-4)
    assert module.weight.item() == pytest.approx(values[-1])
    assert abs(expected) < 1


def test_average_of_a_decoder_whose_turn_it_is_not_stays(duo, tmp_path):
    trained = make_loop(tiny_config(ema_decay=0.9), duo, tmp_path)
    updater = trained.updater
    for step in range(4):
        before = {name: value.clone() for name, value in updater.average.values.items()}
        batch = trained.batches[step]
        updater.update(batch, step)
        moved = {
            name.split(".")[1]
            for name, value in updater.average.values.items()
            if name.startswith("decoders.") and not torch.equal(value, before[name])
        }
        assert moved == set(batch.domains)
        assert not torch.equal(
            updater.average.values["encoder.output.weight"], before["encoder.output.weight"]
        )


def test_model_is_saved_and_validated_with_the_average(duo, tmp_path, train, told):
    config = tiny_config(ema_decay=0.95, learning_rate=1e-2)
    train(config, duo, tmp_path / "run")
    run = tmp_path / "run"
    state = torch.load(list_checkpoints(run / "checkpoints")[0])
    saved = load_file(run / "model.safetensors")
    for name, value in state["average"]["values"].items():
        if not name.startswith("classifier."):
            assert torch.equal(saved[name], value)
    assert not torch.equal(saved["encoder.output.weight"], state["model"]["encoder.output.weight"])
    train(config.updated("training", ema_decay=0.0), duo, tmp_path / "without")
    with_average, without = told.validations
    assert with_average["validation/bass"] != without["validation/bass"]
    losses = [[r.get("loss/bass") for r in read_log(tmp_path / n)] for n in ("run", "without")]
    assert losses[0] == losses[1]  # the weights in training are the same


def test_continued_run_with_an_average_equals_an_uninterrupted_one(duo, tmp_path, train):
    config = tiny_config(ema_decay=0.9, steps=7)
    train(config, duo, tmp_path / "whole")
    train(config, duo, tmp_path / "parts", should_stop=stop_after(3))
    train(config, duo, tmp_path / "parts")
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert read_log(tmp_path / "whole") == read_log(tmp_path / "parts")


def test_zero_averages_nothing(duo, tmp_path):
    trained = make_loop(tiny_config(), duo, tmp_path)
    assert trained.updater.average.values == {}
