"""A sampler: recorded single notes, measured once, played at any pitch, force and length.

A `Bank` is one instrument. Its notes come from files of recorded notes or from a SoundFont that is
recorded key by key, and are corrected where they are kept: each begins at its onset and its true
pitch is known, so what is played is in time and in tune whatever the source's faults. Nothing here
is random.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates, spline_filter1d, uniform_filter1d
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from sound import Event

Waveform = npt.NDArray[np.float64]
Samples = npt.NDArray[np.float32]

SAMPLE_RATE = 44_100  # Hz
LEAD_SECONDS = 0.003  # kept before an onset, faded in
SKIP_DB = 14.0  # a note begins when it is this far below its first second's loudest moment
RISE_LEADS = 6  # of a note whose slow beginning was skipped
LONGEST_SECONDS = 10.0  # of a note that is kept
SPLINE_ORDER = 3
SHELF_PARTIAL = 2.5  # soft notes lose what is above this multiple of their fundamental
LOUDEST = 110  # velocity from which on a note is as bright as its recording


@dataclass(frozen=True)
class Touch:
    """How an instrument answers: what one recording a note cannot say, and how notes end.

    `range_db` is the level between velocities 20 and 127 and `soft_db` how much duller the softest
    note is, both beside what a bank's layers differ by. `release_seconds` is the time to fall by
    60 dB after a note's end; `sustained` notes go on as long as they are held.
    """

    range_db: float
    soft_db: float
    release_seconds: float
    sustained: bool


@dataclass(frozen=True)
class Note:
    """One recording inside a bank's samples. `key` is its measured pitch, as a MIDI number.

    `loop` is the first and last sample of what is repeated, (0, 0) where nothing is. `level_db`
    is the loudest 100 ms in its first second, in dBFS RMS.
    """

    velocity: int
    key: float
    start: int
    length: int
    loop: tuple[int, int]
    level_db: float
    gain_db: float


@dataclass(frozen=True)
class Bank:
    """An instrument: its notes, and the spline coefficients of their samples, one after another."""

    notes: tuple[Note, ...]
    samples: Samples
    touch: Touch

    @property
    def low(self) -> float:
        """The lowest recorded key."""
        return min(note.key for note in self.notes)

    @property
    def high(self) -> float:
        """The highest recorded key."""
        return max(note.key for note in self.notes)

    def choose(self, key: float, velocity: int) -> Note:
        """Return the nearest note of the nearest layer."""
        layer = min({note.velocity for note in self.notes}, key=lambda v: abs(v - velocity))
        own = (note for note in self.notes if note.velocity == layer)
        return min(own, key=lambda note: abs(note.key - key))

    def level_db(self, key: float, velocity: int) -> float:
        """Return how loud a note of this velocity is to be: between layers, in between."""
        layers = sorted({note.velocity for note in self.notes})
        notes = [self.choose(key, layer) for layer in layers]
        levels = [note.level_db + note.gain_db for note in notes]
        recorded = float(np.interp(velocity, layers, levels))
        return recorded + self.touch.range_db * (velocity - 100) / 107


def play(
    events: Sequence[Event],
    bank_of: Callable[[Event], Bank],
    n_samples: int,
    *,
    tuning_cents: float = 0.0,
) -> Waveform:
    """Play events; an event's bank is `bank_of(event)`.

    Returns:
        Waveform [n_samples], mono, whose level is the banks' own.
    """
    mixed = np.zeros(n_samples)
    for event in events:
        start = round((event.start_seconds - LEAD_SECONDS) * SAMPLE_RATE)
        note = _render(event, bank_of(event), tuning_cents)
        skipped = max(0, -start)  # a lead before the beginning of the file
        end = min(n_samples, start + len(note))
        if end > start + skipped:
            mixed[start + skipped : end] += note[skipped : end - start]
    return mixed


def _render(event: Event, bank: Bank, tuning_cents: float) -> Waveform:
    note = bank.choose(event.pitch, event.velocity)
    touch = bank.touch
    held = event.length_seconds + LEAD_SECONDS
    n = round((held + touch.release_seconds) * SAMPLE_RATE)
    seconds = np.arange(n) / SAMPLE_RATE
    cents = 100 * (event.pitch - note.key) + tuning_cents
    if event.bend:
        times, bends = zip(*event.bend, strict=True)
        steps = 2 ** ((cents + np.interp(seconds - LEAD_SECONDS, times, bends)) / 1200)
        position = np.concatenate([[0.0], np.cumsum(steps[:-1])])
    else:
        position = np.arange(n) * 2 ** (cents / 1200)
    begin, end = note.loop
    if touch.sustained and end > begin:
        position = np.where(
            position < end, position, begin + np.mod(position - end, max(1, end - begin))
        )
    else:
        position = position[position < note.length - 8]
        n = len(position)
    own = bank.samples[note.start : note.start + note.length]
    sound = map_coordinates(own, position[None], order=SPLINE_ORDER, prefilter=False, mode="mirror")
    sound = sound.astype(np.float64)
    if touch.soft_db and event.velocity < LOUDEST:
        sound = _darken(sound, event.pitch, touch.soft_db * (LOUDEST - event.velocity) / 90)
    released = seconds[:n] - held
    envelope = 10 ** (-3 * np.clip(released, 0, None) / touch.release_seconds)
    n_fade = min(n, round(0.01 * SAMPLE_RATE))
    envelope[n - n_fade :] *= np.linspace(1, 0, n_fade)
    gain_db = bank.level_db(event.pitch, event.velocity) - note.level_db
    return sound * envelope * 10 ** (gain_db / 20)


def _darken(sound: Waveform, pitch: int, down_db: float) -> Waveform:
    """Turn a first-order shelf down above some partials."""
    corner = min(SHELF_PARTIAL * 440 * 2 ** ((pitch - 69) / 12), 15_000)
    gain = 10 ** (-down_db / 20)
    k = np.tan(np.pi * corner / SAMPLE_RATE) * np.sqrt(gain)
    filtered: Waveform = lfilter([k + gain, k - gain], [k + 1, k - 1], sound)
    return filtered


def make_bank(
    recordings: Iterable[tuple[int, int, Waveform]],
    folder: Path,
    *,
    sustained: bool,
    even: bool,
    skip_db: float = SKIP_DB,
    cut_below: float = 0.0,
) -> None:
    """Measure, trim, loop and keep an instrument's notes.

    Args:
        recordings: velocity, nominal key and waveform [T] at 44.1 kHz, mono, of each note.
        folder: where `samples.npy` and `notes.json` are written.
        sustained: find a loop in each note.
        even: make the notes of a layer equally loud but for a smooth course over the keys, where
            recordings were levelled one by one.
        skip_db: how far below its first second's loudest moment a note begins; less where players
            took half a second to be heard.
        cut_below: the share of a note's fundamental below which there is only the room's noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept: list[Samples] = []
    notes: list[Note] = []
    at = 0
    for velocity, nominal, waveform in recordings:
        cents = measure_cents(waveform, nominal)
        if cents is None:
            print(f"{folder.name}: key {nominal} has another pitch, left out", flush=True)
            continue
        lowest = cut_below * 440 * 2 ** ((nominal - 69) / 12)
        own = _trim(_high_pass(waveform, lowest) if lowest else waveform, skip_db)
        loop = (0, 0)
        if sustained:
            own, loop = _loop(own)
        level = level_db(own)
        coefficients = spline_filter1d(own, SPLINE_ORDER, mode="mirror").astype(np.float32)
        kept.append(coefficients)
        notes.append(Note(velocity, nominal + cents / 100, at, len(own), loop, level, 0.0))
        at += len(own)
    if even:
        notes = _even(notes)
    np.save(folder / "samples.npy", np.concatenate(kept))
    told = [asdict(note) for note in notes]
    (folder / "notes.json").write_text(json.dumps(told, indent=1) + "\n")


def load_bank(folder: Path, touch: Touch) -> Bank:
    """Open what `make_bank` wrote; the samples stay on disk until they are played."""
    told = json.loads((folder / "notes.json").read_text())
    notes = tuple(Note(**{**note, "loop": tuple(note["loop"])}) for note in told)
    samples = np.load(folder / "samples.npy", mmap_mode="r")
    return Bank(notes, samples, touch)


def _even(notes: Sequence[Note]) -> list[Note]:
    evened = []
    for layer in {note.velocity for note in notes}:
        own = [note for note in notes if note.velocity == layer]
        keys = np.array([note.key for note in own])
        levels = np.array([note.level_db for note in own])
        smooth = np.polyval(np.polyfit(keys, levels, 2 if len(own) > 5 else 0), keys)
        for note, wanted in zip(own, smooth, strict=True):
            evened.append(
                Note(**{**asdict(note), "loop": note.loop, "gain_db": wanted - note.level_db})
            )
    return sorted(evened, key=lambda note: note.start)


def envelope_db(waveform: Waveform, seconds: float = 0.005) -> Waveform:
    """Return the RMS level around each sample, in dB."""
    power = uniform_filter1d(waveform**2, round(seconds * SAMPLE_RATE), mode="constant")
    return 10 * np.log10(np.maximum(power, 1e-14))


def level_db(waveform: Waveform) -> float:
    """Return the loudest 100 ms of the first second, in dBFS RMS."""
    return float(envelope_db(waveform, 0.1)[:SAMPLE_RATE].max())


def onset(waveform: Waveform, skip_db: float = SKIP_DB) -> int:
    """Return the first sample near the level of a note's loudest moment in its first second."""
    levels = envelope_db(waveform)
    first = int(np.argmax(levels > levels.max() - 30))
    loudest = levels[first : first + SAMPLE_RATE].max()
    return first + int(np.argmax(levels[first:] > loudest - skip_db))


def _trim(waveform: Waveform, skip_db: float) -> Waveform:
    """Let a note begin `LEAD_SECONDS` before its onset and end where it is silent."""
    lead = round(LEAD_SECONDS * SAMPLE_RATE)
    padded = np.concatenate([np.zeros(lead), waveform])
    own = padded[onset(waveform, skip_db) :][: round(LONGEST_SECONDS * SAMPLE_RATE)].copy()
    n_rise = lead if skip_db == SKIP_DB else RISE_LEADS * lead
    own[:n_rise] *= np.sin(np.linspace(0, np.pi / 2, n_rise)) ** 2
    levels = envelope_db(own, 0.02)
    heard = np.flatnonzero(levels > levels.max() - 70)
    own = own[: heard[-1] + 1]
    n_fade = min(len(own), SAMPLE_RATE // 20)
    own[-n_fade:] *= np.linspace(1, 0, n_fade)
    return own


def _high_pass(waveform: Waveform, hertz: float) -> Waveform:
    filtered: Waveform = sosfilt(butter(4, hertz, "high", fs=SAMPLE_RATE, output="sos"), waveform)
    return filtered


def _loop(own: Waveform) -> tuple[Waveform, tuple[int, int]]:
    """Find a stretch of a held note that can be repeated, and fade its end into its beginning."""
    levels = envelope_db(own, 0.05)
    steady = np.flatnonzero(levels > levels.max() - 12)
    last = int(steady[-1])
    width = round(0.06 * SAMPLE_RATE)
    end = int(0.9 * last)
    begin = max(int(0.4 * last), width + 1)
    if end - begin < 4 * width:
        return own, (0, 0)
    tail = own[end - width : end]
    reach = min(round(0.25 * SAMPLE_RATE), (end - begin) // 2)
    area = own[begin - width : begin + reach]
    likeness = fftconvolve(area, tail[::-1], "valid")
    power = fftconvolve(area**2, np.ones(width), "valid")
    begin += int(np.argmax(likeness / np.sqrt(np.maximum(power, 1e-12))))
    looped = own[: end + 64].copy()
    fade = np.linspace(0, 1, width)
    looped[end - width : end] = (1 - fade) * tail + fade * own[begin - width : begin]
    looped[end:] = own[begin : begin + len(looped) - end]
    return looped, (begin, end)


def measure_cents(waveform: Waveform, key: int) -> float | None:
    """Measure how far a note lies from its nominal key, within 110 cents, else None.

    The course of the strongest partials' phases is averaged over half a second and more, so that
    vibrato does not matter. High partials of strings are sharp, so low ones count more.
    """
    begin = onset(waveform) + round(0.05 * SAMPLE_RATE)
    levels = envelope_db(waveform, 0.05)
    sounding = np.flatnonzero(levels[begin:] > levels[begin:].max() - 25)
    n = int(np.clip(sounding[-1] if len(sounding) else 0, 0.08 * SAMPLE_RATE, 1.5 * SAMPLE_RATE))
    own = waveform[begin : begin + n]
    if len(own) < 0.05 * SAMPLE_RATE:
        return None
    nominal = 440 * 2 ** ((key - 69) / 12)
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(own * np.hanning(len(own)), size))
    offsets = np.arange(-260.0, 260.5, 2)
    partials = [k for k in range(1, 9) if k * nominal < 9000] or [1]
    heights = np.zeros((len(partials), len(offsets)))
    for row, k in enumerate(partials):
        at = k * nominal * 2 ** (offsets / 1200) * size / SAMPLE_RATE
        heights[row] = spectrum[np.round(at).astype(int)]
    scores = np.sqrt(heights / max(float(heights.max()), 1e-12)).sum(axis=0)
    coarse = float(offsets[np.argmax(scores)])
    if abs(coarse) > 105:
        return None
    found, weights = [], []
    for row, k in enumerate(partials[:6]):
        centre = k * nominal * 2 ** (coarse / 1200)
        cents, power = _partial_cents(own, centre)
        if cents is not None and heights[row].max() > 0.02 * heights.max():
            found.append(coarse + cents)
            weights.append(np.sqrt(power) / k)
    if not found:
        return None
    order = np.argsort(found)
    shares = np.cumsum(np.array(weights)[order]) / sum(weights)
    return float(np.array(found)[order][np.searchsorted(shares, 0.5)])  # the weighted median


def _partial_cents(own: Waveform, centre: float) -> tuple[float | None, float]:
    """Mean deviation of the partial near a frequency, in cents, and its power."""
    turned = own * np.exp(-2j * np.pi * centre / SAMPLE_RATE * np.arange(len(own)))
    width = int(np.clip(SAMPLE_RATE / (centre * 0.035), 0.01 * SAMPLE_RATE, len(own) // 3))
    smooth = fftconvolve(turned, np.hanning(width) / (width / 2), "valid")
    step = max(1, width // 16)
    smooth = smooth[::step]
    power = np.abs(smooth) ** 2
    turns = np.angle(smooth[1:] * np.conj(smooth[:-1]))
    weights = power[1:]
    if not len(turns) or weights.sum() <= 0:
        return None, 0.0
    hertz = float((turns * weights).sum() / weights.sum()) * SAMPLE_RATE / (2 * np.pi * step)
    if abs(hertz) > 0.03 * centre:
        return None, 0.0
    return 1200 * float(np.log2(1 + hertz / centre)), float(power.mean())
