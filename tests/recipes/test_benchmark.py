"""The benchmark's own figures, and that its sources are in no training."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.arrays import as_waveform
from core.metrics.spectra import ANALYSIS_RATE
from core.metrics.tones import synthesize
from core.translator import Translator
from tests.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTES = [60, 64, 67, 72, 67, 64, 60, 55]
NOTE_SECONDS = 0.4


def recipe_modules(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[list[Any]]:
    """Import modules of the two recipes, which import one another by bare names."""
    before = set(sys.modules)
    for folder in ("starter", "benchmark"):
        monkeypatch.syspath_prepend(str(ROOT / "recipes" / folder))
    yield [importlib.import_module(name) for name in names]
    folders = tuple(str(ROOT / "recipes" / folder) for folder in ("starter", "benchmark"))
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(folders):
            del sys.modules[name]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for (module,) in recipe_modules(monkeypatch, "figures"):
        yield module


@pytest.fixture
def training_and_sources(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    for library in ("mido", "scipy"):
        pytest.importorskip(library, reason="pip install -r recipes/starter/requirements.txt")
    yield from recipe_modules(monkeypatch, "sound", "instruments", "sources")


def plucked(pitches: list[int]) -> np.ndarray:
    notes = [synthesize("plucked", pitch, NOTE_SECONDS, ANALYSIS_RATE) for pitch in pitches]
    return np.concatenate(notes)


def test_onsets_are_found_where_notes_begin(figures: Any) -> None:
    found = figures.onset_seconds(plucked(NOTES))
    expected = NOTE_SECONDS * np.arange(len(NOTES))
    assert len(found) in (len(NOTES) - 1, len(NOTES))  # silence before the first one is not given
    assert max(np.abs(expected - own).min() for own in found) < 0.03


def test_onsets_that_are_missing_late_or_alone_in_silence_are_not_found(figures: Any) -> None:
    pytest.importorskip("mir_eval", reason='pip install "umtcli[transcription]"')
    truth = plucked(NOTES)
    assert figures.onsets_found(truth, truth) == 1
    held = plucked(NOTES[:1])
    half = np.concatenate([truth[: len(truth) // 2], np.zeros(len(truth) // 2, np.float32)])
    late = np.pad(truth, (round(0.15 * ANALYSIS_RATE), 0))
    assert 0.4 <= figures.onsets_found(half, truth) <= 0.6
    assert figures.onsets_found(late, truth) < 0.2
    assert figures.onsets_found(np.zeros_like(truth), truth) == 0
    assert figures.onsets_found(truth, np.zeros_like(held)) is None


@pytest.mark.parametrize("cents", [-45.0, 0.0, 20.0, 50.0])
@pytest.mark.parametrize("instrument", ["struck", "reed", "pipes"])
def test_pitch_is_measured_within_two_cents(figures: Any, instrument: str, cents: float) -> None:
    tone = figures.tones(instrument, [62], cents, 0.8)
    assert figures.pitch_error_cents(tone[2000:10_000], 293.665) == pytest.approx(cents, abs=2)


def test_the_course_of_a_glide_is_its_own_pitch(figures: Any) -> None:
    waveform, hertz = figures.glide(261.63, 2.0, 0.5)
    for second in (0.7, 1.3, 2.2):
        sample = round(second * ANALYSIS_RATE)
        frame = waveform[sample - 800 : sample + 800]
        assert abs(figures.pitch_error_cents(frame, hertz[sample])) <= 3


def test_no_training_uses_what_the_benchmark_holds_back(training_and_sources: list[Any]) -> None:
    sound, instruments, sources = training_and_sources
    (font,) = (font for font in sound.FONTS if font.name == sources.HELD_OUT_FONT)
    assert font.weight == 0
    used = {
        package
        for source in instruments.SOURCES.values()
        for package in (source.packages or {}).values()
    }
    assert used
    for name in sources.HELD_OUT_NOTES:
        assert not [package for package in used if f"-{name}-" in package]
    assert sources.HELD_OUT_FONT not in {source.font for source in instruments.SOURCES.values()}


@pytest.mark.parametrize("n_targets", [1, 2])
def test_live_figures_are_of_what_live_plays(monkeypatch, small_model, n_targets) -> None:
    """A source is encoded once, and each target gets the samples that it gets alone."""
    for measure, live in recipe_modules(monkeypatch, "measure", "live"):
        model = Translator.create(small_model, ("organ", "piano")).eval()
        rate = model.sample_rate
        translations = live.LiveTranslations()
        options = model.generation_options({"is_live": True})
        for source in (plucked(NOTES[:3]), plucked(NOTES[3:5])):
            for target in ("piano", "organ")[:n_targets]:
                made = translations(model, measure.Audio(source, rate, None), target)
                recording = as_waveform(source, rate)
                alone = model.translate_streams([recording], to=target, options=options)
                expected = np.concatenate(list(next(alone).blocks))
                np.testing.assert_array_equal(made.waveform, expected)
                assert made.sample_rate == rate
