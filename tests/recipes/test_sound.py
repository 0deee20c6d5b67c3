"""The starter's music: what the synthesizers play, where they are installed."""

from __future__ import annotations

import importlib
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.render
ORGAN, PIANO = 19, 0  # General MIDI programs, from 0; an organ's samples are looped


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the recipe, whose modules import one another by bare names."""
    for program in ("fluidsynth", "timidity"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on the PATH")
    for library in ("mido", "scipy"):
        pytest.importorskip(library, reason="pip install -r recipes/starter/requirements.txt")
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "starter"))
    sound: Any = importlib.import_module("sound")
    missing = [str(font.path) for font in sound.FONTS if not font.path.exists()]
    if missing:
        pytest.skip(f"no {', '.join(missing)}")
    yield sound
    sys.modules.pop("sound")


def loudest_hz(waveform: np.ndarray, sample_rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 8 * len(waveform)))
    return float(spectrum.argmax() * sample_rate / (8 * len(waveform)))


@pytest.mark.parametrize("program", [ORGAN, PIANO])
@pytest.mark.parametrize("font", ["fluid", "musescore", "timgm", "gmbank", "freepats"])
def test_a_note_has_its_pitch_and_ends(sound: Any, font: str, program: int) -> None:
    (chosen,) = [own for own in sound.FONTS if own.name == font]
    events = [sound.Event(0.0, 1.0, 69, 90, 0)]
    played = sound.synthesize(events, {0: program}, chosen)
    assert len(played) == round((1.0 + sound.TAIL_SECONDS) * sound.SAMPLE_RATE)
    middle = played[sound.SAMPLE_RATE // 4 : sound.SAMPLE_RATE * 3 // 4]
    octaves = np.log2(loudest_hz(middle, sound.SAMPLE_RATE) / 440)
    assert abs(octaves - round(octaves)) < 20 / 1200
    assert np.abs(played[-100:]).max() < 0.01 * np.abs(middle).max()


def test_the_same_notes_give_the_same_samples_and_a_tuning_others(sound: Any) -> None:
    events = [sound.Event(0.0, 1.0, 69, 90, 0)]
    first, again = (sound.synthesize(events, {0: PIANO}, sound.FONTS[0]) for _ in range(2))
    assert np.array_equal(first, again)
    higher = sound.synthesize(events, {0: PIANO}, sound.FONTS[0], tuning_cents=50)
    ratio = loudest_hz(higher, sound.SAMPLE_RATE) / loudest_hz(first, sound.SAMPLE_RATE)
    assert 1200 * np.log2(ratio) == pytest.approx(50, abs=5)


@pytest.mark.parametrize("font", ["fluid", "musescore", "timgm", "gmbank", "freepats"])
def test_fonts_follow_the_wheel_over_an_octave_and_come_back(sound: Any, font: str) -> None:
    (chosen,) = [own for own in sound.FONTS if own.name == font]
    up = ((0.0, 0.0), (0.2, 1200.0))
    events = [sound.Event(0.0, 1.0, 57, 90, 0, up), sound.Event(1.5, 1.0, 57, 90, 0)]
    played = sound.synthesize(events, {0: ORGAN}, chosen)
    parts = [played[round(at * sound.SAMPLE_RATE) :][: sound.SAMPLE_RATE // 2] for at in (0.4, 1.9)]
    bent, plain = (spectrum(part) for part in parts)
    best = max(range(1000, 1401), key=lambda cents: likeness(plain, bent, cents))
    assert best == pytest.approx(1200, abs=15)


def spectrum(waveform: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 1 << 17)))


def likeness(plain: np.ndarray, bent: np.ndarray, cents: int) -> float:
    """How well a spectrum fits another one, stretched by some cents, below 2 kHz."""
    bins = np.arange(300, 6000)
    stretched = np.round(bins * 2 ** (cents / 1200)).astype(int)
    return float((np.log(plain[bins] + 1e-3) * np.log(bent[stretched] + 1e-3)).sum())
