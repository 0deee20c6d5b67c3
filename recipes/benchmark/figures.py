"""Figures of the benchmark that `core.metrics` does not have: onsets found, and pitch in cents.

In: waveforms at 16 kHz, float32 [T]. Out: plain numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.metrics.spectra import ANALYSIS_RATE, mel_filters, power_blocks
from core.metrics.tones import INSTRUMENTS, synthesize

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Waveform = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

ONSET_WINDOW_SECONDS = 0.07
FLUX_RATE = 100  # frames a second
FLUX_FRAME, FLUX_MELS, FLUX_LAG = 1024, 80, 3
FLUX_FLOOR = 1e-4  # of the loudest frame's mean power in a mel filter
PEAK_REACH, MEAN_REACH = 5, 20  # frames to either side
PEAK_SHARE = 0.12  # of the flux of the file's clear onsets, above the local mean

SEARCH_CENTS = 100.0
N_HARMONICS = 6
PITCH_STEP_CENTS = 0.5


def onset_seconds(waveform: Waveform) -> Floats:
    """Find the times at which notes are struck: peaks of the spectral flux [N].

    Böck & Widmer 2013, "Maximum filter vibrato suppression for onset detection".
    """
    filters = mel_filters(FLUX_FRAME, FLUX_MELS, 60.0, 7_500.0)
    blocks = power_blocks(waveform, FLUX_FRAME, ANALYSIS_RATE // FLUX_RATE)
    power = np.concatenate([(block @ filters).numpy() for block in blocks]).astype(float)
    floor = FLUX_FLOOR * power.mean(axis=1).max()
    levels = np.log10(power + floor + 1e-12)
    padded = np.pad(levels, ((0, 0), (1, 1)), mode="edge")
    widened = np.maximum.reduce([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]])
    flux = np.zeros(len(levels))
    flux[FLUX_LAG:] = np.maximum(levels[FLUX_LAG:] - widened[:-FLUX_LAG], 0).mean(axis=1)
    if not flux.any():
        return np.zeros(0)
    threshold = _moving(flux, MEAN_REACH, np.mean) + PEAK_SHARE * np.percentile(flux, 99)
    is_peak = (flux >= _moving(flux, PEAK_REACH, np.max)) & (flux > threshold)
    frames = np.flatnonzero(is_peak)
    # The flux is highest when the later of its two frames is well inside the note.
    return (frames - FLUX_LAG / 2) / FLUX_RATE


def _moving(values: Floats, reach: int, statistic: Callable[..., Floats]) -> Floats:
    padded = np.pad(values, reach, mode="edge")
    return statistic(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)


def onsets_found(output: Waveform, truth: Waveform) -> float | None:
    """Return the share of the truth's onsets near which the output has one; None without any."""
    from mir_eval.util import match_events

    expected, found = onset_seconds(truth), onset_seconds(output)
    if not len(expected):
        return None
    return len(match_events(expected, found, ONSET_WINDOW_SECONDS)) / len(expected)


def pitch_error_cents(segment: Waveform, expected_hz: float) -> float:
    """Return how far a tone is from a frequency, in cents, within a semitone.

    The sum of its harmonics' magnitudes is highest where they all are; moves by octaves do not
    matter.
    """
    size = 1 << (8 * len(segment)).bit_length()
    spectrum = np.abs(np.fft.rfft(segment * np.hanning(len(segment)), size))
    cents = np.arange(-SEARCH_CENTS, SEARCH_CENTS + 0.1, PITCH_STEP_CENTS)
    harmonics = np.arange(1, N_HARMONICS + 1)
    hertz = expected_hz * 2 ** (cents[:, None] / 1200) * harmonics
    hertz = hertz[:, hertz[-1] < 0.45 * ANALYSIS_RATE]
    places = hertz * size / ANALYSIS_RATE
    below = places.astype(int)
    values = spectrum[below] + (places - below) * (spectrum[below + 1] - spectrum[below])
    return float(cents[values.sum(axis=1).argmax()])


def tones(instrument: str, pitches: list[int], cents: float, seconds: float) -> Waveform:
    """Return notes one after the other, all off equal temperament at A440 by some cents."""
    notes = [
        synthesize(instrument, pitch + cents / 100, seconds, ANALYSIS_RATE) for pitch in pitches
    ]
    return np.concatenate(notes)


def glide(low_hz: float, seconds: float, hold_seconds: float) -> tuple[Waveform, Floats]:
    """Return a tone that rises by an octave between two held ends, and its Hz at each sample."""
    time = np.arange(round((seconds + 2 * hold_seconds) * ANALYSIS_RATE)) / ANALYSIS_RATE
    hertz = low_hz * 2 ** np.clip((time - hold_seconds) / seconds, 0, 1)
    phase = 2 * np.pi * np.cumsum(hertz) / ANALYSIS_RATE
    partials = INSTRUMENTS["reed"].partials
    tone = sum(level * np.sin(k * phase) for k, level in enumerate(partials, start=1))
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.03)
    waveform = (0.1 * tone * fade).astype(np.float32)
    return waveform, hertz
