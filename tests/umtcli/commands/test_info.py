"""`umt info`: a model, or what is installed and found here."""

from __future__ import annotations

import json
import re

import core
from core.model_file import read_header


def test_model_is_described_with_its_training_and_lineage(umt, tmp_path, spectral_model):
    from core.translator import Translator

    translator = Translator.load(spectral_model)
    translator.training_record = {"steps": 1234, "parent": {"id": "abc", "name": "starter"}}
    run = tmp_path / "runs/mine"
    run.mkdir(parents=True)
    translator.save(run / "model.safetensors")
    told = json.loads(umt("info", "runs/mine", "--json").stdout)
    header = read_header(run / "model.safetensors")
    assert (told["command"], told["version"]) == ("info", 1)
    assert told["domains"] == ["organ", "piano"]
    assert (told["preset"], told["family"], told["id"]) == ("fast", "spectral", header.id)
    assert told["parameters"] == header.n_parameters
    assert told["training"]["steps"] == 1234
    text = umt("info", "runs/mine").stdout.decode()
    for fact in ("organ, piano", "1,234", "training.parent.name", "starter"):
        assert fact in text


def test_installation_is_described(umt, tmp_path, spectral_model):
    run = tmp_path / "runs/mine"
    run.mkdir(parents=True)
    (run / "model.safetensors").write_bytes(spectral_model.read_bytes())
    (tmp_path / "runs/bad").mkdir()
    (tmp_path / "runs/bad/model.safetensors").write_bytes(b"no model")
    told = json.loads(umt("info", "--json").stdout)
    assert told["versions"]["umt"] == core.__version__
    assert {"torch", "torchaudio", "python"} <= set(told["versions"])
    assert told["devices"][-1] == "cpu"
    assert {"wav", "flac", "mp3"} <= set(told["readable_formats"])
    models = {model["model"]: model for model in told["models"]}
    assert models["runs/mine"]["domains"] == ["organ", "piano"]
    assert "error" in models["runs/bad"]
    assert "runs/mine" in umt("info").stdout.decode()


def test_unknown_and_damaged_models_are_one_line(umt, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 100)
    assert umt("info", "nowhere").code == 2
    ran = umt("info", "bad.safetensors")
    assert (ran.code, ran.stdout, len(ran.errors)) == (1, b"", 1)


def test_ranges_are_shown_as_keys(umt, spectral_model):
    from core.key_range import KeyRange
    from core.translator import Translator

    model = Translator.load(spectral_model)
    model.ranges = {"piano": KeyRange(21, 108)}
    model.save("m.safetensors")
    assert re.search("range of piano +A0 to C8", umt("info", "m.safetensors").stdout.decode())
    told = json.loads(umt("info", "m.safetensors", "--json").stdout)
    assert told["ranges"] == {"piano": {"lowest": 21, "highest": 108}}
