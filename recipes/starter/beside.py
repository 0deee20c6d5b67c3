"""What sounds beside the music in some renditions: drums, noise, and something like speech.

The encoder is to find the music's notes all the same. Everything follows from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import istft, lfilter, stft
from sound import DRUMS, SAMPLE_RATE, Event, Font, Waveform, synthesize

KICK, SNARE, RIM, CLAP, CLOSED, OPEN, CRASH, RIDE = 36, 38, 37, 39, 42, 46, 49, 51
TOMS = (41, 45, 48)
KITS = (0, 8, 16, 24, 25, 32, 40)  # standard, room, power, electronic, TR-808, jazz, brush
VOWELS_HZ = (  # the first three formants
    (730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410),
    (490, 1350, 1690), (660, 1720, 2410),
)  # fmt: skip


@dataclass(frozen=True)
class Beside:
    """`kind` is "drums", "noise" or "speech"; `level_db` is its RMS against the music's."""

    kind: str
    level_db: float
    seed: int
    kit: int = 0
    font: str = ""


def make(beside: Beside, n_samples: int, tempo: float, fonts: dict[str, Font]) -> Waveform:
    """Make the sound, of any level, [n_samples]."""
    rng = np.random.default_rng(beside.seed)
    if beside.kind == "noise":
        return noise(n_samples, rng)
    if beside.kind == "speech":
        return speech(n_samples, rng)
    events = pattern(n_samples / SAMPLE_RATE, tempo, rng)
    played = synthesize(events, {DRUMS: beside.kit}, fonts[beside.font])
    fitted = np.zeros(n_samples)
    n = min(n_samples, len(played))
    fitted[:n] = played[:n]
    return fitted


def pattern(seconds: float, tempo: float, rng: np.random.Generator) -> list[Event]:
    """Draw a pattern of a bar and repeat it with slips, fills and cymbals."""
    step = 60 / tempo / 4
    cymbal = int(rng.choice([CLOSED, RIDE, OPEN]))
    every = int(rng.choice([1, 2, 4]))
    chances = {
        KICK: np.where(np.arange(16) % 8 == 0, 0.95, rng.uniform(0, 0.25, 16)),
        int(rng.choice([SNARE, SNARE, RIM, CLAP])): np.where(
            np.arange(16) % 8 == 4, 0.95, rng.uniform(0, 0.1, 16)
        ),
        cymbal: np.where(np.arange(16) % every == 0, 0.9, 0.05),
    }
    events = []
    for index in range(max(1, int(seconds / step))):
        at = index * step + float(rng.normal(0, 0.003))
        hits = [key for key, chance in chances.items() if rng.uniform() < chance[index % 16]]
        if index % 64 >= 56 and rng.uniform() < 0.5:
            hits.append(int(rng.choice(TOMS)))
        if index % 64 == 0 and rng.uniform() < 0.5:
            hits.append(CRASH)
        for key in hits:
            velocity = int(np.clip(rng.normal(88, 18), 25, 127))
            events.append(Event(max(0.0, round(at, 4)), 0.1, key, velocity, DRUMS))
    return events or [Event(0.0, 0.1, KICK, 90, DRUMS)]


def noise(n_samples: int, rng: np.random.Generator) -> Waveform:
    """Noise of any colour, steady or swelling slowly."""
    frequencies = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE)
    slope = rng.uniform(-1.0, 0.1)  # of amplitude over frequency, as an exponent
    shape = np.maximum(frequencies, 30.0) ** slope
    spectrum = shape * np.exp(2j * np.pi * rng.uniform(size=len(frequencies)))
    sound = np.fft.irfft(spectrum, n_samples)
    n_points = max(2, int(n_samples / SAMPLE_RATE / rng.uniform(0.3, 6)))
    swell = rng.uniform(0.1, 1, n_points) if rng.uniform() < 0.5 else np.ones(n_points)
    course = np.interp(np.linspace(0, 1, n_samples), np.linspace(0, 1, n_points), swell)
    return np.asarray(sound * course)


def speech(n_samples: int, rng: np.random.Generator) -> Waveform:
    """Pulses and hiss through wandering formants, in syllables, words and pauses."""
    rate = 200  # control points a second
    n = n_samples * rate // SAMPLE_RATE + 2
    syllables: list[tuple[float, float, float]] = []  # voiced and hissed level, pitch
    formants: list[np.ndarray] = []
    pitch, size = rng.uniform(85, 230), rng.uniform(0.9, 1.25)
    while len(syllables) < n:
        if rng.uniform() < 0.12:
            kind, length = (0.0, 0.0), rng.uniform(0.2, 0.9)
        elif rng.uniform() < 0.3:
            kind, length = (0.0, rng.uniform(0.1, 0.5)), rng.uniform(0.04, 0.14)
        else:
            kind, length = (rng.uniform(0.5, 1), 0.02), rng.uniform(0.09, 0.28)
        points = max(1, round(length * rate))
        at = pitch * 2 ** (rng.normal(0, 0.18))
        syllables += [(*kind, at)] * points
        vowel = np.array(VOWELS_HZ[int(rng.integers(len(VOWELS_HZ)))]) * size
        formants += [vowel if kind[0] else np.array([2500, 4500, 7000]) * size] * points
    smooth = np.hanning(15) / np.hanning(15).sum()
    course = np.array(syllables[:n])
    tracks = np.array(formants[:n])
    course, tracks = (
        np.apply_along_axis(lambda row: np.convolve(np.pad(row, 7, "edge"), smooth, "valid"), 0, x)
        for x in (course, tracks)
    )
    seconds, control = np.arange(n_samples) / SAMPLE_RATE, np.arange(n) / rate
    voiced, hissed, hertz = (np.interp(seconds, control, column) for column in course.T)
    phase = np.cumsum(hertz) / SAMPLE_RATE
    pulses = np.diff(np.floor(phase), prepend=0.0)
    source = voiced * lfilter([1.0], [1, -0.97], pulses)
    source = source + 0.3 * hissed * rng.standard_normal(n_samples)
    frequencies, times, spectrum = stft(source, SAMPLE_RATE, nperseg=1024)
    gains = np.full(spectrum.shape, 0.02)
    for number, width in enumerate((80.0, 110.0, 160.0)):
        centre = np.interp(times, control, tracks[:, number])
        gains += 1 / (1 + ((frequencies[:, None] - centre) / width) ** 2)
    _, sound = istft(spectrum * gains, SAMPLE_RATE, nperseg=1024)
    fitted = np.zeros(n_samples)
    fitted[: min(n_samples, len(sound))] = sound[:n_samples]
    return fitted
