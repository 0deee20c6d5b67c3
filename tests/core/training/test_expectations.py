"""Is my training working? Baselines, warnings, and how long data was waited for."""

from __future__ import annotations

import math
import time

import pytest
import torch

from core.evaluation.model import evaluate_model
from core.families.spectral.losses import multi_resolution_loss
from core.families.wavenet.mulaw import MuLaw
from core.presets import get_preset
from core.training import expectations, logging
from core.training.validation import Validator
from core.translator import Translator

from .conftest import make_loop, spectral_config, stop_after, store_music, tiny_config


def wavenet_baselines(codes):
    decoder = Translator.create(tiny_config(), ["bass"]).decoders["bass"]
    return decoder.baselines(MuLaw("round").decode(torch.as_tensor(codes)))


@pytest.mark.parametrize(
    ("codes", "bits"),
    [([[7, 7, 7, 7]], 0), ([[1, 200, 1, 200], [1, 1, 200, 200]], 1), ([[0, 1, 2, 3]], 2)],
)
def test_unigram_is_the_entropy_of_the_codes(codes, bits):
    assert wavenet_baselines(codes) == {"uniform": 8.0, "unigram": pytest.approx(bits)}


def test_unigram_of_all_codes_alike_is_uniform():
    assert wavenet_baselines(torch.arange(256).view(2, 128))["unigram"] == pytest.approx(8.0)


def test_unigram_is_what_a_decoder_reaches_that_knows_nothing_but_frequencies():
    decoder = Translator.create(tiny_config(), ["bass"]).decoders["bass"]
    codes = torch.randint(100, 120, (2, 300), generator=torch.Generator().manual_seed(0))
    waveform = MuLaw("round").decode(codes)
    share = codes.flatten().bincount(minlength=256) / codes.numel()
    with torch.no_grad():
        decoder.output.weight.zero_()
        decoder.output.bias.copy_((share + 1e-12).log())
        figure = decoder.heldout_figure(torch.zeros(2, 3, 4), waveform)
    assert decoder.baselines(waveform)["unigram"] == pytest.approx(float(figure), abs=1e-3)


def test_spectral_baselines_are_silence_and_other_audio_of_the_domain():
    decoder = Translator.create(spectral_config(), ["bass"]).decoders["bass"]
    waveform = torch.randn(3, 8192, generator=torch.Generator().manual_seed(0)) / 10
    found = decoder.baselines(waveform)
    assert set(found) == {"silence", "other audio"}
    silent = multi_resolution_loss(torch.zeros_like(waveform), waveform, 44100)
    assert found["silence"] == pytest.approx(float(silent))
    assert 0 < found["other audio"] < found["silence"]  # noise is near to other noise
    assert set(decoder.baselines(waveform[:1])) == {"silence"}


@pytest.fixture
def validator(duo):
    config = tiny_config()
    model = Translator.create(config, ["bass", "reed"])
    return Validator(model, duo, None)


def test_figure_that_needed_no_learning_is_warned_of(validator):
    low = {name: min(baselines.values()) for name, baselines in validator.baselines.items()}
    good = {f"validation/{name}": value - 0.01 for name, value in low.items()}
    assert validator.advice(good) == []
    (line,) = validator.advice(good | {"validation/reed": low["reed"]})
    assert line == "reed: held-out figure not below that of unigram yet; as it is, expect noise"
    (line,) = validator.advice({f"validation/{name}": math.inf for name in low})
    assert line.startswith("bass, reed: ")


def test_validation_is_told_with_its_baselines(duo, tmp_path, train, told):
    train(tiny_config(steps=1), duo, tmp_path / "run")
    (baselines,) = told.baselines
    assert baselines["bass"]["uniform"] == 8.0
    assert 0 < baselines["bass"]["unigram"] < 8
    assert any("expect noise" in notice for notice in told.notices)  # after one step


@pytest.mark.parametrize(("minutes", "named"), [(4.9, ["reed 4.9"]), (5.0, [])])
def test_too_little_audio_is_warned_of(minutes, named):
    lines = list(expectations.of_minutes({"bass": 60.0, "reed": minutes}))
    assert len(lines) == len(named)
    assert all(name in line and "bass" not in line for name, line in zip(named, lines, strict=True))


@pytest.mark.parametrize(
    ("domains_per_step", "steps", "is_warned"), [(1, 599, True), (1, 600, False), (2, 300, False)]
)
def test_too_few_updates_of_a_decoder_are_warned_of(
    duo, tmp_path, domains_per_step, steps, is_warned
):
    config = tiny_config(domains_per_step=domains_per_step)
    batches = make_loop(config, duo, tmp_path).batches  # two domains
    assert bool(list(expectations.of_steps(steps, batches))) == is_warned


@pytest.mark.parametrize(
    ("preset", "is_free", "is_told"),
    [("paper", True, True), ("fast", True, False), ("paper", False, False)],
)
def test_a_faster_preset_is_named_where_one_can_be_chosen(preset, is_free, is_told):
    config = get_preset(preset)
    (line,) = expectations.of_duration(config, 8 * 86400, is_free=is_free)
    assert ("--preset fast" in line) == is_told
    assert f"{config.training.steps} steps of preset {preset} take about 8 days" in line


def test_warnings_come_before_the_first_update(duo, tmp_path, train, told):
    train(tiny_config(steps=100), duo, tmp_path / "run", should_stop=stop_after(1))
    assert any("minutes of training audio: bass 0.1" in notice for notice in told.notices)
    assert any("are 50 updates of a decoder" in notice for notice in told.notices)


def test_time_spent_waiting_for_data_is_measured(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def slow():
        for number in range(4):
            clock[0] += 3
            yield number

    meter = logging.Meter()
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


def test_running_run_can_be_evaluated(duo, tmp_path, train):
    """The model file is whole and current while training goes on."""
    run, seen = tmp_path / "run", []

    def look():
        if (run / "model.safetensors").exists():
            model = Translator.load(run / "model.safetensors")
            figures = evaluate_model(model, duo, ["validation"])
            seen.append([row.figure for row in figures.domains])

    train(tiny_config(steps=5, validate_steps=2), duo, run, should_stop=look)
    assert len(seen) == 3  # after updates 3, 4 and 5
    assert seen[0] == seen[1] != seen[2]


def test_domains_of_all_sizes_are_trained_alike(tmp_path, train, told):
    domains = store_music(tmp_path / "data", bass=60.0, flute=6.0, reed=1.7)
    train(tiny_config(steps=12), domains, tmp_path / "run")
    (record, *_), n = told.records, len(told.records)
    assert n == 3
    assert {f"loss/{domain.name}" for domain in domains} <= record.keys()
