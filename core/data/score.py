"""The score of a recording: which of the piano's keys sound when.

In: a MIDI file that was played exactly when the recording was, as renderings and some recorders
have, or MusicNet's labels. Out: its notes as an array, stored beside the track's samples, and rolls
of them for training. A roll has NaN wherever the score does not decide what is to be heard.
"""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.data.domain import cannot_write
from core.data.midi import BEGINS, END, KEY, START, VELOCITY, parse_labels, parse_midi
from core.errors import DataError
from core.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path
    from threading import Event

    from numpy.typing import NDArray

SUFFIXES = (".mid", ".midi", ".MID", ".MIDI")
LABELS_SUFFIX = ".csv"  # of MusicNet
NOTES_ENDING = ".notes.npy"
NOTES_TYPE = "<f4"
N_COLUMNS = 5
READING = 1  # raise it when the stored notes would come out differently
LARGEST_FILE = 4 << 20  # bytes; an hour of dense piano has half a megabyte
LOWEST_KEY, N_KEYS = 21, 88  # MIDI number of A0; the keys that latents have

AUDIBLE_SECONDS = 1.0  # for which a held note sounds; a plucked one may have faded after that
FADING_KEY = 72  # above it half as long each octave: high strings and bars die away sooner
RELEASE_SECONDS = 1.0  # that a note may ring on
BLURRED_FRAMES = 1  # to either side of a note's ends
BETWEEN_KEYS = 0.4  # semitones from the nearest key beyond which a tone belongs to neither
BESIDE_KEY = 0.15  # beyond which it may be heard at the neighbour, too
QUIETEST = 1e-3  # of a roll's velocities, so that what sounds is not 0

# Whether a score is that of its recording is looked up at some places of both.
MAX_PLACES = 200
LEAST_PLACES = 8  # that tell anything
PLACE_SECONDS = 0.19
QUIET = 0.03  # of the loudest place's mean amplitude; quieter ones are silent
LEAST_COVERED = 0.5  # of the places that sound; the least of 84 recordings had .87
PITCH_CLASSES = 12
LOWEST_HZ, HIGHEST_HZ = 60.0, 5000.0


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
        reason = misfit(notes, np.load(directory / samples, mmap_mode="r"), seconds)
        if reason:
            return RejectedScore(reason)
        try:
            with atomic_write(target) as part, part.open("wb") as file:
                np.save(file, notes)
        except OSError as error:
            raise cannot_write(target, error) from error
    return target.name


def misfit(notes: NDArray[np.float32], samples: NDArray[np.generic], seconds: float) -> str | None:
    """Return why a score is not that of a recording, None if it may be.

    Most of what sounds has notes in it, and their pitch classes have more of the sound than the
    same ones a semitone or more away. Of 120 recordings beside their scores none was rejected,
    of as many beside the score of another one 109, beside their own a second late 24.

    Args:
        notes: As from `core.data.midi.parse_midi`.
        samples: Of the recording, of any type (T,).
        seconds: Its length.
    """
    rate = len(samples) / seconds
    length = 2 ** round(math.log2(PLACE_SECONDS * rate))
    n_places = min(MAX_PLACES, 2 * len(samples) // length)
    if n_places < LEAST_PLACES:
        return None
    starts = np.linspace(0, len(samples) - length, n_places).astype(int)
    places = np.stack([np.asarray(samples[own : own + length], np.float32) for own in starts])
    amplitudes = np.abs(places).mean(axis=1)
    sounding = amplitudes > QUIET * amplitudes.max()
    if not sounding.any():
        return None
    played = _played_classes(notes, starts / rate, length / rate)
    has_notes = played.any(axis=1)
    covered = (has_notes & sounding).sum() / max(sounding.sum(), 1)
    if covered < LEAST_COVERED:
        return f"has no notes in {1 - covered:.0%} of what sounds, so it is not its score"
    kept = has_notes & sounding
    if kept.sum() < LEAST_PLACES:
        return None
    heard = _heard_classes(places[kept], rate)
    shares = [
        float((heard * np.roll(played[kept], moved, axis=1)).sum())
        for moved in range(PITCH_CLASSES)
    ]
    best = int(np.argmax(shares))
    if best == 0:
        return None
    semitones = best if best <= PITCH_CLASSES // 2 else best - PITCH_CLASSES
    return (
        f"fits better when it is moved by {semitones:+d} semitones, so it is the score of "
        "something else, or of another tuning"
    )


def _played_classes(
    notes: NDArray[np.float32], starts: NDArray[np.float64], seconds: float
) -> NDArray[np.bool_]:
    """Return which pitch classes have a note in the middle of each place, (places, 12)."""
    first, last = (starts[:, None] + share * seconds for share in (0.7, 0.3))
    is_on = (notes[:, START] < first) & (notes[:, END] > last)
    classes = np.round(notes[:, KEY]).astype(int) % PITCH_CLASSES
    is_class = classes[:, None] == np.arange(PITCH_CLASSES)
    played: NDArray[np.bool_] = (is_on.astype(int) @ is_class.astype(int)) > 0
    return played


def _heard_classes(places: NDArray[np.float32], rate: float) -> NDArray[np.float64]:
    """Return the share of each pitch class in the magnitudes of each place, (places, 12)."""
    length = places.shape[1]
    hertz = np.fft.rfftfreq(length, 1 / rate)
    used = (hertz >= LOWEST_HZ) & (hertz <= HIGHEST_HZ)
    classes = np.round(12 * np.log2(hertz[used] / 440) + 69).astype(int) % PITCH_CLASSES
    spectra = np.abs(np.fft.rfft(places * np.hanning(length), axis=1))[:, used]
    sums = spectra @ (classes[:, None] == np.arange(PITCH_CLASSES))
    shares: NDArray[np.float64] = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1e-9)
    return shares


def read_notes(path: Path) -> NDArray[np.float32]:
    """Read the notes of a track.

    Returns:
        float32 (n, 5), as from `core.data.midi.parse_midi`.

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
    release = RELEASE_SECONDS / frame_seconds
    frames = notes[:, [START, END]] / frame_seconds
    is_near = (frames[:, 1] + release + BLURRED_FRAMES >= 0) & (
        frames[:, 0] - BLURRED_FRAMES < n_frames
    )
    known: list[tuple[int, int, int, NDArray[np.float32]]] = []
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
                if key == nearest and abs(deviation) < BETWEEN_KEYS:
                    octaves = max(0.0, (key - FADING_KEY) / 12)
                    audible = AUDIBLE_SECONDS / 2**octaves / frame_seconds
                    last = math.floor(min(end - BLURRED_FRAMES, start + audible))
                    known.append((key - LOWEST_KEY, first, last, note))
    # After all that is unknown: a key that is struck again while it rings is known to sound.
    for index, first, last, note in known:
        sounding = _frames(first + BLURRED_FRAMES, last)
        unknown[sounding, 0, index] = False
        roll[sounding, 0, index] = max(note[VELOCITY], QUIETEST)
        if not note[BEGINS]:
            continue
        onset = _frames(first, first + 1)
        unknown[onset, 1, index] = False
        roll[onset, 1, index] = 1.0
    roll[unknown] = np.nan
    return roll


def _frames(start: int, stop: int) -> slice:
    """Return the frames from start to stop, of which some may come before the first."""
    return slice(max(0, start), max(0, stop))
