"""`umt prep` once more: only what is new or changed is touched."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import mido
import pytest

from core.data.domain import load_domain
from core.data.midi import KEY
from core.data.score import read_notes
from core.errors import DataError

from .conftest import RATE, no_reading, prep, splits, stored, tree, write_tone


def test_second_run_reads_and_writes_nothing(bach, monkeypatch):
    directory, data = bach

    def states():  # without the times of access, which the file system keeps as it likes
        return {
            path: (state.st_ino, state.st_size, state.st_mtime_ns)
            for path in data.rglob("*")
            for state in [path.stat()]
        }

    before = states()
    with no_reading(monkeypatch):
        log = prep(directory, data, split=(0.1, 0.1, 0.8))
    assert states() == before
    assert log.domains[0].n_converted == 0
    assert log.notices == []


def test_new_date_alone_is_noted_and_nothing_converted(bach, monkeypatch):
    directory, data = bach
    before = load_domain(data / "bach")
    os.utime(directory / "3.wav", ns=(1, 1))
    log = prep(directory, data)
    after = load_domain(data / "bach")
    assert log.domains[0].n_converted == 0
    assert [replace(track, source_mtime_ns=0) for track in after.tracks] == [
        replace(track, source_mtime_ns=0) for track in before.tracks
    ]
    with no_reading(monkeypatch):
        prep(directory, data)


def test_changed_content_is_converted_again_and_keeps_its_split(bach):
    directory, data = bach
    before = load_domain(data / "bach")
    held_out = next(source for source, split in splits(before).items() if split == {"test"})
    write_tone(directory / held_out, seconds=3.0, hz=900)
    log = prep(directory, data)
    after = load_domain(data / "bach")
    assert log.domains[0].n_converted == 1
    assert splits(after) == splits(before)
    assert stored(after, held_out).size == 3 * RATE
    assert len(tree(data / "bach")) == 7  # the old samples are gone


def test_deleted_recording_is_dropped_with_a_line(bach):
    directory, data = bach
    before = splits(load_domain(data / "bach"))
    (directory / "3.wav").unlink()
    log = prep(directory, data)
    assert log.notices == ["bach: 3.wav is gone; dropped from the domain"]
    assert log.domains[0].n_dropped == 1
    assert splits(load_domain(data / "bach")) == {
        source: split for source, split in before.items() if source != "3.wav"
    }
    assert len(tree(data / "bach")) == 6


def test_renamed_recordings_keep_their_split(bach):
    directory, data = bach
    before = splits(load_domain(data / "bach"))
    (directory / "sub").mkdir()
    for source in before:
        (directory / source).rename(directory / "sub" / f"new {source}")
    log = prep(directory, data)
    assert log.domains[0].n_converted == log.domains[0].n_dropped == 0
    assert splits(load_domain(data / "bach")) == {
        f"sub/new {source}": split for source, split in before.items()
    }


def test_swapped_recordings_take_their_splits_along(bach):
    directory, data = bach
    before = splits(load_domain(data / "bach"))
    train = next(source for source, split in before.items() if split == {"train"})
    test = next(source for source, split in before.items() if split == {"test"})
    (directory / train).rename(directory / "x")
    (directory / test).rename(directory / train)
    (directory / "x").rename(directory / test)
    prep(directory, data)
    assert splits(load_domain(data / "bach")) == {**before, train: {"test"}, test: {"train"}}


def test_copy_does_not_take_the_place_of_its_original(bach):
    directory, data = bach
    before = load_domain(data / "bach")
    shutil.copy(directory / "3.wav", directory / "0 copy.wav")
    os.utime(directory / "3.wav", ns=(1, 1))
    log = prep(directory, data)
    assert log.notices == ["bach: 0 copy.wav is left out: it has the same content as 3.wav"]
    assert splits(load_domain(data / "bach")) == splits(before)


def test_recording_that_became_unreadable_keeps_its_earlier_conversion(bach):
    directory, data = bach
    before = load_domain(data / "bach")
    (directory / "3.wav").write_text("damaged")
    log = prep(directory, data)
    assert [source for source, _ in log.failures] == [str(directory / "3.wav")]
    assert load_domain(data / "bach") == before


def test_recording_that_became_silent_is_dropped(bach):
    directory, data = bach
    write_tone(directory / "3.wav", peak=0.0)
    log = prep(directory, data)
    assert log.notices == ["bach: 3.wav is skipped: there is no sound in it"]
    assert "3.wav" not in splits(load_domain(data / "bach"))


def test_directory_emptied_later_leaves_the_domain_as_it_was(bach):
    directory, data = bach
    before = load_domain(data / "bach")
    shutil.rmtree(directory)
    directory.mkdir()
    assert prep(directory, data).failures
    assert load_domain(data / "bach") == before


def test_unrelated_directory_of_the_same_name_does_not_replace_a_domain(bach, tmp_path):
    directory, data = bach
    before = load_domain(data / "bach")
    write_tone(tmp_path / "other" / "bach" / "z.wav", hz=900)
    log = prep(tmp_path / "other" / "bach", data)
    ((_, reason),) = log.failures
    assert f"was made from {directory}" in reason
    assert "--name" in reason
    assert load_domain(data / "bach") == before


def test_directory_that_moved_is_not_read_again(bach, tmp_path, monkeypatch):
    directory, data = bach
    directory.rename(tmp_path / "elsewhere")
    with no_reading(monkeypatch):
        prep(tmp_path / "elsewhere", data, name="bach")
    assert load_domain(data / "bach").prepared_from == str(tmp_path / "elsewhere")


def test_another_rate_is_refused_and_says_what_to_do(bach):
    directory, data = bach
    before = tree(data)
    ((place, reason),) = prep(directory, data, sample_rate=16000).failures
    assert place == str(directory)
    assert "--rate 8000, another --out, or delete" in reason
    assert tree(data) == before


def write_score(path, key=58):  # that of 3.wav
    file = mido.MidiFile(ticks_per_beat=500)
    on = mido.Message("note_on", note=key)
    off = mido.Message("note_off", note=key, time=2000)  # 2 s
    file.tracks.append(mido.MidiTrack([on, off]))
    file.save(path)


def keys_of(data):
    """Return the key of each recording that has a score."""
    domain = load_domain(data / "bach")
    return {
        track.source: read_notes(domain.directory / track.notes)[0, KEY]
        for track in domain.tracks
        if track.notes
    }


def test_a_midi_file_beside_a_recording_becomes_its_score(bach, monkeypatch):
    directory, data = bach
    assert keys_of(data) == {}
    write_score(directory / "3.mid")
    write_score(directory / "of nothing.mid")
    with no_reading(monkeypatch):  # the recordings are as they were
        log = prep(directory, data)
    assert log.notices == ["bach: 1 of 6 recordings have a score"]
    assert keys_of(data) == {"3.wav": 58}
    assert prep(directory, data).notices == []


def test_changed_and_removed_scores_are_noticed_and_old_notes_go(bach):
    directory, data = bach
    write_score(directory / "3.mid")
    prep(directory, data)
    write_score(directory / "3.mid", key=70)
    prep(directory, data)
    assert keys_of(data) == {"3.wav": 70}
    assert len(list((data / "bach").glob("*.notes.npy"))) == 1
    (directory / "3.mid").unlink()
    prep(directory, data)
    assert keys_of(data) == {}
    assert not list((data / "bach").glob("*.notes.npy"))


def test_lost_notes_are_an_error_that_prep_mends(bach):
    directory, data = bach
    write_score(directory / "3.mid")
    prep(directory, data)
    (notes,) = (data / "bach").glob("*.notes.npy")
    notes.unlink()
    with pytest.raises(DataError, match=r"notes\.npy is missing; run the same `umt prep` again"):
        load_domain(data / "bach")
    prep(directory, data)
    assert keys_of(data) == {"3.wav": 58}


def test_a_broken_score_is_one_line_and_its_recording_stays(bach):
    directory, data = bach
    write_score(directory / "3.mid")
    prep(directory, data)
    (directory / "3.mid").write_bytes(b"MThd and no more")
    log = prep(directory, data)
    (warning,) = [line for line in log.warnings if "score" in line]
    assert warning.startswith("bach: the score of 3.wav is no MIDI file that can be read")
    assert log.failures == []
    assert keys_of(data) == {}
    assert len(load_domain(data / "bach").tracks) == 6
