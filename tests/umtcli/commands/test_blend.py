"""`umt blend`: the latents of two pieces, joined or mixed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from ..conftest import HOP, RATE, WIDTH

LATENT_RATE = RATE / HOP  # frames a second


@pytest.fixture(autouse=True)
def _latents(tmp_path) -> None:
    np.save("a.npy", np.zeros((100, WIDTH), np.float32))
    np.save("b.npy", np.ones((90, WIDTH), np.float32))


def test_seconds_cross_fades_at_the_models_latent_rate(umt):
    ran = umt("blend", "a.npy", "b.npy", "--seconds", 1, "-o", "c.npy")
    assert ran.code == 0
    joined = np.load("c.npy")
    assert joined.shape == (190 - round(LATENT_RATE), WIDTH)
    assert np.all(np.diff(joined[:, 0]) >= 0)
    assert "model" in ran.stderr


def test_mix_weights_the_second_input_and_needs_no_model(umt, monkeypatch):
    monkeypatch.setenv("UMT_MODEL", "there is none")
    ran = umt("blend", "a.npy", "b.npy", "--mix", 0.25, stdout_kind="data")
    assert ran.code == 0
    np.testing.assert_allclose(np.load(io.BytesIO(ran.stdout)), np.full((90, WIDTH), 0.25))


def test_either_input_may_be_stdin(umt):
    data = Path("a.npy").read_bytes()
    ran = umt("blend", "-", "b.npy", "--mix", 0, stdin=data, stdout_kind="data")
    assert np.load(io.BytesIO(ran.stdout)).max() == 0
    assert umt("blend", "-", "-", "--mix", 0, stdin=data, stdout_kind="data").code == 2
    ran = umt("blend", "-", "missing.npy", "--mix", 0, stdin=data, stdout_kind="data")
    assert ran.errors[0].startswith("umt: error: stdin and missing.npy: ")


def test_result_on_a_terminal_is_named_after_both_inputs(umt):
    ran = umt("blend", "a.npy", "b.npy", "--mix", 0.5, "--json")
    assert json.loads(ran.stdout)["results"][0]["shape"] == [90, WIDTH]
    assert Path("a+b.npy").is_file()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--mix", 0.5, "--seconds", 1),
        ("--mix", 1.5),
        ("--seconds", -1),
        ("--seconds", 60),
        ("--seconds", "nan"),
        ("--mix", "nan"),
    ],
)
def test_impossible_blend_is_wrong_usage(umt, options):
    ran = umt("blend", "a.npy", "b.npy", *options, "-o", "c.npy")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert not Path("c.npy").exists()


def test_latents_of_different_widths_are_refused(umt):
    np.save("b.npy", np.ones((90, 5), np.float32))
    ran = umt("blend", "a.npy", "b.npy", "--mix", 0.5)
    assert (ran.code, len(ran.errors)) == (1, 1)


def test_seconds_need_the_model_that_made_the_latents(umt, wavenet_model):
    ran = umt("blend", "a.npy", "b.npy", "--seconds", 1, "-m", wavenet_model)
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "-m" in ran.errors[0]


def test_existing_result_is_kept(umt):
    Path("c.npy").write_bytes(b"precious")
    assert umt("blend", "a.npy", "b.npy", "--mix", 0.5, "-o", "c.npy").code == 1
    assert Path("c.npy").read_bytes() == b"precious"
