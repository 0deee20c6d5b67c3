"""The score of a recording: which of the piano's keys sound when.

In: a MIDI file that was played exactly when the recording was, as renderings and some recorders
have, or MusicNet's labels. Out: its notes as an array, stored beside the track's samples, and rolls
of them for training. A roll has NaN wherever the score does not decide what is to be heard.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from core.data.domain import cannot_write
from core.errors import DataError
from core.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

    from mido import Message, MidiFile
    from numpy.typing import NDArray

SUFFIXES = (".mid", ".midi", ".MID", ".MIDI")
LABELS_SUFFIX = ".csv"  # of MusicNet
LABELS_COLUMNS = ("start_time", "end_time", "note")
LABELS_RATE = 44100  # Hz, of the samples that its labels count
NOTES_ENDING = ".notes.npy"
NOTES_TYPE = "<f4"
# Columns of a note list. A note that is bent on the way is several rows, of which the first begins.
START, END, KEY, VELOCITY, BEGINS = range(5)
N_COLUMNS = 5
READING = 1  # raise it when the stored notes would come out differently

LARGEST_FILE = 4 << 20  # bytes; an hour of dense piano has half a megabyte
MOST_NOTES = 500_000
LONGEST_SECONDS = 86_400.0
LOWEST_KEY, N_KEYS = 21, 88  # MIDI number of A0; the keys that latents have
DRUM_CHANNEL = 9
BEND_RANGE = 2.0  # semitones, where the file does not set it
BEND_STEP = 0.2  # semitones by which a bend moves before it makes another row
PEDAL, ALL_SOUND_OFF, ALL_NOTES_OFF, RESET = 64, 120, 123, 121
RPN_FINE, RPN_COARSE, DATA_COARSE, DATA_FINE = 100, 101, 6, 38

AUDIBLE_SECONDS = 1.0  # for which a held note sounds; a plucked one may have faded after that
RELEASE_SECONDS = 0.5  # that a note may ring on
BLURRED_FRAMES = 1  # to either side of a note's ends
BETWEEN_KEYS = 0.4  # semitones from the nearest key beyond which a tone belongs to neither
BESIDE_KEY = 0.15  # beyond which it may be heard at the neighbour, too
QUIETEST = 1e-3  # of a roll's velocities, so that what sounds is not 0

Row = tuple[float, float, float, float, float]


def find_score(recording: Path) -> Path | None:
    """Return the MIDI file of the same stem beside a recording, None where there is none."""
    found = (recording.with_suffix(suffix) for suffix in SUFFIXES)
    return next((path for path in found if path.is_file()), None)


@dataclass(frozen=True)
class RejectedScore:
    """A score that cannot be used.

    Attributes:
        reason: Why, for the user.
    """

    reason: str


def store_score(
    score: Path, samples: str, seconds: float, directory: Path, stop: Event
) -> str | RejectedScore:
    """Store a score's notes beside the samples of its recording, unless they are there.

    Args:
        score: The MIDI file, or MusicNet's labels.
        samples: Name of the recording's `.npy` file.
        seconds: Length of the recording.
        directory: The domain's directory; exists.
        stop: Set by another thread to end the work.

    Returns:
        Name of the notes' file, which follows from the content of score and recording.

    Raises:
        CancelledError: `stop` was set.
        DataError: The directory cannot be written.
    """
    if stop.is_set():
        raise CancelledError
    try:
        if score.stat().st_size > LARGEST_FILE:
            return RejectedScore(f"is larger than {LARGEST_FILE >> 20} MB")
        content = score.read_bytes()
    except OSError as error:
        return RejectedScore(f"cannot be read: {error.strerror}")
    digest = hashlib.sha256(content + f" {READING}".encode("ascii")).hexdigest()
    target = directory / f"{samples.removesuffix('.npy')}.{digest[:10]}{NOTES_ENDING}"
    try:
        read_notes(target)
    except DataError:  # not there yet, or damaged
        try:
            is_labels = score.suffix == LABELS_SUFFIX
            notes = parse_labels(content) if is_labels else parse_midi(content)
        except ValueError as error:
            return RejectedScore(str(error))
        last = float(notes[:, START].max())
        if last > seconds:
            return RejectedScore(
                f"has a note at {last:.1f} s of a recording of {seconds:.1f} s, so it is not its "
                "score"
            )
        try:
            with atomic_write(target) as part, part.open("wb") as file:
                np.save(file, notes)
        except OSError as error:
            raise cannot_write(target, error) from error
    return target.name


def read_notes(path: Path) -> NDArray[np.float32]:
    """Read the notes of a track.

    Returns:
        float32 (n, 5), sorted by start: start and end in seconds; the key as a MIDI number, with
        a fraction where it is detuned; velocity, 0 to 1; and whether a note begins with this row
        (1), or one that was bent goes on at another pitch (0).

    Raises:
        DataError: The file is missing, damaged or holds something else.
    """
    try:
        notes = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        reason = "is missing"
    except Exception as error:  # whatever NumPy's parser of headers makes of foreign bytes
        reason = f"cannot be read ({str(error).splitlines()[0] if str(error) else 'damaged'})"
    else:
        reason = "holds no list of notes"
        if isinstance(notes, np.ndarray) and notes.dtype.str == NOTES_TYPE and notes.ndim == 2:
            found: NDArray[np.float32] = notes
            if found.shape[1] == N_COLUMNS and np.isfinite(found).all():
                return found
    raise DataError(f"{path} {reason}; run the same `umt prep` again to restore it")


def parse_midi(content: bytes) -> NDArray[np.float32]:
    """Return the notes of a MIDI file; those of the drum channel are left out.

    A note lasts as long as its key or the sustain pedal holds it.

    Args:
        content: The file.

    Returns:
        As `read_notes`, at least one row.

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
        As `read_notes`, at least one row.

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


def score_roll(
    notes: NDArray[np.float32] | None, n_frames: int, frame_seconds: float
) -> NDArray[np.float32]:
    """Return which keys sound and which begin in each frame, as far as it is known.

    NaN stands where a score does not decide what is to be heard: around the ends of notes, while
    they may ring on, where they may have faded, and at the keys beside a detuned one.

    Args:
        notes: As from `read_notes`, from the first frame on; None where there is no score.
        n_frames: L.
        frame_seconds: From one frame to the next.

    Returns:
        float32 [L, 2, 88]: the velocity, 0..1, with which each key sounds, 0 where it does not;
        and 1 in the frame in which it begins, 0 in others.
    """
    if notes is None:
        return np.full((n_frames, 2, N_KEYS), np.nan, np.float32)
    roll = np.zeros((n_frames, 2, N_KEYS), np.float32)
    unknown = np.zeros(roll.shape, bool)
    release, audible = RELEASE_SECONDS / frame_seconds, AUDIBLE_SECONDS / frame_seconds
    frames = notes[:, [START, END]] / frame_seconds
    is_near = (frames[:, 1] + release + BLURRED_FRAMES >= 0) & (
        frames[:, 0] - BLURRED_FRAMES < n_frames
    )
    known: list[tuple[int, int, int, float]] = []
    for note, (start, end) in zip(notes[is_near], frames[is_near], strict=True):
        first = math.floor(start)
        nearest = round(float(note[KEY]))
        deviation = float(note[KEY]) - nearest
        keys = [nearest]
        if abs(deviation) > BESIDE_KEY:
            keys.append(nearest + (1 if deviation > 0 else -1))
        heard = _frames(first - BLURRED_FRAMES, math.ceil(end + release) + BLURRED_FRAMES)
        near_onset = _frames(first - BLURRED_FRAMES, first + BLURRED_FRAMES + 1)
        for key in keys:
            if LOWEST_KEY <= key < LOWEST_KEY + N_KEYS:
                unknown[heard, 0, key - LOWEST_KEY] = True
                unknown[near_onset, 1, key - LOWEST_KEY] = True
                if key == nearest and note[BEGINS] and abs(deviation) < BETWEEN_KEYS:
                    last = math.floor(min(end - BLURRED_FRAMES, start + audible))
                    known.append((key - LOWEST_KEY, first, last, float(note[VELOCITY])))
    # After all that is unknown: a key that is struck again while it rings is known to sound.
    for index, first, last, velocity in known:
        sounding = _frames(first + BLURRED_FRAMES, last)
        unknown[sounding, 0, index] = False
        roll[sounding, 0, index] = max(velocity, QUIETEST)
        onset = _frames(first, first + 1)
        unknown[onset, 1, index] = False
        roll[onset, 1, index] = 1.0
    roll[unknown] = np.nan
    return roll


def _frames(start: int, stop: int) -> slice:
    """Return the frames from start to stop, of which some may come before the first."""
    return slice(max(0, start), max(0, stop))
