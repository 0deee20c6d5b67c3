"""The log-spectral distance of an output to the nearest of some true renderings."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation.analysis import Analysis, nearest_db
from tests.sounds import RATE, melody, noise, organ, piano


@pytest.fixture(scope="module")
def clean():
    return piano(melody(0, 6.0))


def distance(output, *references):
    first, *others = (Analysis(waveform, RATE, None) for waveform in (output, *references))
    return nearest_db(first, others)


def test_identical_audio_is_at_no_distance(clean):
    assert distance(clean, clean) == 0
    assert distance(0.1 * clean, clean) == pytest.approx(0, abs=0.02)


def test_the_distance_grows_from_timbre_to_piece_to_noise(clean):
    distances = [
        distance(output, clean)
        for output in (
            piano(melody(0, 6.0), brightness=1.3),
            organ(melody(0, 6.0)),
            organ(melody(1, 6.0)),
            noise(6),
        )
    ]
    assert distances == sorted(distances)


def test_log_spectral_distance_equals_the_published_evaluation():
    """Figures of the same formula on librosa 0.11 with reflected ends, computed once."""
    time = np.arange(RATE) / RATE
    reference = (np.sin(2 * np.pi * 440 * time) * np.exp(-3 * time)).astype(np.float32)
    output = (np.sin(2 * np.pi * 660 * time) * 0.5).astype(np.float32)
    assert distance(output, reference) == pytest.approx(10.833693, abs=2e-3)
    assert distance(output[:9_000], reference) == pytest.approx(12.050122, abs=2e-3)


def test_the_nearest_of_several_renderings_counts(clean):
    others = [0 * clean, organ(melody(0, 6.0)), piano(melody(0, 6.0), brightness=1.1)]
    assert distance(clean, *others) == distance(clean, others[2])


def test_the_distance_to_silence_is_undefined(clean):
    assert distance(clean, 0 * clean) is None


def test_silence_is_far_from_music(clean):
    assert distance(0 * clean, clean) > 50


@pytest.mark.parametrize("n_samples", [1, 2, 200, 2_047, 2_048, RATE])
def test_short_clips_have_a_distance(n_samples, clean):
    clip = clean[:n_samples] + np.float32(1e-3)
    assert np.isfinite(distance(clip, clip[::-1].copy()))
