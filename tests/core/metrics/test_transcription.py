"""Notes from the shipped network's output; the figures themselves are mir_eval's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from core.metrics import transcription
from core.metrics.transcription import Notes, find_notes, pitch_correlation
from tests.sounds import RATE, melody, organ, piano

FOLDER = Path(transcription.__file__).parent / "basic_pitch"
needs_extra = pytest.mark.skipif(
    not transcription.is_available(), reason="the extra [transcription] is not installed"
)


def test_the_network_is_the_published_one_and_its_licence_is_with_it():
    digest = hashlib.sha256((FOLDER / "nmp.onnx").read_bytes()).hexdigest()
    assert digest == "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    assert "Spotify" in (FOLDER / "NOTICE").read_text()


def figures_of(source, output):
    return transcription.compare(transcription.transcribe(source), transcription.transcribe(output))


def posteriors(n_frames: int = 100) -> np.ndarray:
    return np.zeros((n_frames, 88), np.float32)


def test_a_key_that_is_struck_and_sounds_is_a_note():
    sounding, struck = posteriors(), posteriors()
    sounding[10:40, 48], struck[10, 48] = 0.9, 0.8
    notes = find_notes(sounding, struck)
    assert notes.hertz.tolist() == [440.0]
    assert notes.intervals[0] * transcription.MODEL_RATE / transcription.HOP == pytest.approx(
        [10, 40]
    )


def test_a_key_struck_again_is_two_notes_and_a_short_one_is_none():
    sounding, struck = posteriors(), posteriors()
    sounding[10:60, 48] = 0.9
    struck[[10, 30], 48] = 0.8
    struck[[80], 50], sounding[80:85, 50] = 0.9, 0.9
    assert len(find_notes(sounding, struck).hertz) == 2


def test_a_gap_shorter_than_a_note_does_not_end_it():
    sounding, struck = posteriors(), posteriors()
    sounding[10:60, 48], struck[10, 48] = 0.9, 0.8
    sounding[30:35, 48] = 0
    assert np.ptp(find_notes(sounding, struck).intervals) * 22050 / 256 == pytest.approx(50)


def test_nothing_that_sounds_is_nothing_to_keep():
    quiet, loud = posteriors(), posteriors()
    loud[:, 3] = 0.9
    assert pitch_correlation(quiet, loud) is None
    assert pitch_correlation(loud, quiet) == 0
    assert pitch_correlation(loud, loud) == pytest.approx(1)


def test_a_shorter_file_is_followed_by_silence():
    sounding = posteriors()
    sounding[:, 3] = np.linspace(0.3, 1, 100)
    assert 0.4 < pitch_correlation(sounding, sounding[:50]) < 0.9


@needs_extra
def test_the_right_notes_on_another_instrument_beat_the_wrong_ones():
    notes = melody(0, 8)
    source, same, other = piano(notes), organ(notes), organ(melody(1, 8))
    kept, lost = (figures_of(source, own) for own in (same, other))
    assert kept["pitch_correlation"] > lost["pitch_correlation"] + 0.3
    assert kept["note_f1_150ms"] > lost["note_f1_150ms"] + 0.2
    assert figures_of(source, source)["note_f1_50ms"] == 1


@needs_extra
def test_silence_and_short_clips_have_figures_or_none():
    silence = np.zeros(RATE, np.float32)
    assert set(figures_of(silence, silence).values()) == {None}
    assert figures_of(silence[:1], silence[:1])["note_f1_50ms"] is None


@needs_extra
def test_an_output_without_notes_has_kept_none():
    notes = Notes(np.array([[0.0, 1.0]]), np.array([440.0]))
    empty = Notes(np.zeros((0, 2)), np.zeros(0))
    assert transcription.note_f1(notes, empty, 0.05) == 0
    assert transcription.note_f1(empty, notes, 0.05) is None


def test_notes_are_cut_and_rotated_with_what_sounds():
    sounding = posteriors(4 * 86)
    sounding[:86, 3], sounding[86:, 5] = 0.9, 0.5
    notes = Notes(np.array([[0.1, 0.9], [1.2, 3.5]]), np.array([220.0, 440.0]))
    whole = transcription.Transcription(sounding, notes)
    second = whole.part(1, 2)
    assert second.notes.hertz.tolist() == [440.0]
    assert not second.sounding[2:, 3].any()
    turned = whole.rotated(0.5)
    assert turned.notes.hertz.tolist() == [220.0, 440.0]
    assert turned.notes.intervals[0] == pytest.approx([2.1, 2.9], abs=0.01)
    assert turned.notes.intervals[1] == pytest.approx([3.2, 5.5], abs=0.01)
    assert turned.sounding[: 2 * 86, 5].all()
    assert turned.sounding[2 * 86 : 3 * 86, 3].all()


@needs_extra
def test_chance_is_below_what_the_right_notes_score():
    notes = melody(0, 12)
    source, same = (transcription.transcribe(play(notes)) for play in (piano, organ))
    scores, chances = transcription.compare(source, same), transcription.chance(source, same)
    assert list(chances) == list(scores)
    assert all(scores[name] > chances[name] + 0.1 for name in scores)
    assert transcription.chance(source, transcription.transcribe(piano(notes)[: 7 * RATE])) == {}
