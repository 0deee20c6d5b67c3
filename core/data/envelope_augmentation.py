"""Another course of loudness for the same notes, one of the distortions of training.

What a note does after it has begun — dies away, swells, stays — belongs to the instrument
and not to the music. Heard with a course that its instrument does not have, it has to be
given back with the one that it has; so decoders learn to shape notes themselves, and do not
take the shape over from whatever they translate. The paper's distortion does the same for
pitch (Mor et al. 2019, sec. 3.3).

Works in bands of a third of an octave, in which notes of a chord are mostly apart.
"""

from __future__ import annotations

import numpy as np
import torch

WINDOW_SECONDS = 0.046
LOWEST_BAND_HZ = 50.0
BANDS_PER_OCTAVE = 3
ONSET_DB = 4.0  # a band that rises by more than this within `RISE_FRAMES` begins a note
RISE_FRAMES = 3
RANGE_DB = 45.0  # below the band's loudest moment; what is quieter is left where it is
EVENING = (0.0, 0.7)  # of a band's differences in level, how much is left
DECAY_DB_PER_SECOND = (6.0, 50.0)
ATTACK_SECONDS = (0.02, 0.2)
ATTACK_DB = 24.0  # a swelling note begins this far below


def reshape_notes(waveform: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Even out, let die away, or swell the notes.

    Args:
        waveform: float32 [T], -1..1.
        sample_rate: Hz.
        rng: Source of all random choices.

    Returns:
        float32 [T], as loud as before.
    """
    n_fft = 2 ** round(np.log2(WINDOW_SECONDS * sample_rate))
    hop = n_fft // 4
    window = torch.hann_window(n_fft)
    length = -(-len(waveform) // hop) * hop
    padded = torch.from_numpy(np.pad(waveform, (0, length - len(waveform))))
    spectrum = torch.stft(
        padded, n_fft, hop, window=window, pad_mode="constant", return_complex=True
    )
    to_bands = _bands(n_fft, sample_rate)
    power = spectrum.real.square() + spectrum.imag.square()
    levels = 10 * np.log10(power.T.numpy() @ to_bands + 1e-10)
    gains_db = _course(levels, hop / sample_rate, rng).astype(np.float32) @ to_bands.T
    gains = torch.from_numpy(10 ** (gains_db.T / 20))
    result = torch.istft(spectrum * gains, n_fft, hop, window=window, length=length).numpy()
    result = result[: len(waveform)]
    before, after = (float(np.mean(np.square(x), dtype=np.float64)) for x in (waveform, result))
    return result * np.float32(np.sqrt(before / max(after, 1e-12)))


def _bands(n_fft: int, sample_rate: int) -> np.ndarray:
    """Return float32 [bins, bands]: sums power into bands, and interpolates between them."""
    hertz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    place = np.log2(np.maximum(hertz, LOWEST_BAND_HZ) / LOWEST_BAND_HZ) * BANDS_PER_OCTAVE
    bands = np.arange(int(place[-1]) + 2)
    weights: np.ndarray = np.maximum(0, 1 - np.abs(place[:, None] - bands)).astype(np.float32)
    return weights


def _course(levels: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return gains in dB for levels [frames, bands] in dB, `seconds` apart."""
    below = levels.max(0) - levels
    evening = (1 - rng.uniform(*EVENING)) * np.clip(below, 0, RANGE_DB)
    if rng.random() < 0.5:
        course = evening
    else:
        age = _age(levels) * seconds
        # A decay on top of evened notes, so that a struck note can turn into another one.
        course = evening * (rng.random() < 0.5) - rng.uniform(*DECAY_DB_PER_SECOND) * age
    if rng.random() < 0.5:
        attack = rng.uniform(*ATTACK_SECONDS)
        course -= ATTACK_DB * np.maximum(0, 1 - _age(levels) * seconds / attack)
    # Silence between notes stays silence.
    gains: np.ndarray = np.maximum(course, -40) * (below < RANGE_DB)
    return gains


def _age(levels: np.ndarray) -> np.ndarray:
    """Return for how many frames the newest note of each band has been sounding."""
    age = np.zeros_like(levels)
    for frame in range(1, len(levels)):
        rise = levels[frame] - levels[max(0, frame - RISE_FRAMES)]
        age[frame] = np.where(rise > ONSET_DB, 0, age[frame - 1] + 1)
    return age
