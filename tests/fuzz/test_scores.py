"""Scores that anybody may have written: every answer is a finite list of notes or a ValueError."""

from __future__ import annotations

import io
from contextlib import suppress

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.midi import END, START, parse_labels, parse_midi
from core.data.score import score_roll

CONTROLS = (6, 38, 64, 100, 101, 120, 121, 123)  # those that the parser follows


def check(parse, content):
    with suppress(ValueError):
        notes = parse(content)
        assert notes.dtype == np.float32
        assert notes.shape[1] == 5
        assert len(notes) > 0
        assert np.isfinite(notes).all()
        assert (notes[:, END] >= notes[:, START]).all()
        roll = score_roll(notes, 20, 0.02)
        assert roll.shape == (20, 2, 88)
        assert not np.isinf(roll).any()


def midi():
    """Return a MIDI file that has most of what the parser follows."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=400_000)])
    for number, value in ((101, 0), (100, 0), (6, 12), (64, 127), (64, 0)):
        track.append(mido.Message("control_change", control=number, value=value, time=10))
    for name, values in (
        ("note_on", {"note": 60}),
        ("pitchwheel", {"pitch": 3000}),
        ("note_off", {"note": 60}),
        ("sysex", {"data": (1, 2, 3)}),
    ):
        track.append(mido.Message(name, time=100, **values))
    stream = io.BytesIO()
    mido.MidiFile(tracks=[track]).save(file=stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("parse", "whole"),
    [(parse_midi, midi()), (parse_labels, b"start_time,end_time,note\n1,44100,60\n5,99,61\n")],
)
@given(data=st.data())
def test_bytes_of_any_kind(parse, whole, data):
    start = data.draw(st.integers(0, len(whole)), label="start")
    removed = data.draw(st.integers(0, 20), label="removed")
    added = data.draw(st.binary(max_size=20), label="added")
    check(parse, whole[:start] + added + whole[start + removed :])


@given(
    messages=st.lists(
        st.tuples(
            st.integers(0, 2**20),
            st.sampled_from(["note_on", "note_off", "control_change", "pitchwheel"]),
            st.integers(0, 127),
            st.integers(0, 127),
        ),
        max_size=30,
    )
)
def test_messages_in_any_order(messages):
    track = mido.MidiTrack()
    for time, name, first, second in messages:
        if name == "control_change":
            values = {"control": CONTROLS[first % len(CONTROLS)], "value": second}
        elif name == "pitchwheel":
            values = {"pitch": first * 128 + second - 8192}
        else:
            values = {"note": first, "velocity": second}
        track.append(mido.Message(name, time=time, **values))
    stream = io.BytesIO()
    mido.MidiFile(tracks=[track]).save(file=stream)
    check(parse_midi, stream.getvalue())
