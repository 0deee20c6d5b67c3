"""Notes with other envelopes: what may change, and what must not."""

from __future__ import annotations

import numpy as np
import pytest

from core.data.envelope_augmentation import reshape_notes

RATE = 22050
SEEDS = range(40)


def notes(decay_per_second: float, *, seconds: float = 2.0, hz: float = 440.0) -> np.ndarray:
    """Return two notes, from 0.1 s and from 1 s, that decay at a rate in nepers."""
    time = np.arange(round(seconds * RATE)) / RATE
    since = np.where(time < 1, time - 0.1, time - 1)
    envelope = (since > 0) * np.exp(-decay_per_second * np.maximum(since, 0))
    return (0.3 * envelope * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def decay_db_per_second(waveform: np.ndarray) -> float:
    """Return how fast the first note falls between 0.35 and 0.85 s."""
    early, late = (
        np.mean(np.square(waveform[round(start * RATE) : round((start + 0.1) * RATE)]))
        for start in (0.35, 0.75)
    )
    return float(10 * np.log10(early / late) / 0.4)


def reshaped(waveform: np.ndarray) -> list[np.ndarray]:
    return [reshape_notes(waveform, RATE, np.random.default_rng(seed)) for seed in SEEDS]


@pytest.mark.parametrize("n_samples", [1, 100, 1023, 22050])
def test_length_dtype_and_level_are_kept(n_samples):
    waveform = np.random.default_rng(0).standard_normal(n_samples).astype(np.float32) * 0.1
    waveform = waveform.astype(np.float32)
    result = reshape_notes(waveform, RATE, np.random.default_rng(1))
    assert (result.shape, result.dtype) == (waveform.shape, np.float32)
    assert np.mean(result**2) == pytest.approx(np.mean(waveform**2), rel=1e-3)


def test_silence_stays_silent():
    silence = np.zeros(RATE, np.float32)
    assert not reshape_notes(silence, RATE, np.random.default_rng(0)).any()


def test_held_notes_can_die_away_and_dying_notes_can_be_held():
    assert decay_db_per_second(notes(0.0)) == pytest.approx(0, abs=0.5)
    falls = [decay_db_per_second(result) for result in reshaped(notes(0.0))]
    assert max(falls) > 15
    assert min(falls) > -5
    dying = notes(3.0)
    assert decay_db_per_second(dying) == pytest.approx(26, abs=1)
    falls = [decay_db_per_second(result) for result in reshaped(dying)]
    assert min(falls) < 8


def test_pitch_and_beginning_of_notes_stay():
    for result in reshaped(notes(1.0)):
        peak = np.argmax(np.abs(np.fft.rfft(result))) / 2.0
        assert peak == pytest.approx(440, abs=1)
        before = np.mean(result[: round(0.05 * RATE)] ** 2)
        after = np.mean(result[round(0.3 * RATE) : round(0.4 * RATE)] ** 2)
        assert after > 1e3 * before


def test_notes_of_a_chord_have_envelopes_of_their_own():
    """A note that begins later does not restart the one that sounds, an octave away."""
    held, late = notes(0.0, seconds=1.0), notes(0.0, hz=1760.0, seconds=1.0)
    late[: RATE // 2] = 0
    both = [reshape_notes(held + late, RATE, np.random.default_rng(seed)) for seed in SEEDS]
    spectra = [np.abs(np.fft.rfft(x[round(0.55 * RATE) : round(0.65 * RATE)])) for x in both]
    ratios = [s[176] / s[44] for s in spectra]  # bins of 10 Hz
    assert max(ratios) > 3  # where notes die away, the older one is softer
