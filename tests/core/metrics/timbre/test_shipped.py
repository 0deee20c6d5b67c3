"""The classifier that the package ships, on what the starter makes of the example."""

from __future__ import annotations

import pytest

from core.audio.reader import read_audio
from core.evaluation.classifier_cache import shipped_classifier
from core.metrics.degradations import code_lossily, limit_band
from core.translator import Translator
from tests.pages import ROOT

TARGETS = ("guitar", "piano", "strings", "winds")
SECONDS = 12
DEFAULT_COMPRESSION = 0.6  # libsndfile's quality of Ogg Vorbis where none is asked for


@pytest.fixture(scope="module")
def translations():
    model = Translator.load("starter", domains=TARGETS)
    song = read_audio(ROOT / "examples" / "song.wav", model.sample_rate)
    latents = model.encode(song[: SECONDS * model.sample_rate], model.sample_rate)
    return {target: model.decode(latents, to=target) for target in TARGETS}, model.sample_rate


def probabilities_of(waveform, sample_rate):
    classifier = shipped_classifier()
    return classifier.probabilities_of(classifier.embed(waveform, sample_rate))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("as_mp3", [False, True], ids=["Ogg, 52 kbit/s", "MP3, 56 kbit/s"])
def test_a_file_with_losses_gets_the_verdict_of_one_without(translations, target, as_mp3):
    waveforms, sample_rate = translations
    whole = probabilities_of(waveforms[target], sample_rate)
    coded = code_lossily(waveforms[target], sample_rate, 0.9, as_mp3=as_mp3)
    lossy = probabilities_of(coded, sample_rate)
    assert max(lossy, key=lossy.get) == max(whole, key=whole.get)


@pytest.mark.parametrize("target", TARGETS)
def test_ogg_as_it_is_written_by_default_changes_no_probability_much(translations, target):
    waveforms, sample_rate = translations
    whole = probabilities_of(waveforms[target], sample_rate)
    coded = code_lossily(waveforms[target], sample_rate, DEFAULT_COMPRESSION, as_mp3=False)
    assert probabilities_of(coded, sample_rate)[target] == pytest.approx(whole[target], abs=0.1)


@pytest.mark.parametrize("target", TARGETS)
def test_a_narrow_band_does_not_change_the_verdict(translations, target):
    waveforms, sample_rate = translations
    whole = probabilities_of(waveforms[target], sample_rate)
    narrow = probabilities_of(limit_band(waveforms[target], sample_rate, 5_000.0), sample_rate)
    assert max(narrow, key=narrow.get) == max(whole, key=whole.get)
