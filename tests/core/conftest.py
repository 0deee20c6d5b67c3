"""A model of each family with two domains, and what it is given."""

from __future__ import annotations

import numpy as np
import pytest

from core.audio.loudness import LoudnessMeter

DOMAINS = ("piano", "organ")


@pytest.fixture
def translator(any_family):
    """A model of each family; WaveNet's hop is shortened, sampling takes a millisecond a step."""
    from core.translator import Translator

    if any_family.model.family == "wavenet":
        any_family = any_family.updated("model", hop_length=40)
    return Translator.create(any_family, DOMAINS).eval()


@pytest.fixture
def spectral(tiny_spectral):
    from core.translator import Translator

    return Translator.create(tiny_spectral, DOMAINS).eval()


@pytest.fixture
def wavenet(tiny):
    from core.translator import Translator

    return Translator.create(tiny.updated("model", hop_length=40), DOMAINS).eval()


def noise(n_samples, *, level=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return (level * rng.uniform(-1, 1, n_samples)).astype(np.float32)


def loudness_db(waveform, rate):
    meter = LoudnessMeter()
    meter.push(np.atleast_2d(waveform).T, rate)
    return meter.loudness_db()
