"""Notes from MIDI files and from MusicNet's labels."""

from __future__ import annotations

import io

import mido
import numpy as np
import pytest

from core.data import midi as module
from core.data.midi import parse_labels, parse_midi


def midi(*messages, ticks_per_beat=500, kind=1):
    """Return a MIDI file of (seconds, message name, values), at one tick a millisecond."""
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
    track = mido.MidiTrack()
    file.tracks.append(track)
    now = 0
    for seconds, name, values in messages:
        make = mido.MetaMessage if name == "set_tempo" else mido.Message
        track.append(make(name, time=round(seconds * 1000) - now, **values))
        now = round(seconds * 1000)
    stream = io.BytesIO()
    file.save(file=stream)
    return stream.getvalue()


def on(seconds, key, velocity=127, channel=0):
    return seconds, "note_on", {"note": key, "velocity": velocity, "channel": channel}


def off(seconds, key, channel=0):
    return seconds, "note_off", {"note": key, "channel": channel}


def control(seconds, number, value):
    return seconds, "control_change", {"control": number, "value": value}


def bend(seconds, pitch):
    return seconds, "pitchwheel", {"pitch": pitch}


def rows(*messages):
    return [tuple(round(float(x), 4) for x in row) for row in parse_midi(midi(*messages))]


def test_a_note_has_its_ends_its_key_and_its_velocity():
    assert rows(on(0.5, 60), off(1.25, 60)) == [(0.5, 1.25, 60, 1, 1)]


def test_notes_follow_changes_of_tempo():
    slower = (1.0, "set_tempo", {"tempo": 1_000_000})  # half as fast as before
    assert rows(on(0.5, 60), slower, off(1.5, 60)) == [(0.5, 2.0, 60, 1, 1)]


def test_a_note_on_without_velocity_ends_the_note():
    assert rows(on(0, 60), on(0.4, 60, 0), off(0.9, 60)) == [(0, 0.4, 60, 1, 1)]


def test_a_key_that_is_struck_again_ends_its_note():
    assert rows(on(0, 60), on(0.5, 60), off(1, 60)) == [(0, 0.5, 60, 1, 1), (0.5, 1, 60, 1, 1)]


def test_a_note_that_is_never_released_lasts_to_the_end_of_the_file():
    assert rows(on(0, 60), on(1, 64), off(2, 64))[0] == (0, 2, 60, 1, 1)


def test_the_sustain_pedal_holds_notes():
    played = [control(0, 64, 127), on(0.1, 60), off(0.3, 60), on(0.2, 64), control(1, 64, 0)]
    played += [off(1.5, 64)]
    assert rows(*sorted(played, key=lambda message: message[0])) == [
        (0.1, 1.0, 60, 1, 1),
        (0.2, 1.5, 64, 1, 1),
    ]


def test_drums_are_left_out():
    drum = on(0, 38, channel=9), off(0.1, 38, channel=9)
    assert rows(*drum, on(0.2, 60), off(1, 60)) == [(0.2, 1, 60, 1, 1)]


def test_a_bent_note_goes_on_at_another_pitch_without_beginning_again():
    found = rows(on(0, 60), bend(0.5, 4096), off(1, 60))
    assert found == [(0, 0.5, 60, 1, 1), (0.5, 1, 61, 1, 0)]


def test_a_bend_before_a_note_moves_its_key_by_the_range_that_the_file_sets():
    to_octave = [control(0, 101, 0), control(0, 100, 0), control(0, 6, 12), control(0, 38, 0)]
    assert rows(*to_octave, bend(0, 4096), on(0.1, 60), off(1, 60)) == [(0.1, 1, 66, 1, 1)]
    # Data entry that belongs to another parameter changes nothing.
    other = [control(0, 101, 0), control(0, 100, 1), control(0, 6, 12)]
    assert rows(*other, bend(0, 4096), on(0.1, 60), off(1, 60)) == [(0.1, 1, 61, 1, 1)]


def test_vibrato_by_pitch_wheel_does_not_cut_notes():
    shakes = [bend(0.1 * n, 300 * (-1) ** n) for n in range(1, 9)]
    assert len(rows(on(0, 60), *shakes, off(1, 60))) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no MIDI file"),
        (b"RIFF" + bytes(100), "no MIDI file"),
        (midi(on(0, 60), off(1, 60))[:-8], "no MIDI file"),
        (midi((0, "program_change", {"program": 1})), "has no notes"),
        (midi(on(0, 38, channel=9), off(1, 38, channel=9)), "has no notes"),
        (midi(on(0, 60), off(1, 60), kind=2), "no common beat"),
        (midi(on(0, 60), off(90_000, 60)), "longer than 24 hours"),
    ],
)
def test_what_is_no_score_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        parse_midi(content)


def test_a_file_of_too_many_notes_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_NOTES", 2)
    with pytest.raises(ValueError, match="more than 2 notes"):
        parse_midi(midi(*[message for n in range(3) for message in (on(n, 60), off(n + 0.5, 60))]))


LABELS = "start_time,end_time,instrument,note,start_beat,end_beat,note_value"


def test_labels_of_musicnet_are_notes_too():
    rows = "88200,110250,41,64,0.0,1.0,Quarter\n44100,66150,41,60,0.0,1.0,Quarter\n"
    np.testing.assert_array_equal(
        parse_labels(f"{LABELS}\n{rows}".encode()), [[1, 1.5, 60, 1, 1], [2, 2.5, 64, 1, 1]]
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LABELS.encode(), "has no notes"),
        (b"\xff\xfe", "not a table of MusicNet's labels"),
        (b"a,b\n1,2", "not a table of MusicNet's labels"),
        (f"{LABELS}\n1,x,41,60,0,0,0".encode(), "not a table of MusicNet's labels"),
        (f"{LABELS}\n5,4,41,60,0,0,0".encode(), "impossible note"),
        (f"{LABELS}\n1,2,41,600,0,0,0".encode(), "impossible note"),
    ],
)
def test_what_are_no_labels_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        parse_labels(content)
