"""Give notes other amplitude envelopes, one of the distortions of training.

How a note goes on after its onset (it decays, swells, or is held) belongs to the instrument and
not to the music. If the encoder's input has envelopes that the target's instrument does not
have, the decoder has to learn its own instrument's envelopes, and cannot copy those of whatever
it translates. The paper's distortion does the same for pitch (Mor et al. 2019, sec. 3.3).

The envelopes are changed in bands of a third of an octave, which mostly separate the notes of a
chord. A module of its own, because nothing in it is shared with the filters of `augment`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW_SECONDS = 0.046
LOWEST_BAND_HZ = 50.0
BANDS_PER_OCTAVE = 3
ONSET_DB = 4.0  # a band that rises by more than this within `RISE_FRAMES` begins a note
RISE_FRAMES = 3
RANGE_DB = 45.0  # below the band's loudest frame; what is quieter is not touched
LEFT_DYNAMICS = (0.0, 0.7)  # share of a band's differences in level that is left
DECAY_DB_PER_SECOND = (6.0, 50.0)
ATTACK_SECONDS = (0.02, 0.2)
ATTACK_DB = 24.0  # a swelling note begins this far below
LOWEST_GAIN_DB = -40.0


def reshape_notes(
    waveform: NDArray[np.float32], sample_rate: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Level out, decay, or swell the notes.

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
    gains_db = _envelope_gains(levels, hop / sample_rate, rng).astype(np.float32) @ to_bands.T
    gains = torch.from_numpy(10 ** (gains_db.T / 20))
    result = torch.istft(spectrum * gains, n_fft, hop, window=window, length=length).numpy()
    result = result[: len(waveform)]
    before, after = (float(np.mean(np.square(x), dtype=np.float64)) for x in (waveform, result))
    return result * np.float32(np.sqrt(before / max(after, 1e-12)))


def _bands(n_fft: int, sample_rate: int) -> NDArray[np.float32]:
    """Return float32 [bins, bands]: sums power into bands, and interpolates between them."""
    hertz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    place = np.log2(np.maximum(hertz, LOWEST_BAND_HZ) / LOWEST_BAND_HZ) * BANDS_PER_OCTAVE
    bands = np.arange(int(place[-1]) + 2)
    weights: NDArray[np.float32] = np.maximum(0, 1 - np.abs(place[:, None] - bands)).astype(
        np.float32
    )
    return weights


def _envelope_gains(
    levels: NDArray[np.floating], seconds: float, rng: np.random.Generator
) -> NDArray[np.floating]:
    """Return gains in dB, float [frames, bands].

    Args:
        levels: Of the waveform in dB, float [frames, bands].
        seconds: From one frame to the next.
        rng: Source of all random choices.
    """
    below = levels.max(0) - levels
    levelling = (1 - rng.uniform(*LEFT_DYNAMICS)) * np.clip(below, 0, RANGE_DB)
    if rng.random() < 0.5:
        gains_db = levelling
    else:
        age = _age(levels) * seconds
        # A decay on top of levelled notes, so that a struck note can get another decay.
        gains_db = levelling * (rng.random() < 0.5) - rng.uniform(*DECAY_DB_PER_SECOND) * age
    if rng.random() < 0.5:
        attack = rng.uniform(*ATTACK_SECONDS)
        gains_db -= ATTACK_DB * np.maximum(0, 1 - _age(levels) * seconds / attack)
    # Silence between notes stays silent.
    result: NDArray[np.floating] = np.maximum(gains_db, LOWEST_GAIN_DB) * (below < RANGE_DB)
    return result


def _age(levels: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return how many frames ago the newest note of each band began, float [frames, bands]."""
    age = np.zeros_like(levels)
    for frame in range(1, len(levels)):
        rise = levels[frame] - levels[max(0, frame - RISE_FRAMES)]
        age[frame] = np.where(rise > ONSET_DB, 0, age[frame - 1] + 1)
    return age
