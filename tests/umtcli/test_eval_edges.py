"""`umt eval` on odd audio: sensible figures or one clear error, and never NaN in a table."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile

from .conftest import TUNE_RATE, leaves, write_tune


def write(name: str, samples: np.ndarray) -> str:
    soundfile.write(name, samples.astype(np.float32), TUNE_RATE)
    return name


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * TUNE_RATE))


ODD = {
    "silence": lambda: np.zeros(3 * TUNE_RATE),
    "noise": lambda: noise(3),
    "one second": lambda: noise(1),
    "a few samples": lambda: noise(0.001),
    "one sample": lambda: np.array([0.5]),
    "an offset": lambda: np.full(2 * TUNE_RATE, 0.2),
    "full scale": lambda: np.sign(noise(2)),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_audio_has_figures_or_dashes(umt, tmp_path, kind):
    write_tune(tmp_path / "tune.wav", seconds=3)
    write("odd.wav", ODD[kind]())
    shown = umt("eval", "tune.wav", *against("odd.wav"))
    assert shown.code == 0, shown.stderr
    assert b"nan" not in shown.stdout.lower()
    assert b"inf" not in shown.stdout.lower()
    told = umt("eval", "odd.wav", *against("tune.wav"), "--json")
    assert told.code == 0, told.stderr
    for leaf in leaves(json.loads(told.stdout)):
        assert not isinstance(leaf, float) or math.isfinite(leaf)


def against(name: str) -> list[str]:
    return ["--source", name, "--reference", name, "--to", "organ"]


def test_a_file_without_samples_is_one_clear_error(umt, tmp_path):
    write("empty.wav", np.zeros(0))
    ran = umt("eval", "empty.wav")
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert "no samples" in ran.errors[0]


def test_what_is_missing_at_the_end_costs_content(umt, tmp_path):
    write_tune(tmp_path / "tune.wav", seconds=4)
    samples, _ = soundfile.read("tune.wav")
    write("half.wav", samples[: len(samples) // 2])
    ran = umt("eval", "half.wav", "--source", "tune.wav", "--json")
    rows = json.loads(ran.stdout)["results"][0]["metrics"]["chroma"]["rows"]
    assert rows["translation"]["value"] == pytest.approx(0.5, abs=0.06)


def test_a_page_of_silence_can_be_made(umt, tmp_path):
    write("silence.wav", np.zeros(TUNE_RATE))
    assert umt("eval", "silence.wav", "--html", "page.html").code == 0
    assert "NaN" not in (tmp_path / "page.html").read_text()


def test_what_is_missing_at_the_end_is_as_uncertain_as_it_is(umt, tmp_path):
    write_tune(tmp_path / "tune.wav", seconds=15)
    samples, _ = soundfile.read("tune.wav")
    write("short.wav", samples[: 2 * len(samples) // 3])
    ran = umt("eval", "short.wav", "--source", "tune.wav", "--json")
    low, high = json.loads(ran.stdout)["results"][0]["metrics"]["chroma"]["rows"]["translation"][
        "interval"
    ]
    assert high - low > 0.5  # two stretches have all of it, one has nothing
