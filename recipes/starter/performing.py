"""From a score to a performance: excerpt, range, and how it is played.

In: notes in quarter notes. Out: `Event`s in seconds. All chance comes from the generator that is
passed in; the plan decides what it is seeded with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sound import Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scores import Note


LANES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15)  # channels; 9 is for drums
PARTS = 7  # parts that have a channel of their own, and another one for their bent notes
REST_SECONDS = 0.4  # before a channel's wheel may move again: what sounds on it would move too


@dataclass(frozen=True)
class Manner:
    """How far performances differ: ranges that are drawn from, in MIDI velocities and seconds.

    `part` is how much a part may be louder than the whole, `phrase` how deep waves of some seconds
    go, `swell` how much louder the end may be than the middle.
    """

    velocity: tuple[int, int]
    jitter: tuple[float, float]
    part: float
    phrase: float
    phrase_seconds: tuple[float, float]
    swell: float


EVEN = Manner((58, 100), (2, 8), 10, 14, (4, 12), 0)
LIVELY = Manner((42, 106), (2, 12), 14, 26, (3, 14), 24)


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


def fit_to_range(notes: Sequence[Note], low: int, high: int, transposition: int) -> list[Note]:
    """Transpose; move each part by the octaves it needs, then fold what still sticks out."""
    fitted: list[Note] = []
    for part in sorted({note.part for note in notes}):
        pitches = np.array([note.pitch + transposition for note in notes if note.part == part])
        shifts = sorted(range(-48, 49, 12), key=abs)
        outside = [int(((pitches + s < low) | (pitches + s > high)).sum()) for s in shifts]
        shift = transposition + shifts[int(np.argmin(outside))]
        for note in (note for note in notes if note.part == part):
            fitted.append(replace(note, pitch=_fold(note.pitch + shift, low, high)))
    return sorted(fitted, key=lambda note: (note.start, note.part, note.pitch))


def _fold(pitch: int, low: int, high: int) -> int:
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return pitch


def perform(
    notes: Sequence[Note],
    seconds_per_beat: float,
    rng: np.random.Generator,
    manner: Manner = LIVELY,
) -> tuple[tuple[Event, ...], dict[str, float]]:
    """Play notes as a person would: uneven in time and force, in phrases, from soft to loud."""
    style = {
        "articulation": float(np.round(rng.uniform(0.70, 1.05), 2)),
        "velocity": float(rng.integers(*manner.velocity)),
        "velocity_jitter": float(np.round(rng.uniform(*manner.jitter), 1)),
        "phrase_depth": float(np.round(rng.uniform(0, manner.phrase), 1)),
        "phrase_seconds": float(np.round(rng.uniform(*manner.phrase_seconds), 1)),
    }
    style["swell"] = float(np.round(rng.uniform(-1, 1) * manner.swell, 1)) if manner.swell else 0.0
    style["timing_jitter_seconds"] = float(np.round(rng.uniform(0, 0.015), 4))
    offsets = {
        part: rng.uniform(-manner.part, manner.part)
        for part in sorted({note.part for note in notes})
    }
    phase = rng.uniform(0, 2 * np.pi)
    last = max(note.start for note in notes) * seconds_per_beat
    events = []
    for note in notes:
        start = note.start * seconds_per_beat
        phrase = np.sin(2 * np.pi * start / style["phrase_seconds"] + phase)
        force = style["velocity"] + offsets[note.part] + style["phrase_depth"] * phrase
        force += style["swell"] * (2 * start / max(last, 1.0) - 1)
        force += style["velocity_jitter"] * rng.standard_normal()
        late = style["timing_jitter_seconds"] * rng.uniform(-1, 1)
        length = note.length * seconds_per_beat * style["articulation"]
        length = max(0.04, length * rng.uniform(0.96, 1.04))
        velocity = int(np.clip(force, 20, 127))
        events.append(Event(max(0.0, start + late), length, note.pitch, velocity, channel_of(note)))
    return untangle(events), style


def glide(
    events: Sequence[Event], rng: np.random.Generator
) -> tuple[tuple[Event, ...], dict[str, float]]:
    """Let some notes glide: into their pitch, away and back, or far, where there is one part.

    A bent note goes to the other channel of its part, whose wheel moves nothing else.
    """
    is_single = len({event.channel for event in events}) == 1
    style = {
        "portamento": float(rng.choice([0.0, 0.05, 0.12, 0.3])),
        "bends": float(rng.choice([0.0, 0.1, 0.3])),
        "glides": float(rng.choice([0.1, 0.3])) if is_single else 0.02,
    }
    free = dict.fromkeys(LANES, 0.0)
    before: dict[int, Event] = {}
    bent: list[Event] = []
    for event in events:
        last = before.get(event.channel)
        before[event.channel] = event
        draws = rng.uniform(size=6)
        bend = _bend(event, last, style, draws)
        lane = LANES[LANES.index(event.channel) + PARTS]
        if bend and event.start_seconds >= free[lane]:
            free[lane] = event.start_seconds + event.length_seconds + REST_SECONDS
            bent.append(replace(event, channel=lane, bend=bend))
        else:
            bent.append(event)
    return tuple(bent), style


def _bend(
    event: Event, last: Event | None, style: Mapping[str, float], draws: np.ndarray
) -> tuple[tuple[float, float], ...]:
    length = event.length_seconds
    if last is not None and draws[0] < style["portamento"] and length > 0.15:
        gap = event.start_seconds - last.start_seconds - last.length_seconds
        cents = 100.0 * (last.pitch - event.pitch)
        if cents and abs(cents) <= 1200 and gap < 0.2:
            return _course(0.0, min(0.06 + 0.24 * draws[1], 0.6 * length), cents, 0.0)
    if draws[2] < style["glides"] and length > 0.5:
        semitones = (1, 2, 3, 4, 5, 7, 12)[int(7 * draws[3])] * (1 if draws[4] < 0.5 else -1)
        takes = (0.4 + 0.5 * draws[5]) * length
        return _course(0.9 * length - takes, takes, 0.0, 100.0 * semitones)
    if draws[2] > 1 - style["bends"] and length > 0.4:
        cents = (30 + 220 * draws[3] ** 2) * (1 if draws[4] < 0.5 else -1)
        up = _course(0.15 * length, 0.3 * length, 0.0, cents)
        return up + _course(0.55 * length, 0.3 * length, cents, 0.0)
    return ()


def _course(
    start: float, seconds: float, from_cents: float, to_cents: float
) -> tuple[tuple[float, float], ...]:
    """Return a smooth way from one pitch to another, as eight straight pieces."""
    shares = np.linspace(0, 1, 9)
    smooth = shares**2 * (3 - 2 * shares)
    return tuple(
        (round(float(start + seconds * share), 4), round(float(cents), 1))
        for share, cents in zip(shares, from_cents + (to_cents - from_cents) * smooth, strict=True)
    )


def channel_of(note: Note) -> int:
    """Return the MIDI channel of a note's part."""
    return LANES[note.part % PARTS]


def part_of(channel: int) -> int:
    """Return which part plays on a channel, be it its own or that of its bent notes."""
    return LANES.index(channel) % PARTS


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
