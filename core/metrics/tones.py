"""Single notes of six synthetic instruments, for the note test of `core.metrics.latents`.

In: a MIDI pitch and the name of an instrument. Out: a waveform. The instruments imitate none in
particular; they differ as real ones do, in their partials, their attack and their decay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

PEAK = 0.3  # of full scale
HIGHEST_SHARE = 0.45  # of the sample rate; partials above it are left out


@dataclass(frozen=True)
class Instrument:
    """Parameters of additive synthesis.

    Attributes:
        partials: Amplitude of each partial, the fundamental first.
        attack_seconds: Time until full amplitude.
        decay: Nepers a second that the fundamental loses; partial k loses it k ** 0.5 times.
        vibrato_cents: Depth of a vibrato of 5.5 Hz.
    """

    partials: tuple[float, ...]
    attack_seconds: float
    decay: float
    vibrato_cents: float = 0.0


INSTRUMENTS = {
    "struck": Instrument((1, 0.6, 0.4, 0.25, 0.15, 0.1, 0.05), 0.004, 2.5),
    "plucked": Instrument((1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3), 0.002, 5.0),
    "bowed": Instrument((1, 0.8, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1), 0.08, 0.0, 12.0),
    "reed": Instrument((1, 0.1, 0.7, 0.1, 0.5, 0.1, 0.3), 0.03, 0.0),
    "flute": Instrument((1, 0.25, 0.1, 0.03), 0.06, 0.0, 6.0),
    "pipes": Instrument((1, 0.7, 0.1, 0.5, 0.05, 0.05, 0.05, 0.3), 0.02, 0.0),
}
TEST_PITCHES = tuple(range(48, 84, 3))  # C3 to A5


def synthesize(
    name: str, pitch: float, seconds: float, sample_rate: int
) -> npt.NDArray[np.float32]:
    """Return one note, float32 [T].

    Args:
        name: One of `INSTRUMENTS`.
        pitch: MIDI number.
        seconds: Its length.
        sample_rate: In Hz.
    """
    instrument = INSTRUMENTS[name]
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    depth = hertz * (2 ** (instrument.vibrato_cents / 1200) - 1)
    phase = 2 * np.pi * hertz * time - depth / 5.5 * np.cos(2 * np.pi * 5.5 * time)
    sound = np.zeros(len(time))
    for k, amplitude in enumerate(instrument.partials, start=1):
        if k * hertz < HIGHEST_SHARE * sample_rate:
            fading = np.exp(-instrument.decay * np.sqrt(k) * time)
            sound += amplitude * fading * np.sin(k * phase + k)
    release = np.clip((seconds - time) / 0.02, 0, 1)
    sound *= np.minimum(1, time / instrument.attack_seconds) * release
    return (PEAK * sound / max(float(np.abs(sound).max(initial=0)), 1e-9)).astype(np.float32)
