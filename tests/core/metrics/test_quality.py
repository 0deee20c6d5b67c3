from __future__ import annotations

import numpy as np
import pytest
import torch

from core.errors import AudioError
from core.metrics import quality
from tests.sounds import RATE, melody, noise, organ, piano, smear

NAMES = [
    "clipped_fraction",
    "silence_fraction",
    "spectral_flatness",
    "spectral_contrast_db",
    "harmonic_share",
]


@pytest.fixture(scope="module")
def clean():
    return piano(melody(0, 6.0))


@pytest.fixture(scope="module")
def figures(clean):
    return quality.evaluate(clean, RATE)


def test_figures_come_in_the_documented_order(figures):
    assert list(figures) == NAMES


@pytest.mark.parametrize("instrument", [piano, organ])
@pytest.mark.parametrize("seed", [0, 1])
def test_smeared_sound_loses_its_partials_and_contrast(instrument, seed):
    sound = instrument(melody(seed, 6.0))
    sharp, smeared = (quality.evaluate(x, RATE) for x in (sound, smear(sound, seed)))
    assert smeared["harmonic_share"] < sharp["harmonic_share"] - 0.15
    assert smeared["spectral_contrast_db"] < sharp["spectral_contrast_db"] - 5


def test_noise_is_flat_and_has_no_partials(figures):
    hiss = quality.evaluate(noise(5), RATE)
    assert hiss["spectral_flatness"] == pytest.approx(0.561, abs=0.01)  # exp(-Euler's constant)
    assert hiss["harmonic_share"] == pytest.approx(0.5, abs=0.02)
    assert hiss["spectral_contrast_db"] < 15 < figures["spectral_contrast_db"]


def strokes(seed: int) -> np.ndarray:
    """Noise that dies away, every half second."""
    hiss = noise(seed)
    seconds = np.arange(len(hiss)) / RATE
    return (hiss * np.exp(-(seconds % 0.5) / 0.05)).astype(np.float32)


def test_drums_and_noise_are_unpitched_and_music_and_silence_are_not(figures):
    assert quality.is_unpitched(quality.evaluate(strokes(3), RATE))
    assert quality.is_unpitched(quality.evaluate(noise(5), RATE))
    assert not quality.is_unpitched(figures)
    assert not quality.is_unpitched(quality.evaluate(np.zeros(RATE, np.float32), RATE))


def test_a_steady_tone_is_all_partial():
    tone = np.sin(2 * np.pi * 440 / RATE * np.arange(3 * RATE)).astype(np.float32)
    assert quality.evaluate(0.5 * tone, RATE)["harmonic_share"] > 0.98


def test_figures_do_not_depend_on_level(clean, figures):
    quiet = quality.evaluate(0.05 * clean, RATE)
    for name in NAMES[2:]:
        assert quiet[name] == pytest.approx(figures[name], rel=0.01)


def test_rates_are_compared_over_the_same_band(figures):
    double = quality.evaluate(piano(melody(0, 6.0), 2 * RATE), 2 * RATE)
    assert double["harmonic_share"] == pytest.approx(figures["harmonic_share"], abs=0.02)


@pytest.mark.parametrize(
    ("peak", "share"), [(0.99, 0.0), (1.0, 0.2), (1.5, 0.2), (32767 / 32768, 0.2)]
)
def test_clipping_is_counted_at_full_scale(peak, share):
    waveform = np.full(1_000, 0.5, np.float32)
    waveform[::10], waveform[5::10] = peak, -peak
    assert quality.clipped_fraction(waveform) == pytest.approx(share)


def test_silence_is_counted_below_60_dbfs():
    waveform = np.zeros(RATE, np.float32)
    waveform[: RATE // 4] = 0.0011
    waveform[RATE // 4 : RATE // 2] = 0.0009
    assert quality.silence_fraction(waveform) == pytest.approx(0.75)


def test_silence_has_no_spectral_figures():
    silence = np.zeros(RATE, np.float32)
    figures = quality.evaluate(silence, RATE)
    assert figures["silence_fraction"] == 1
    assert [figures[name] for name in NAMES[2:]] == [None] * 3
    assert quality.out_of_band_share(quality.long_term_spectrum(silence), RATE, 1_000.0) is None


@pytest.mark.parametrize("n_samples", [1, 2, 200, 2_047, 2_048, RATE])
def test_short_clips_give_figures_or_none(n_samples, clean):
    clip = clean[:n_samples] + np.float32(1e-3)
    figures = quality.evaluate(clip, RATE)
    assert all(value is None or np.isfinite(value) for value in figures.values())
    spectrum = quality.long_term_spectrum(clip)
    assert 0 <= quality.out_of_band_share(spectrum, RATE, 500.0) <= 1


def test_out_of_band_share_is_what_lies_above_the_rolloff():
    time = np.arange(4 * RATE) / RATE
    low, high = np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 5_000 * time)
    mixed = (0.3 * low + 0.1 * high).astype(np.float32)
    spectrum = quality.long_term_spectrum(mixed)
    assert spectrum.sum() == pytest.approx(1)
    assert quality.out_of_band_share(spectrum, RATE, 2_000.0) == pytest.approx(0.1, abs=0.005)
    assert quality.rolloff_hz(spectrum, RATE) == pytest.approx(5_000, abs=20)
    assert quality.out_of_band_share(spectrum, RATE, 8_000.0) == 0


def test_long_files_are_measured_by_excerpts(clean, figures):
    long = quality.evaluate(np.tile(clean, 21), RATE)
    for name in NAMES[3:]:
        assert long[name] == pytest.approx(figures[name], rel=0.15)


def test_no_frames_give_no_figures():
    empty = torch.zeros(0, 1025)
    assert quality.harmonic_share(empty) is None
    assert quality.spectral_contrast_db(empty) is None
    assert quality.spectral_flatness(empty) is None


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((2, 100), np.float32), "mix down"),
        (np.zeros(100, np.int16), "int16"),
        (np.full(100, np.nan, np.float32), "NaN"),
    ],
)
def test_bad_waveforms_are_refused(waveform, reason):
    with pytest.raises(AudioError, match=f"output: .*{reason}"):
        quality.evaluate(waveform, RATE)


def test_a_rate_too_low_to_hear_anything_is_refused(clean):
    with pytest.raises(AudioError, match=r"output: sample_rate=200, .* 4000 Hz"):
        quality.evaluate(clean, 200)
