from __future__ import annotations

import numpy as np
import pytest

from core.metrics import content
from core.metrics.spectra import at_analysis_rate
from tests.sounds import RATE, melody, noise, organ, piano

NAMES = ["chroma", "aligned_chroma", "onset"]


@pytest.fixture(scope="module")
def pieces():
    return {seed: (piano(melody(seed, 12.0)), organ(melody(seed, 12.0))) for seed in range(3)}


def scores_of(source, output):
    return content.compare(content.extract(source), content.extract(output))


def values(source, output):
    return {name: score.value for name, score in scores_of(source, output).items()}


def test_identical_audio_scores_one_and_chance_is_below(pieces):
    scores = scores_of(pieces[0][0], pieces[0][0])
    assert list(scores) == NAMES
    for score in scores.values():
        assert score.value == pytest.approx(1)
        assert score.chance < 0.9


def test_another_instrument_keeps_the_content_and_another_piece_does_not(pieces):
    for seed in range(3):
        same = values(*pieces[seed])
        other = values(pieces[seed][0], pieces[(seed + 1) % 3][1])
        assert same["chroma"] > other["chroma"] + 0.2
        assert same["aligned_chroma"] > other["aligned_chroma"] + 0.1
        assert same["onset"] > other["onset"] + 0.3
        assert min(same["chroma"], same["aligned_chroma"]) > 0.85


def test_other_music_scores_about_what_chance_says(pieces):
    scores = scores_of(pieces[0][0], pieces[1][1])
    for score in scores.values():
        assert score.value == pytest.approx(score.chance, abs=0.3)


def test_scores_do_not_depend_on_level_or_rate(pieces):
    source, output = pieces[0]
    quiet = values(source, 0.01 * output)
    double = values(
        *(
            at_analysis_rate(play(melody(0, 12.0), 2 * RATE), 2 * RATE, name="audio")
            for play in (piano, organ)
        )
    )
    for name, value in values(source, output).items():
        assert quiet[name] == pytest.approx(value, abs=1e-4)
        assert double[name] == pytest.approx(value, abs=0.03)


def test_alignment_forgives_a_delay_that_frames_do_not(pieces):
    source, output = pieces[0]
    late = np.concatenate([np.zeros(RATE, np.float32), output])[: len(output)]
    scores = values(source, late)
    assert scores["aligned_chroma"] > 0.85 > scores["chroma"] + 0.1


def test_a_delay_within_the_tolerance_keeps_the_onsets(pieces):
    source = pieces[0][0]
    late = np.concatenate([np.zeros(RATE // 20, np.float32), source])[: len(source)]
    assert values(source, late)["onset"] > 0.98


def test_missing_music_counts_as_nothing(pieces):
    source = pieces[0][0]
    assert values(source, source[: len(source) // 2])["chroma"] == pytest.approx(0.5, abs=0.03)
    assert values(source, source[:10])["chroma"] == pytest.approx(0, abs=0.02)


def test_silence_in_both_files_is_left_out(pieces):
    source, output = (np.pad(waveform, (0, 6 * RATE)) for waveform in pieces[0])
    assert values(source, output)["chroma"] == pytest.approx(values(*pieces[0])["chroma"], abs=0.02)


def test_noise_keeps_no_more_than_chance(pieces):
    for score in scores_of(pieces[0][0], noise(12)).values():
        assert score.value == pytest.approx(score.chance, abs=0.1)


def test_a_stretch_scores_as_it_does_within_the_whole(pieces):
    features = [content.extract(waveform) for waveform in pieces[0]]
    whole = content.compare(*features)["chroma"].value
    parts = [content.compare(*(own.part(start, 4) for own in features)) for start in (0, 4, 8)]
    assert np.mean([part["chroma"].value for part in parts]) == pytest.approx(whole, abs=0.01)
    assert all(part["onset"].value <= 1 for part in parts)


@pytest.mark.parametrize("n_samples", [1, 7, 300, 5_000, RATE])
def test_short_clips_give_figures_or_none(n_samples, pieces):
    scores = scores_of(pieces[0][0][:n_samples], pieces[0][1][:n_samples])
    for score in scores.values():
        assert score.chance is None
        assert score.value is None or -1 <= score.value <= 1


@pytest.mark.parametrize("is_silent", [(True, True), (True, False), (False, True)])
def test_silence_has_defined_scores(is_silent, pieces):
    pair = [
        0 * waveform if silent else waveform
        for waveform, silent in zip(pieces[0], is_silent, strict=True)
    ]
    for score in scores_of(*pair).values():
        assert score.value == (None if is_silent[0] else 0)


def test_a_steady_tone_has_no_onsets_to_keep():
    tone = np.sin(0.3 * np.arange(10 * RATE)).astype(np.float32)
    assert values(tone, tone)["onset"] is None
    assert values(tone, tone)["chroma"] == pytest.approx(1)


def test_a_long_file_in_blocks_scores_as_its_repeated_part(pieces):
    source, output = (np.tile(waveform, 15) for waveform in pieces[0])
    scores = scores_of(source, output)
    assert scores["chroma"].value == pytest.approx(values(*pieces[0])["chroma"], abs=0.02)
