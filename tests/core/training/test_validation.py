"""Held-out figures beside their baselines."""

from __future__ import annotations

import math

import pytest
import torch

from core.evaluation.model import evaluate_model
from core.families.spectral.losses import multi_resolution_loss
from core.families.wavenet.mulaw import MuLaw
from core.training.validation import Validator
from core.translator import Translator

from .conftest import finished, spectral_config, tiny_config


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
    assert validator.warnings(good) == []
    (line,) = validator.warnings(good | {"validation/reed": low["reed"]})
    assert line == "reed: held-out figure not below that of unigram yet; as it is, expect noise"
    (line,) = validator.warnings({f"validation/{name}": math.inf for name in low})
    assert line.startswith("bass, reed: ")


def test_running_run_can_be_evaluated(duo, tmp_path, train):
    """The model file is whole and current while training goes on."""
    run, seen, before = tmp_path / "run", {}, len(finished)

    def look():
        if (step := len(finished) - before) not in seen and (run / "model.safetensors").exists():
            model = Translator.load(run / "model.safetensors")
            figures = evaluate_model(model, duo, ["validation"])
            seen[step] = [row.figure for row in figures.domains]

    train(tiny_config(steps=4, validate_steps=2), duo, run, should_stop=look)
    assert list(seen) == [2, 3, 4]
    assert seen[2] == seen[3]
