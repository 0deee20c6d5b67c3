"""Neutone: the SDK's own checks, and buffers and rates as DAWs have them."""

from __future__ import annotations

import json

import pytest
import torch

from core.translator import Translator

pytest.importorskip("neutone_sdk", reason="needs the extra neutone")

from core.export.live import live_translator
from core.export.neutone import Neutone, card_of, write_neutone

DAWS = [(44100, 128), (44100, 1024), (48000, 128), (48000, 480)]


@pytest.fixture(scope="module")
def model(small_model):
    return Translator.create(small_model, ["organ", "piano"]).eval()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    own = tmp_path_factory.mktemp("neutone") / "model.nm"
    write_neutone(model, ["piano", "organ"], own)
    return own


def test_plugin_is_told_what_it_shows(path):
    files = {"metadata.json": ""}
    torch.jit.load(str(path), _extra_files=files)
    told = json.loads(files["metadata.json"])
    assert told["native_sample_rates"] == [44100]
    names = [own["name"] for own in told["neutone_parameters"].values()]
    assert names == ["instrument", "transpose", "input gain", "mix"]
    assert "piano, organ" in told["neutone_parameters"]["p1"]["description"]


@pytest.mark.parametrize(("rate", "buffer"), DAWS)
def test_input_passes_delayed_as_reported_where_mix_is_zero(path, rate, buffer):
    plugin = torch.jit.load(str(path))
    plugin.set_daw_sample_rate_and_buffer_size(rate, buffer)
    delay = plugin.calc_buffering_delay_samples() + plugin.calc_model_delay_samples()
    t = torch.arange((delay // buffer + 20) * buffer) / rate
    sound = (0.3 * torch.sin(2 * torch.pi * 200 * t) * (t > 0.01))[None]
    params = torch.tensor([0.0, 0.5, 0.5, 0.0]).unsqueeze(1).expand(4, buffer).contiguous()
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        made = [plugin.forward(own, params).clone() for own in sound.split(buffer, dim=1)]
    made = torch.cat(made, dim=1)
    error = (made[:, delay:] - sound[:, : made.shape[1] - delay]).abs().max()
    assert error < (1e-6 if rate == 44100 else 0.05)  # the SDK interpolates between rates


def test_a_knob_goes_from_target_to_target(model):
    own = Neutone(live_translator(model, ["piano", "organ"]), card_of(model, ["piano", "organ"]))
    shares = []
    for place in (0.0, 0.02, 0.25, 1.0):
        params = {"instrument": place, "transpose": 0.5, "input gain": 0.5, "mix": 1.0}
        tensors = {name: torch.tensor([value]) for name, value in params.items()}
        own.do_forward_pass(torch.zeros(1, 1024), tensors)
        shares.append(own.model.shares)
    assert shares == [[1, 0], [1, 0], [0.75, 0.25], [0, 1]]
    assert (own.model.semitones, own.model.gain) == (0, 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_sdk_accepts_it_for_its_library(model, tmp_path):
    write_neutone(model, ["piano", "organ"], tmp_path / "model.nm", is_submission=True)
    assert (tmp_path / "model.nm").stat().st_size > 1000
