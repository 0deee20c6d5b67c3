"""From a score to a performance: excerpt, instruments, range, and how it is played.

In: notes in quarter notes. Out: `Event`s in seconds. All chance comes from the generator that is
passed in; the plan decides what it is seeded with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sound import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scores import Note


@dataclass(frozen=True)
class Instrument:
    """A General MIDI program (from 0) and the MIDI pitches it is allowed to play."""

    program: int
    low: int
    high: int


def excerpt(
    notes: Sequence[Note], beats: float, rng: np.random.Generator
) -> tuple[tuple[Note, ...], float]:
    """Cut at most `beats` quarter notes at a random whole beat; start again at beat 0."""
    last = max(note.start for note in notes)
    latest = max(0.0, last - 0.9 * beats)
    start = float(np.floor(rng.uniform(0, latest))) if latest else 0.0
    return cut(notes, start, beats)


def cut(notes: Sequence[Note], start: float, beats: float) -> tuple[tuple[Note, ...], float]:
    """Keep the notes that begin in a window; the silence before the first one goes."""
    inside = [note for note in notes if start <= note.start < start + beats]
    if not inside:  # a long rest: the next notes after it, or the first ones of all
        later = [note.start for note in notes if note.start >= start]
        return cut(notes, later[0] if later else 0.0, beats)
    first = inside[0].start
    end = start + beats
    return tuple(
        replace(note, start=note.start - first, length=min(note.length, end - note.start))
        for note in inside
    ), first


def assign_seats(parts: Iterable[int], instruments: Sequence[Instrument]) -> dict[int, Instrument]:
    """Give each part an instrument: the outer parts the outer ones, the others in between."""
    ordered = sorted(set(parts))
    top = len(instruments) - 1
    steps = max(1, len(ordered) - 1)
    return {part: instruments[round(top * index / steps)] for index, part in enumerate(ordered)}


def fit_to_range(
    notes: Sequence[Note], seats: Mapping[int, Instrument], transposition: int
) -> list[Note]:
    """Transpose; move each part by the octaves it needs, then fold what still sticks out."""
    fitted: list[Note] = []
    for part, seat in seats.items():
        pitches = np.array([note.pitch + transposition for note in notes if note.part == part])
        shifts = sorted(range(-48, 49, 12), key=abs)
        outside = [
            int(((pitches + s < seat.low) | (pitches + s > seat.high)).sum()) for s in shifts
        ]
        shift = transposition + shifts[int(np.argmin(outside))]
        for note in (note for note in notes if note.part == part):
            fitted.append(replace(note, pitch=_fold(note.pitch + shift, seat)))
    return sorted(fitted, key=lambda note: (note.start, note.part, note.pitch))


def _fold(pitch: int, seat: Instrument) -> int:
    while pitch < seat.low:
        pitch += 12
    while pitch > seat.high:
        pitch -= 12
    return pitch


def perform(
    notes: Sequence[Note], seconds_per_beat: float, rng: np.random.Generator
) -> tuple[tuple[Event, ...], dict[str, float]]:
    """Play notes as a person would: uneven in time and force, with slow phrases."""
    style = {
        "articulation": float(np.round(rng.uniform(0.70, 1.05), 2)),
        "velocity": float(rng.integers(58, 100)),
        "velocity_jitter": float(np.round(rng.uniform(2, 8), 1)),
        "phrase_depth": float(np.round(rng.uniform(0, 14), 1)),
        "phrase_seconds": float(np.round(rng.uniform(4, 12), 1)),
        "timing_jitter_seconds": float(np.round(rng.uniform(0, 0.015), 4)),
    }
    offsets = {part: rng.uniform(-10, 10) for part in sorted({note.part for note in notes})}
    phase = rng.uniform(0, 2 * np.pi)
    events = []
    for note in notes:
        start = note.start * seconds_per_beat
        phrase = np.sin(2 * np.pi * start / style["phrase_seconds"] + phase)
        force = style["velocity"] + offsets[note.part] + style["phrase_depth"] * phrase
        force += style["velocity_jitter"] * rng.standard_normal()
        late = style["timing_jitter_seconds"] * rng.uniform(-1, 1)
        length = note.length * seconds_per_beat * style["articulation"]
        length = max(0.04, length * rng.uniform(0.96, 1.04))
        velocity = int(np.clip(force, 20, 127))
        events.append(Event(max(0.0, start + late), length, note.pitch, velocity, channel_of(note)))
    return untangle(events), style


def channel_of(note: Note) -> int:
    """Return the MIDI channel of a note's part, 0..8."""
    return note.part % 9  # channel 9 is for drums


def untangle(events: Sequence[Event]) -> tuple[Event, ...]:
    """End a note where the same key is struck again: MIDI cannot hold one key twice."""
    struck: dict[tuple[int, int], float] = {}
    kept: list[Event] = []
    for event in sorted(events, key=lambda e: (-e.start_seconds, e.channel, e.pitch)):
        again = struck.get((event.channel, event.pitch), np.inf)
        struck[event.channel, event.pitch] = event.start_seconds
        room = float(again) - event.start_seconds
        if room > 0.03:
            length = float(min(event.length_seconds, room - 0.005))
            start = float(np.round(event.start_seconds, 4))
            kept.append(replace(event, start_seconds=start, length_seconds=round(length, 4)))
    return tuple(reversed(kept))
