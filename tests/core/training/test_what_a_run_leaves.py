"""What a run leaves in its folder: models, the log, TensorBoard's events."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from core.model_file import read_header
from core.training import loop, validation
from core.training.run_directory import LOG_FILE
from core.translator import Translator

from .conftest import (
    RATE,
    assert_equal_weights,
    events_of,
    model_of,
    read_log,
    stop_after,
    tiny_config,
)


def test_model_file_is_loadable_and_tells_its_provenance(duo, tmp_path, train):
    result = train(tiny_config(steps=2), duo, tmp_path / "run")
    assert result.is_main
    model = Translator.load(result.model)
    assert model.domains == ("bass", "reed")
    assert model.level_db == -20
    record = model.training_record
    assert record["steps"] == 2
    assert record["minutes"]["bass"] == {"train": 0.15, "validation": 0.02, "test": 0.0}
    assert set(record["figures"]) == {
        *("validation/bass", "validation/reed"),
        *("other latents/bass", "other latents/reed"),
        *("confusion/validation accuracy", "confusion/validation chance"),
    }


@pytest.fixture
def heldout(monkeypatch):
    """Held-out figures of validations to come: of two domains, as given."""
    coming = []

    def figures(self):
        return dict(zip(("validation/bass", "validation/reed"), coming.pop(0), strict=True))

    monkeypatch.setattr(validation.Validator, "figures", figures)
    return coming


def test_best_model_is_that_of_the_lowest_mean_figure_also_on_continuing(
    duo, tmp_path, train, heldout
):
    heldout += [(6, 6), (3, 7), (2, 9), (5, 5)]
    run, config = tmp_path / "run", tiny_config(steps=5, validate_steps=1)
    weights = []
    for n_steps in range(1, 5):
        train(config, duo, run, should_stop=stop_after(1, loop.OUT_OF_TIME))
        weights.append(model_of(run))
        best = 1 if n_steps == 1 else 2
        assert_equal_weights(load_file(run / "best.safetensors"), weights[best - 1])
    assert read_header(run / "best.safetensors").training["figures"]["validation/reed"] == 7
    assert read_header(run / "model.safetensors").training["best"] == {"step": 2, "figure": 5}


def test_log_has_what_a_reader_needs(duo, tmp_path, train, told):
    train(tiny_config(), duo, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 8]
    assert lines[:2] == told.records
    assert lines[2:] == told.validations
    for record in lines[:2]:
        assert {"loss/bass", "loss/reed", "confusion/loss"} <= record.keys()
        assert 0 <= record["confusion/accuracy"] <= 1
        assert record["confusion/chance"] == 0.5
        assert record["items_per_second"] > 0
    assert lines[1]["seconds_left"] == 0
    assert 0 < lines[2]["validation/bass"] < 16  # bits
    assert lines[2]["confusion/validation chance"] == 0.5


def test_means_of_the_log_are_over_the_updates_since_the_last(solo, tmp_path, train, monkeypatch):
    train(tiny_config(), solo, tmp_path / "coarse")
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    train(tiny_config(), solo, tmp_path / "fine")
    fine = [r["loss/bass"] for r in read_log(tmp_path / "fine") if "loss/bass" in r]
    coarse = [r["loss/bass"] for r in read_log(tmp_path / "coarse") if "loss/bass" in r]
    assert coarse == pytest.approx([np.mean(fine[:4]), np.mean(fine[4:])])


def test_tensorboard_holds_the_losses_and_audio(duo, tmp_path, train, monkeypatch):
    monkeypatch.setattr(validation, "EXAMPLE_SECONDS", 0.5)
    train(tiny_config(validate_steps=4), duo, tmp_path / "run")
    events = events_of(tmp_path / "run")
    log = [r for r in read_log(tmp_path / "run") if "loss/reed" in r]
    scalars = events.Scalars("loss/reed")
    assert [(s.step, pytest.approx(s.value)) for s in scalars] == [
        (record["step"], record["loss/reed"]) for record in log
    ]
    assert {"learning_rate", "validation/bass", "confusion/accuracy"} <= set(
        events.Tags()["scalars"]
    )
    # Domains take turns: at step 4 it is the second one's.
    assert sorted(events.Tags()["audio"]) == [
        *("bass to bass", "bass to reed", "original/bass", "original/reed"),
        *("reed to bass", "reed to reed"),
    ]
    (example,) = events.Audio("reed to bass")
    assert (example.step, example.sample_rate, example.length_frames) == (4, RATE, RATE // 2)


def test_examples_of_a_slow_model_end_in_time(duo, tmp_path, train, monkeypatch):
    monkeypatch.setattr(validation, "EXAMPLE_SECONDS", 1.0)
    monkeypatch.setattr(validation, "GENERATION_SECONDS", 0.0)
    train(tiny_config(steps=1), duo, tmp_path / "run")
    (example,) = events_of(tmp_path / "run").Audio("bass to reed")
    assert example.length_frames == 100  # one latent frame
