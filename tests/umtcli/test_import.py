"""`umt import`: a model file of the authors' checkpoints, that every command takes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from core.families.wavenet.mulaw import MuLaw
from core.model_file import find_model, read_header
from core.translator import Translator
from tests.published import write_published

from .conftest import write_song


@pytest.fixture
def checkpoints(tmp_path):
    return write_published(tmp_path / "pretrained")


@pytest.fixture
def imported(umt, tmp_path, checkpoints):
    ran = umt("import", "pretrained", "-o", "authors.safetensors")
    assert (ran.code, ran.stdout) == (0, b"")
    assert "wrote authors.safetensors: Bassoon, Cello, Piano" in ran.stderr
    assert "license of the weights: unknown to umt" in ran.stderr
    return tmp_path / "authors.safetensors"


def test_the_model_is_described_with_its_source_and_an_unknown_license(umt, imported):
    told = json.loads(umt("info", "authors.safetensors", "--json").stdout)
    assert (told["preset"], told["domains"]) == ("paper-code", ["Bassoon", "Cello", "Piano"])
    assert told["level_db"] is None
    assert told["training"]["license"].startswith("unknown to umt")
    assert told["training"]["imported"]["epoch"] == 73
    assert "unknown to umt" in umt("info", "authors.safetensors").stdout.decode()


def test_the_model_is_listed_as_a_run(umt, tmp_path, checkpoints, monkeypatch):
    assert umt("import", "pretrained", "-o", "runs/authors/model.safetensors").code == 0
    models = json.loads(umt("info", "--json").stdout)["models"]
    (listed,) = [model for model in models if model["model"] == "runs/authors"]
    assert listed["domains"] == ["Bassoon", "Cello", "Piano"]
    monkeypatch.delenv("UMT_MODEL", raising=False)
    # It is found like a run that has been trained, though umt has not counted its updates.
    found = find_model(None, ["Cello"], cwd=tmp_path)
    assert (found.name, found.warning) == ("runs/authors", "")


def test_the_model_translates_and_leaves_quiet_input_as_it_is(umt, tmp_path, imported):
    write_song(tmp_path / "song.wav", 0.3)
    samples, rate = soundfile.read(tmp_path / "song.wav")
    soundfile.write(tmp_path / "quiet.wav", samples / 100, rate)
    ran = umt("translate", "quiet.wav", "--to", "Cello", "-m", "authors.safetensors", "-o", "x.wav")
    assert ran.code == 0, ran.stderr
    assert "is quiet" not in ran.stderr
    assert soundfile.info(tmp_path / "x.wav").samplerate == 16000
    assert soundfile.info(tmp_path / "x.wav").duration == pytest.approx(0.3, abs=0.001)


def test_decoding_is_by_the_middle_of_the_authors_codes(imported):
    model = Translator.load(imported)
    exact = model.generation_options({"exact": True})
    decoded = model.decode(np.zeros((2, 5), np.float32), to="Piano", options=exact)
    samples = torch.from_numpy(decoded)
    assert len(samples.unique()) > 20
    truncated, rounded = MuLaw("floor"), MuLaw("round")
    assert torch.equal(truncated.decode(truncated.encode(samples)), samples)
    assert not torch.equal(rounded.decode(rounded.encode(samples)), samples)


def test_an_existing_file_is_kept_unless_forced(umt, tmp_path, checkpoints):
    (tmp_path / "there.safetensors").write_bytes(b"kept")
    ran = umt("import", "pretrained", "-o", "there.safetensors")
    assert ran.code == 1
    assert "there.safetensors exists; add -f" in ran.stderr
    assert (tmp_path / "there.safetensors").read_bytes() == b"kept"
    assert umt("import", "pretrained", "-o", "there.safetensors", "-f", "-q").stderr == ""
    assert read_header(tmp_path / "there.safetensors").domains[0] == "Bassoon"


def test_a_folder_that_is_refused_leaves_no_file(umt, tmp_path):
    write_published(tmp_path / "other", kernel_size=3)
    ran = umt("import", "other", "-o", "x.safetensors")
    assert (ran.code, ran.stdout, len(ran.errors)) == (1, b"", 1)
    assert "kernel_size = 3" in ran.errors[0]
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("args", [("pretrained",), ("-o", "x"), ("pretrained", "-o", "-")])
def test_incomplete_calls_are_wrong_usage(umt, checkpoints, args):
    ran = umt("import", *args)
    assert (ran.code, ran.stdout, len(ran.errors)) == (2, b"", 1)


def test_best_checkpoints_are_taken_on_request(umt, tmp_path):
    write_published(tmp_path / "pretrained", kind="bestmodel")
    assert umt("import", "pretrained", "-o", "x.safetensors").code == 1
    ran = umt("import", "pretrained", "-o", "x.safetensors", "--best", "--json")
    told = json.loads(ran.stdout)
    assert (told["command"], told["output"]) == ("import", "x.safetensors")
    assert told["training"]["imported"]["checkpoints"] == "bestmodel"
