"""Loudness in, peaks out; the same for any cutting into blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile

from core.audio import levels
from core.audio.levels import (
    ArrayRecording,
    guard_peaks,
    level_input,
    matching_gain_db,
    measure_level_db,
)
from core.audio.reader import open_audio
from core.audio.resampling import resample_blocks, resampled_length

from .conftest import cut, join

RATE = 16_000
LONGEST = [1, 100, 9_000]  # samples a block


def tone(seconds: float, level_db: float) -> np.ndarray:
    """A sine of 400 Hz whose RMS is at a level."""
    t = np.arange(round(seconds * RATE)) / RATE
    return (10 ** (level_db / 20) * math.sqrt(2) * np.sin(2 * np.pi * 400 * t)).astype(np.float32)


@pytest.mark.parametrize("level_db", [-3.1, -20, -59])
def test_the_level_of_a_sine_is_its_rms(level_db):
    assert measure_level_db([tone(3, level_db)], RATE) == pytest.approx(level_db, abs=1e-3)


def test_a_full_scale_square_wave_has_0_db():
    assert measure_level_db([np.tile(np.float32([1, -1]), RATE)], RATE) == 0


@pytest.mark.parametrize(
    "blocks", [[], [np.zeros(RATE, np.float32)], [tone(2, -81)]], ids=["empty", "zero", "-81 dB"]
)
def test_silence_has_no_level(blocks):
    assert measure_level_db(blocks, RATE) == -math.inf


@pytest.mark.parametrize("quiet_db", [-200, -65, -45])
def test_silent_and_quiet_stretches_do_not_lower_the_level(quiet_db):
    parts = [tone(4, quiet_db), tone(2, -20), tone(8, quiet_db)]
    assert measure_level_db(parts, RATE) == pytest.approx(-20, abs=1e-2)


def test_stretches_within_10_db_count():
    mean = 10 * math.log10((10**-2 + 10**-2.5) / 2)
    assert measure_level_db([tone(2, -20), tone(2, -25)], RATE) == pytest.approx(mean, abs=1e-2)


@pytest.mark.parametrize("offset", [0.02, -0.5, 1])
def test_a_constant_is_not_sound(offset):
    assert measure_level_db([np.full(3 * RATE, offset, np.float32)], RATE) == -math.inf
    with_offset = tone(3, -40) + np.float32(offset)
    assert measure_level_db([with_offset], RATE) == pytest.approx(-40, abs=0.01)


@pytest.mark.parametrize("is_live", [False, True])
def test_quiet_sound_with_an_offset_is_raised_as_without(tmp_path, pipe, is_live):
    soundfile.write(tmp_path / "x.wav", tone(6, -40) + 0.1, RATE, subtype="FLOAT")
    source = pipe((tmp_path / "x.wav").read_bytes()) if is_live else tmp_path / "x.wav"
    with open_audio(source) as audio:
        levelled = level_input(audio, RATE, -20)
        samples = join(levelled.blocks)
    assert levelled.gain_db == pytest.approx(20, abs=0.05)
    np.testing.assert_allclose(samples, 10 * tone(6, -40), atol=2e-3)


def test_sound_shorter_than_a_gating_block_is_measured():
    assert measure_level_db([tone(0.1, -20)], RATE) == pytest.approx(-20, abs=1e-2)


@pytest.mark.parametrize("longest", LONGEST)
def test_the_level_does_not_depend_on_the_cutting(noise, generator, longest):
    assert measure_level_db(cut(noise, generator, longest), RATE) == measure_level_db([noise], RATE)


@pytest.mark.parametrize(
    ("level_db", "gain_db"),
    [(-10, 0), (-20, 0), (-22.9, 0), (-23.1, 3.1), (-45, 25), (-70, 40), (-math.inf, 0)],
)
def test_only_quiet_sound_is_raised_by_3_to_40_db(level_db, gain_db):
    assert matching_gain_db(level_db, -20) == pytest.approx(gain_db)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050])
def test_a_quiet_file_is_raised_to_the_level_at_the_new_rate(tmp_path, sample_rate):
    soundfile.write(tmp_path / "x.wav", tone(3, -40), RATE, subtype="FLOAT")
    with open_audio(tmp_path / "x.wav") as audio:
        levelled = level_input(audio, sample_rate, -20)
        samples = join(levelled.blocks)
    assert levelled.gain_db == pytest.approx(20, abs=0.05)
    assert measure_level_db([samples], sample_rate) == pytest.approx(-20, abs=0.05)
    assert len(samples) == levelled.n_samples == 3 * sample_rate
    assert samples.dtype == np.float32


def test_an_array_is_levelled_like_the_file_that_holds_it(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(3, -40), RATE, subtype="FLOAT")
    with open_audio(tmp_path / "x.wav") as audio:
        from_file = level_input(audio, 22_050, -20)
        expected = join(from_file.blocks)
    from_array = level_input(ArrayRecording(tone(3, -40), RATE), 22_050, -20)
    np.testing.assert_array_equal(join(from_array.blocks), expected)
    assert from_array.gain_db == from_file.gain_db
    assert from_array.n_samples == from_file.n_samples


def test_a_file_loud_enough_is_not_touched(tmp_path, noise):
    soundfile.write(tmp_path / "x.wav", noise, RATE, subtype="FLOAT")
    with open_audio(tmp_path / "x.wav") as audio:
        levelled = level_input(audio, RATE, -20)
        np.testing.assert_array_equal(join(levelled.blocks), noise)
    assert levelled.gain_db == 0


def as_wav(samples: np.ndarray, path) -> bytes:
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return path.read_bytes()


def test_a_live_stream_is_levelled_on_its_first_5_seconds_of_sound(tmp_path, pipe):
    samples = np.concatenate([np.zeros(3 * RATE, np.float32), tone(5, -40), tone(3, -3)])
    with open_audio(pipe(as_wav(samples, tmp_path / "x.wav"))) as audio:
        levelled = level_input(audio, RATE, -20)
        assert levelled.gain_db == pytest.approx(20, abs=0.05)
        expected = samples * np.float32(10 ** (levelled.gain_db / 20))
        np.testing.assert_array_equal(join(levelled.blocks), expected)
    assert levelled.n_samples == len(samples)


@pytest.mark.parametrize("silence", [0.5, 4])
def test_a_live_stream_that_stays_silent_is_not_awaited_for_ever(
    tmp_path, pipe, monkeypatch, silence
):
    monkeypatch.setattr(levels, "MAX_LIVE_SILENCE_SECONDS", 2)
    samples = np.concatenate([np.zeros(round(silence * RATE), np.float32), tone(5, -40)])
    with open_audio(pipe(as_wav(samples, tmp_path / "x.wav"))) as audio:
        levelled = level_input(audio, RATE, -20)
        assert (levelled.gain_db == 0) == (silence > 2)
        assert len(join(levelled.blocks)) == len(samples)


def guarded(blocks) -> tuple[np.ndarray, list[float]]:
    reports: list[float] = []
    return join(guard_peaks(blocks, RATE, reports.append)), reports


def test_sound_within_full_scale_passes_unchanged(noise):
    loud = noise / np.max(np.abs(noise))
    samples, reports = guarded([loud])
    np.testing.assert_array_equal(samples, loud)
    assert not reports


def test_the_gain_falls_before_a_peak_and_rises_after_it():
    samples = np.full(3 * RATE, 0.5, np.float32)
    samples[RATE + 7] = -4
    lowered, reports = guarded([samples])
    assert np.max(np.abs(lowered)) <= 1
    assert lowered[RATE + 7] == pytest.approx(-1)
    reach = round(0.06 * RATE)
    before, after = lowered[RATE - reach : RATE + 7], lowered[RATE + 8 : RATE + reach]
    assert np.all(np.diff(before) <= 0)
    assert np.all(np.diff(after) >= 0)
    assert np.abs(np.diff(np.concatenate([before, after]))).max() < 0.005  # no step
    for untouched in (slice(None, RATE - reach), slice(RATE + reach, None)):
        np.testing.assert_array_equal(lowered[untouched], samples[untouched])
    assert reports == pytest.approx([20 * math.log10(0.25)])


@pytest.mark.parametrize("scale", [1.0001, 3, 1e6, 1e30])
def test_no_sample_exceeds_full_scale(generator, scale):
    samples = (generator.standard_normal(2 * RATE) * np.linspace(0, scale, 2 * RATE)).astype("f4")
    lowered, reports = guarded([samples])
    assert np.max(np.abs(lowered)) <= 1
    assert len(lowered) == len(samples)
    assert len(reports) == 1


@pytest.mark.parametrize("longest", LONGEST)
def test_guarding_does_not_depend_on_the_cutting(noise, generator, longest):
    loud = noise * np.linspace(1, 20, len(noise), dtype=np.float32)
    whole, reports = guarded([loud])
    pieces, reports_of_pieces = guarded(cut(loud, generator, longest))
    np.testing.assert_array_equal(pieces, whole)
    assert reports_of_pieces == reports != []


@pytest.mark.parametrize("n_samples", [0, 1, 4_000, 4_001])
def test_guarding_keeps_short_sounds(n_samples):
    samples, reports = guarded([np.full(n_samples, 2, np.float32)])
    np.testing.assert_array_equal(samples, np.ones(n_samples))
    assert len(reports) == (n_samples > 0)


@pytest.mark.parametrize("longest", LONGEST)
@pytest.mark.parametrize(
    ("source", "target"), [(44_100, 16_000), (16_000, 44_100), (1_000, 16_000), (16_000, 16_000)]
)
def test_resampling_does_not_depend_on_the_cutting(noise, generator, longest, source, target):
    noise = noise[:9_000]
    whole = join(resample_blocks([noise], source, target))
    pieces = list(resample_blocks(cut(noise, generator, longest), source, target))
    np.testing.assert_array_equal(join(pieces), whole)
    assert all(len(piece) for piece in pieces)


def test_the_resampled_length_is_known_beforehand(generator):
    for _ in range(300):
        source, target = (
            int(rate) for rate in generator.choice([12_000, 44_100, 48_000, 7_919], 2)
        )
        n_samples = int(generator.integers(0, 3_000))
        blocks = resample_blocks([np.ones(n_samples, np.float32)], source, target)
        assert sum(map(len, blocks)) == resampled_length(n_samples, source, target)
    assert resampled_length(1, 48_000, 1_000) == 1
    assert resampled_length(0, 48_000, 1_000) == 0
    assert resampled_length(3_280, 24_000, 22_050) == 3_014  # exactly a half, which soxr drops


def test_resampling_keeps_a_tone(generator):
    t = np.arange(44_100) / 44_100
    resampled = join(resample_blocks([np.sin(2 * np.pi * 440 * t).astype("f4")], 44_100, RATE))
    expected = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(resampled[500:-500], expected[500:-500], atol=1e-3)
