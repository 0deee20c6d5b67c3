"""The WaveNet's recipe: its configurations, its whistle, and the shell script for a GPU."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.config import WaveNetConfig, read_config
from core.presets import get_preset
from tests.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16000
CONFIGS = sorted(
    [*(ROOT / "recipes/wavenet").glob("*.toml"), *(ROOT / "recipes/gpu").glob("*.toml")]
)


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "wavenet"))
    return pytest.importorskip("measure")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_those_of_a_wavenet_with_the_papers_latents(path: Path) -> None:
    config = read_config(path, get_preset("small"))
    assert isinstance(config.model, WaveNetConfig)
    assert (config.model.latent_dim, config.model.hop_length) == (64, 800)


def test_whistle_holds_its_notes_and_glides_between_them(measure: Any) -> None:
    sound = measure.whistle(RATE, 3.0)
    assert sound.dtype == np.float32
    assert len(sound) == 3 * RATE
    for number, note in enumerate(measure.WHISTLE_NOTES[:6]):
        held = sound[round((0.5 * number + 0.1) * RATE) : round(0.5 * (number + 1) * RATE)]
        spectrum = np.abs(np.fft.rfft(held * np.hanning(len(held))))
        found = spectrum.argmax() * RATE / len(held)
        assert 12 * np.log2(found / 440) + 69 == pytest.approx(note, abs=0.5)
    assert np.abs(np.diff(sound)).max() < 0.14 * 2 * np.pi * 700 / RATE  # no jump anywhere


def test_table_tells_how_far_the_way_was_gone(
    measure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"chroma": 0.7, "other music": 0.5, "true": 0.9, "heard": 0.3, "true heard": 0.9}
    whistled = {"chroma": 0.75, "other music": 0.5, "heard": 0.3}
    found = {("a", "b"): [own], ("a", "a"): [own], ("whistle", "b"): [whistled]}
    measure._show(found, ("a", "b"))
    lines = capsys.readouterr().out.splitlines()
    assert "| all domains | others | 0.70 | 0.50 | 0.90 | 50% | 0.30 | 0.90 |" in lines
    assert "| all whistle | others | 0.75 | 0.50 |  | 50% | 0.30 | 0.00 |" in lines


def test_gpu_script_is_a_script() -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    subprocess.run([bash, "-n", str(ROOT / "recipes/gpu/run.sh")], check=True)
