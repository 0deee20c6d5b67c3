"""`umt export`: a file for a host, and what cannot be exported."""

from __future__ import annotations

import importlib.util
import json
import warnings

import pytest

HAS_NEUTONE = importlib.util.find_spec("neutone_sdk") is not None


def test_file_for_nn_has_the_targets_and_reports_the_delay(umt, tmp_path, spectral_model):
    import torch

    ran = umt("export", spectral_model, "--to", "piano", "--to", "organ", "--format", "nn~")
    assert ran.code == 2
    args = ["--format", "nn~", "-o", "live/both.ts", "--json"]
    ran = umt("export", spectral_model, "--to", "piano,organ", *args)
    assert (ran.code, ran.errors) == (0, [])
    told = json.loads(ran.stdout)
    assert (told["command"], told["targets"]) == ("export", ["piano", "organ"])
    assert (told["ratio"], told["sample_rate"]) == (1024, 44100)
    assert f"{told['delay_samples']} samples" in ran.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.load(str(tmp_path / "live/both.ts"))
    assert model.live.targets == ["piano", "organ"]
    assert model.live.delay == told["delay_samples"]
    ran = umt("export", spectral_model, "--to", "all", *args)
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "add -f" in ran.errors[0]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--to", "piano", "--format", "vst", "-o", "x.ts"], "expected nn~ or neutone"),
        (["--to", "piano", "--format", "nn~", "-o", "x.wav"], "end in .ts"),
        (["--to", "piano", "--format", "neutone", "-o", "x.ts"], "end in .nm"),
        (["--to", "piano", "--format", "nn~", "-o", "-"], "stdout"),
        (["--to", "tuba", "--format", "nn~", "-o", "x.ts"], "organ, piano"),
        (["--to", "piano:0.5,organ:0.5", "--format", "nn~", "-o", "x.ts"], "set in the host"),
    ],
)
def test_wrong_usage_is_one_line(umt, tmp_path, spectral_model, args, reason):
    ran = umt("export", spectral_model, *args)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert reason in ran.errors[0]
    assert not list(tmp_path.glob("x.*"))


def test_wavenets_are_refused_in_one_line(umt, wavenet_model):
    args = ["--to", "piano", "--format", "nn~", "-o", "x.ts"]
    ran = umt("export", wavenet_model, *args)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "wavenet models" in ran.errors[0]


@pytest.mark.skipif(HAS_NEUTONE, reason="the SDK is installed")
def test_the_sdk_that_lacks_is_named(umt, spectral_model):
    ran = umt("export", spectral_model, "--to", "piano", "--format", "neutone", "-o", "x.nm")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "[neutone]" in ran.errors[0]
