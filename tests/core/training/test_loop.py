"""Whole runs in this process: what is trained and said, how runs end, fail and go on."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.errors import DataError, TrainingError, UsageError
from core.model_file import count_updates, read_header
from core.training import loop, validation
from core.training.logging import LOG_FILE
from core.training.run_directory import list_checkpoints
from core.training.step import Updater
from core.training.validation import Validator
from core.translator import Translator

from .conftest import (
    RATE,
    assert_equal_weights,
    events_of,
    model_of,
    music,
    read_log,
    spectral_config,
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


def test_one_domain_trains_without_confusion_and_says_so(solo, tmp_path, train, reporter):
    result = train(tiny_config(), solo, tmp_path / "run")
    assert "only one domain (bass): training without the confusion term" in reporter.notices
    for record in read_log(result.model.parent):
        assert not [name for name in record if "classifier" in name or "confusion" in name]
    fresh = Translator.create(tiny_config(), ["bass"], seed=0)
    assert_equal_weights(
        Translator.load(result.model).classifier.state_dict(), fresh.classifier.state_dict()
    )


def test_data_without_validation_audio_is_trained_on_and_said(tmp_path, train, reporter):
    domains = store_music(tmp_path / "data", bass=3.0)
    domains.append(store_domain(tmp_path / "data", "reed", [music(2.0, harmonics=5)]))
    result = train(tiny_config(steps=2), domains, tmp_path / "run")
    assert "reed has no validation audio: no held-out figure for it" in reporter.notices
    assert "validation/bass" in reporter.validations[-1]
    assert "validation/reed" not in reporter.validations[-1]
    assert events_of(tmp_path / "run").Tags()["audio"]
    assert result.model.exists()


def test_no_validation_audio_at_all_still_gives_a_model(tmp_path, train, reporter):
    domains = [store_domain(tmp_path / "data", "bass", [music(2.0, harmonics=5)])]
    result = train(tiny_config(steps=2), domains, tmp_path / "run")
    assert result.model.exists()
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert reporter.validations == [{"step": 2}]


@pytest.mark.parametrize(("steps", "is_long"), [(10**12, True), (100, False)])
def test_a_run_of_weeks_is_announced_after_its_first_update(
    duo, tmp_path, train, reporter, steps, is_long
):
    train(tiny_config(steps=steps), duo, tmp_path / "run", should_stop=stop_after(1))
    assert any("days on this machine" in notice for notice in reporter.notices) == is_long


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


def test_interruption_saves_without_waiting_for_a_validation(duo, tmp_path, train, reporter):
    run = tmp_path / "run"
    train(tiny_config(steps=100), duo, run, should_stop=stop_after(1, "SIGINT"))
    assert len(list_checkpoints(run / "checkpoints")) == 1
    assert read_header(run / "model.safetensors").training["steps"] == 1
    assert reporter.validations == []


def test_time_limit_validates_saves_and_stops(duo, tmp_path, train, reporter):
    result = train(tiny_config(steps=1000), duo, tmp_path / "run", max_minutes=1e-6)
    assert (result.step, result.stopped_by) == (1, "minutes")
    assert [record["step"] for record in reporter.validations] == [1]
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


@pytest.mark.parametrize("n_first", [4, 5])
def test_continued_run_equals_an_uninterrupted_one(duo, tmp_path, train, reporter, n_first):
    """Bit for bit: weights, optimizers, log, also between two records of the log."""
    check_continued(tiny_config(), duo, tmp_path, train, n_first)
    assert f"continuing {tmp_path / 'parts'} at step {n_first}" in reporter.notices


def test_continued_run_of_a_model_with_noise_equals_an_uninterrupted_one(tmp_path, train):
    domains = store_music(tmp_path / "data", 44100, bass=2.0, reed=2.0)
    check_continued(spectral_config(steps=3), domains, tmp_path, train, 2)


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


def test_figures_of_the_last_validation_stay_with_the_model(duo, tmp_path, train, reporter):
    run, config = tmp_path / "run", tiny_config(steps=100, validate_steps=2)
    train(config, duo, run, should_stop=stop_after(3))
    train(config, duo, run, should_stop=stop_after(1))
    training = read_header(run / "model.safetensors").training
    assert training["steps"] == 4
    train(config, duo, run, should_stop=stop_after(1))
    training = read_header(run / "model.safetensors").training
    assert training["steps"] == 5
    last = {k: v for k, v in reporter.validations[-1].items() if k != "step"}
    assert training["figures"] == last


def test_new_order_of_the_same_domains_is_the_same_run(duo, tmp_path, train):
    run, config = tmp_path / "run", tiny_config(steps=4)
    train(config, duo, tmp_path / "sorted")
    train(config, duo, run, should_stop=stop_after(2))
    train(config, duo[::-1], run)
    assert_equal_weights(model_of(run), model_of(tmp_path / "sorted"))


def test_damaged_newest_checkpoint_is_passed_over_with_a_notice(duo, tmp_path, train, reporter):
    config, run = tiny_config(validate_steps=4), tmp_path / "run"
    train(config, duo, run)
    whole, log = model_of(run), read_log(run)
    newest = list_checkpoints(run / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    train(config, duo, run)
    assert any(f"{newest} is damaged" in notice for notice in reporter.notices)
    assert f"continuing {run} at step 4" in reporter.notices
    assert_equal_weights(model_of(run), whole)
    assert read_log(run) == log


def test_run_with_only_damaged_checkpoints_is_refused(duo, tmp_path, train):
    run = tmp_path / "run"
    train(tiny_config(steps=2, validate_steps=1), duo, run)
    model = (run / "model.safetensors").read_bytes()
    for path in list_checkpoints(run / "checkpoints"):
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="all checkpoints are damaged or of another run"):
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

    def spoil(self, batch, step, check_stop):
        losses = update(self, batch, step, check_stop)
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
    # The shared memory of a batch, 34 kB, counts as files and must fit.
    expected = pytest.raises(TrainingError, match=r"cannot save the model.*File too large")
    with expected, full_disk(40_000):
        train(tiny_config(steps=1), duo, tmp_path / "run")
    assert not [path for path in (tmp_path / "run").iterdir() if path.suffix == ".part"]
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_batch_that_cannot_be_passed_on_is_an_error_and_not_waited_for(
    duo, tmp_path, train, full_disk
):
    expected = pytest.raises(TrainingError, match=r"could not make a batch.*shared memory left")
    with expected, full_disk(12_000):  # a batch has 34 kB
        train(tiny_config(steps=1), duo, tmp_path / "run")


def test_data_that_disappears_is_an_error(duo, tmp_path, train):
    def lose_it():
        for domain in duo:
            (domain.directory / domain.tracks[0].file).unlink(missing_ok=True)

    with pytest.raises(DataError, match=r"^\S+0\.npy is missing; run the same `umt prep` again"):
        train(tiny_config(steps=50), duo, tmp_path / "run", should_stop=lose_it)


def test_half_precision_without_loss_scaling_is_refused(duo, tmp_path, train, monkeypatch):
    monkeypatch.setattr(
        loop, "Accelerator", lambda **options: SimpleNamespace(mixed_precision="fp16")
    )
    with pytest.raises(UsageError, match=r"mixed precision fp16 would need loss scaling.*bf16"):
        train(tiny_config(steps=1), duo, tmp_path / "run")


def test_an_apple_gpu_is_left_alone(duo, tmp_path, reporter, monkeypatch):
    """It has no float64; `accelerate` takes it where nobody says otherwise."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    asked = []

    def accelerator(*, cpu):
        asked.append(cpu)
        return SimpleNamespace(mixed_precision="fp16")  # refused: what follows is not wanted

    monkeypatch.setattr(loop, "Accelerator", accelerator)
    with pytest.raises(UsageError):
        loop.train(tiny_config(steps=1), duo, tmp_path / "run", reporter=reporter, device="auto")
    assert asked == [True]


def test_run_folder_that_cannot_be_made_is_an_error(duo, tmp_path, train):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(TrainingError, match="cannot write here"):
        train(tiny_config(steps=1), duo, tmp_path / "runs" / "bass")


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

    def figures(self, check_stop):
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
        train(config, duo, run, max_minutes=1e-6)
        weights.append(model_of(run))
        best = 1 if n_steps == 1 else 2
        assert_equal_weights(load_file(run / "best.safetensors"), weights[best - 1])
    assert read_header(run / "best.safetensors").training["figures"]["validation/reed"] == 7
    assert read_header(run / "model.safetensors").training["best"] == {"step": 2, "figure": 5}


def test_log_has_what_a_reader_needs(duo, tmp_path, train, reporter):
    train(tiny_config(), duo, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 8]
    assert lines[:2] == reporter.records
    assert lines[2:] == reporter.validations
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


def test_validation_is_told_with_its_baselines(duo, tmp_path, train, reporter):
    train(tiny_config(steps=1), duo, tmp_path / "run")
    (baselines,) = reporter.baselines
    assert baselines["bass"]["uniform"] == 8.0
    assert 0 < baselines["bass"]["unigram"] < 8
    assert any("expect noise" in notice for notice in reporter.notices)  # after one step


def test_warnings_come_before_the_first_update(duo, tmp_path, train, reporter):
    train(tiny_config(steps=100), duo, tmp_path / "run", should_stop=stop_after(1))
    assert any("minutes of training audio: bass 0.1" in notice for notice in reporter.notices)
    assert any("50 updates of the decoder for bass" in notice for notice in reporter.notices)


def test_domains_of_all_sizes_are_trained_alike(tmp_path, train, reporter):
    domains = store_music(tmp_path / "data", bass=60.0, flute=6.0, reed=1.7)
    train(tiny_config(steps=12), domains, tmp_path / "run")
    (record, *_), n = reporter.records, len(reporter.records)
    assert n == 3
    assert {f"loss/{domain.name}" for domain in domains} <= record.keys()


def test_stop_in_the_middle_of_an_update_keeps_the_last_finished_one(duo, tmp_path, train):
    """Bit for bit, also when the classifier had moved: an update of 4 parts has 8 moments."""
    config = tiny_config(steps=5, accumulate=4)
    train(config, duo, tmp_path / "whole")
    for n_calls, n_finished in ((1, 3), (4, 3), (9, 4)):
        third = stop_after(3)
        calls = iter(range(1, n_calls + 1))  # the first is the one after the third update

        def during_the_fourth(third=third, calls=calls):
            return "SIGTERM" if third() and next(calls, None) is None else None

        run = tmp_path / f"{n_calls}"
        result = train(config, duo, run, should_stop=during_the_fourth)
        assert (result.step, result.stopped_by) == (n_finished, "SIGTERM")
        assert [path.stem for path in list_checkpoints(run / "checkpoints")] == [
            f"step-00000000{n_finished}"
        ]
        assert train(config, duo, run).step == 5
        assert read_log(run) == read_log(tmp_path / "whole")
        assert_equal_weights(model_of(run), model_of(tmp_path / "whole"))


def test_stop_in_the_first_update_leaves_no_model(duo, tmp_path, train):
    result = train(tiny_config(accumulate=2), duo, tmp_path / "run", should_stop=lambda: "SIGINT")
    assert (result.step, result.stopped_by) == (0, "SIGINT")
    assert not result.model.exists()
    assert not list_checkpoints(tmp_path / "run" / "checkpoints")


def test_stop_puts_a_validation_off_until_the_run_goes_on(duo, tmp_path, train, reporter):
    config = tiny_config(steps=6, validate_steps=3)
    train(config, duo, tmp_path / "whole")
    reporter.validations.clear()
    third = stop_after(3)
    calls = iter(range(2))  # after the update, and before the first segments

    def in_the_validation():
        return "SIGTERM" if third() and next(calls, None) is None else None

    run = tmp_path / "parts"
    result = train(config, duo, run, should_stop=in_the_validation)
    assert (result.step, result.stopped_by) == (3, "SIGTERM")
    assert reporter.validations == []
    assert read_header(result.model).training["figures"] == {}
    train(config, duo, run)
    assert read_log(run) == read_log(tmp_path / "whole")
    for name in ("model.safetensors", "best.safetensors"):
        assert_equal_weights(load_file(run / name), load_file(tmp_path / "whole" / name))


def test_few_updates_are_warned_of_however_training_ends(duo, tmp_path, train, reporter):
    config = tiny_config(steps=10_000)
    for options in ({"max_minutes": 1e-6}, {"should_stop": stop_after(7)}):
        reporter.notices.clear()
        result = train(config, duo, tmp_path / f"{len(options)}{[*options]}", **options)
        warned = f"stopped after {result.step} steps: {result.step // 2} updates of the decoder"
        assert any(warned in notice and "expect noise" in notice for notice in reporter.notices)
    train(config, duo, tmp_path / "limited", max_minutes=1e-6)
    assert any("--max-minutes allows about 1 steps: 0 updates" in n for n in reporter.notices)


def test_training_record_has_what_tells_whether_decoders_are_trained_enough(duo, tmp_path, train):
    record = read_header(train(tiny_config(steps=3), duo, tmp_path / "run").model).training
    assert record["updates"] == {"bass": 2, "reed": 1}
    assert record["baselines"].keys() == {"bass", "reed"}
    assert record["baselines"]["bass"]["uniform"] == 8.0
    assert {"validation/bass", "validation/reed"} <= record["figures"].keys()


def test_updates_of_models_of_earlier_versions_follow_from_their_steps(duo, tmp_path, train):
    header = read_header(train(tiny_config(steps=1), duo, tmp_path / "run").model)
    records: list[tuple[dict[str, Any], dict[str, int]]] = [
        ({"steps": 900, "minutes": {"bass": {}, "reed": {}}}, {"bass": 450, "reed": 450}),
        (
            {
                **{"steps": 100, "minutes": {"reed": {}}, "added": "reed"},
                "parent": {"domains": ["bass"], "steps": 700, "minutes": {"bass": {}}},
            },
            {"bass": 700, "reed": 100},
        ),
        ({"steps": "9", "parent": 3, "updates": {"bass": "many"}}, {"bass": 0, "reed": 0}),
    ]
    for record, expected in records:
        old = replace(header, training=record)
        assert {name: count_updates(old, name) for name in header.domains} == expected
