"""The log, the speed, and what is said before losses say anything."""

from __future__ import annotations

import time

import pytest

from core.presets import get_preset
from core.training.logging import (
    LOG_FILE,
    Meter,
    cut_log,
    warn_of_duration,
    warn_of_minutes,
    warn_of_updates,
)

from .conftest import make_trainer, tiny_config


@pytest.mark.parametrize(
    ("step", "kept"), [(0, []), (4, ["4"]), (7, ["4", "7", "7b"]), (20, ["4", "7", "7b", "10"])]
)
def test_log_is_cut_after_a_step(tmp_path, step, kept):
    lines = {
        "4": '{"step": 4, "loss/bass": 5.5}',
        "7": '{"step": 7, "loss/bass": 5.1}',
        "7b": '{"step": 7, "validation/bass": 7.5}',
        "10": '{"step": 10}',
    }
    no_records = ["", "[]", "3", '{"step": null}', '{"step": 1']
    text = "\n".join([*lines.values(), *no_records])
    (tmp_path / LOG_FILE).write_text(text)
    cut_log(tmp_path / LOG_FILE, step)
    assert (tmp_path / LOG_FILE).read_text() == "".join(f"{lines[name]}\n" for name in kept)


def test_run_without_a_log_needs_no_cut(tmp_path):
    cut_log(tmp_path / LOG_FILE, 5)
    assert not (tmp_path / LOG_FILE).exists()


@pytest.mark.parametrize(("minutes", "named"), [(4.9, ["reed 4.9"]), (5.0, [])])
def test_too_little_audio_is_warned_of(minutes, named):
    lines = list(warn_of_minutes({"bass": 60.0, "reed": minutes}))
    assert len(lines) == len(named)
    assert all(name in line and "bass" not in line for name, line in zip(named, lines, strict=True))


@pytest.mark.parametrize(
    ("domains_per_step", "steps", "is_warned"), [(1, 599, True), (1, 600, False), (2, 300, False)]
)
def test_too_few_updates_of_a_decoder_are_warned_of(
    duo, tmp_path, domains_per_step, steps, is_warned
):
    config = tiny_config(domains_per_step=domains_per_step)
    batches = make_trainer(config, duo, tmp_path).batches  # two domains
    lines = list(warn_of_updates("so it is", batches.n_updates(steps)))
    assert bool(lines) == is_warned
    assert not lines or lines[0].startswith("so it is: 299 updates of the decoder for reed;")


@pytest.mark.parametrize(
    ("preset", "is_free", "is_told"),
    [("paper", True, True), ("fast", True, False), ("paper", False, False)],
)
def test_a_faster_preset_is_named_where_one_can_be_chosen(preset, is_free, is_told):
    config = get_preset(preset)
    (line,) = warn_of_duration(config, 8 * 86400, is_free=is_free)
    assert ("--preset fast" in line) == is_told
    assert f"{config.training.steps} steps of preset {preset} take about 8 days" in line


def test_time_spent_waiting_for_data_is_measured(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def slow():
        for number in range(4):
            clock[0] += 3
            yield number

    meter = Meter()
    meter.start(10)
    for _ in meter.timed(slow()):
        clock[0] += 1
        meter.add({"loss/bass": clock[0]})
    record = meter.take(14, steps=18, batch_size=5)
    assert record["waiting_share"] == 12 / 16
    assert record["items_per_second"] == 20 / 16
    assert record["seconds_left"] == 16
    assert record["loss/bass"] == (4 + 8 + 12 + 16) / 4
    assert meter.values == {}


def test_time_left_is_no_longer_than_the_time_limit(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    meter = Meter()
    for time_limit, shown in ((1000.0, 90.0), (25.0, 25.0), (-3.0, 0.0)):
        meter.start(0)
        clock[0] += 10
        record = meter.take(1, steps=10, batch_size=1, time_limit=time_limit)
        assert record["seconds_left"] == shown
