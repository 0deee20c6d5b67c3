"""Notes from files: MIDI, and MusicNet's labels.

In: the content of a file. Out: its notes as an array, see `parse_midi`. Tempo, sustain pedal and
pitch wheel are followed; the drum channel is left out.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mido import Message, MidiFile
    from numpy.typing import NDArray

# Columns of a note list. A note that is bent on the way is several rows, of which the first begins.
START, END, KEY, VELOCITY, BEGINS = range(5)
LABELS_COLUMNS = ("start_time", "end_time", "note")
LABELS_RATE = 44100  # Hz, of the samples that its labels count
MOST_NOTES = 500_000
LONGEST_SECONDS = 86_400.0
DRUM_CHANNEL = 9
BEND_RANGE = 2.0  # semitones, where the file does not set it
BEND_STEP = 0.2  # semitones by which a bend moves before it makes another row
PEDAL, ALL_SOUND_OFF, ALL_NOTES_OFF, RESET = 64, 120, 123, 121
RPN_FINE, RPN_COARSE, DATA_COARSE, DATA_FINE = 100, 101, 6, 38

Row = tuple[float, float, float, float, float]


def parse_midi(content: bytes) -> NDArray[np.float32]:
    """Return the notes of a MIDI file; those of the drum channel are left out.

    A note lasts as long as its key or the sustain pedal holds it.

    Args:
        content: The file.

    Returns:
        float32 (n, 5), at least one row, sorted by start: start and end in seconds; the key as a
        MIDI number, with a fraction where it is detuned; velocity, 0 to 1; and whether a note
        begins with this row (1), or one that was bent goes on at another pitch (0).

    Raises:
        ValueError: It is no MIDI file, is damaged, or has no notes, or impossible ones.
    """
    import mido

    try:
        file = mido.MidiFile(file=io.BytesIO(content), clip=True)
        rows = list(_rows(file))
    except _UnusableError:
        raise
    except Exception as error:  # mido raises many kinds on foreign bytes
        first = (str(error).splitlines() or [""])[0]
        raise _UnusableError(
            f"is no MIDI file that can be read ({first or type(error).__name__})"
        ) from error
    return _note_list(rows)


def parse_labels(content: bytes) -> NDArray[np.float32]:
    """Return the notes of MusicNet's labels of a recording, which have no velocities.

    Args:
        content: A table with the columns `start_time`, `end_time` (samples at 44.1 kHz) and `note`.

    Returns:
        As `parse_midi`.

    Raises:
        ValueError: It is no such table, or has no notes, or impossible ones.
    """
    try:
        table = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        labels = [tuple(int(row[name]) for name in LABELS_COLUMNS) for row in table]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise _UnusableError("is not a table of MusicNet's labels") from error
    rows: list[Row] = []
    for start, end, key in labels:
        if not (0 <= start < end <= LONGEST_SECONDS * LABELS_RATE and 0 <= key < 128):
            raise _UnusableError(f"has an impossible note ({start} to {end}, {key})")
        rows.append((start / LABELS_RATE, end / LABELS_RATE, key, 1.0, 1.0))
    return _note_list(rows)


def _note_list(rows: list[Row]) -> NDArray[np.float32]:
    if not rows:
        raise _UnusableError("has no notes")
    notes = np.array(rows, np.float32)
    return notes[np.argsort(notes[:, START], kind="stable")]


class _UnusableError(ValueError):
    """The content is not that of a score."""


@dataclass
class _Sounding:
    """A note, or what has sounded of it since it was last bent."""

    start: float
    key: float
    velocity: float
    begins: float
    is_held: bool = True


@dataclass
class _Channel:
    """The state of a MIDI channel."""

    bend: float = 0.0  # -1..1
    bend_range: float = BEND_RANGE
    parameter: list[int] = field(default_factory=lambda: [127, 127])  # none is selected
    has_pedal: bool = False
    notes: dict[int, _Sounding] = field(default_factory=dict)

    @property
    def bent_by(self) -> float:
        return self.bend * self.bend_range


def _rows(file: MidiFile) -> Iterator[Row]:
    """Yield the rows of the note list, as notes end."""
    if file.type == 2 or file.ticks_per_beat <= 0:
        raise _UnusableError("has no common beat in its tracks (MIDI type 2, or SMPTE times)")
    channels = [_Channel() for _ in range(16)]
    now, n_rows = 0.0, 0
    for message in file:  # mido follows the tempo
        now += message.time
        if not now <= LONGEST_SECONDS:
            raise _UnusableError(f"is longer than {LONGEST_SECONDS / 3600:g} hours")
        if message.is_meta or not hasattr(message, "channel") or message.channel == DRUM_CHANNEL:
            continue
        for row in _ended(channels[message.channel], message, now):
            n_rows += 1
            if n_rows > MOST_NOTES:
                raise _UnusableError(f"has more than {MOST_NOTES:,} notes")
            yield row
    for channel in channels:
        yield from _end(channel, list(channel.notes), now)


def _ended(channel: _Channel, message: Message, now: float) -> Iterator[Row]:
    """Change the channel's state; yield the rows that end with the message."""
    kind = message.type
    if kind == "note_on" and message.velocity > 0:
        yield from _end(channel, [message.note], now)
        key = message.note + channel.bent_by
        channel.notes[message.note] = _Sounding(now, key, message.velocity / 127, 1.0)
    elif kind in ("note_on", "note_off"):
        if message.note in channel.notes:
            channel.notes[message.note].is_held = False
            if not channel.has_pedal:
                yield from _end(channel, [message.note], now)
    elif kind == "pitchwheel":
        channel.bend = message.pitch / 8192
        yield from _bend(channel, now)
    elif kind == "control_change":
        yield from _controlled(channel, message.control, message.value, now)


def _controlled(channel: _Channel, control: int, value: int, now: float) -> Iterator[Row]:
    if control == PEDAL:
        channel.has_pedal = value >= 64
        if not channel.has_pedal:
            released = [key for key, note in channel.notes.items() if not note.is_held]
            yield from _end(channel, released, now)
    elif control in (ALL_SOUND_OFF, ALL_NOTES_OFF):
        yield from _end(channel, list(channel.notes), now)
    elif control == RESET:
        channel.bend, channel.has_pedal, channel.parameter = 0.0, False, [127, 127]
        yield from _bend(channel, now)
        released = [key for key, note in channel.notes.items() if not note.is_held]
        yield from _end(channel, released, now)
    elif control in (RPN_COARSE, RPN_FINE):
        channel.parameter[control == RPN_FINE] = value
    elif control in (DATA_COARSE, DATA_FINE) and channel.parameter == [0, 0]:
        semitones, hundredths = divmod(round(100 * channel.bend_range), 100)
        if control == DATA_COARSE:
            semitones = value
        else:
            hundredths = min(value, 99)
        channel.bend_range = semitones + hundredths / 100
        yield from _bend(channel, now)


def _bend(channel: _Channel, now: float) -> Iterator[Row]:
    """Move the sounding notes; where that is far, one row ends and another goes on."""
    for number, note in channel.notes.items():
        key = number + channel.bent_by
        if abs(key - note.key) < BEND_STEP:
            continue
        if now > note.start:
            yield (note.start, now, note.key, note.velocity, note.begins)
            note.start, note.begins = now, 0.0
        note.key = key


def _end(channel: _Channel, keys: list[int], now: float) -> Iterator[Row]:
    for number in keys:
        note = channel.notes.pop(number, None)
        if note is not None and now > note.start:
            yield (note.start, now, note.key, note.velocity, note.begins)
