"""Distort the encoder's input in training: O(s, r) of the paper.

In: a waveform. Out: one of the same length and timing, the same music with another timbre.
The paper shifts the pitch of a short segment (Mor et al. 2019, sec. 3.3); equalisation, noise
and rooms go beyond it, so that the encoder learns to ignore more than the training data's own
instruments and recordings. At inference nothing is distorted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import soxr
import torch

from core.data.envelope_augmentation import reshape_notes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.config import DistortionConfig

CROSSFADE_SECONDS = 0.005
VOCODER_WINDOW_SECONDS = 0.046
EQUALIZER_BANDS_HZ = (60, 150, 400, 1000, 2500, 6000, 15000)
NOISE_RANGE_DB = 40.0  # noise is drawn between the loudest allowed and this far below


def distort(
    waveform: NDArray[np.float32],
    sample_rate: int,
    config: DistortionConfig,
    rng: np.random.Generator,
    *,
    is_rendition: bool = False,
) -> NDArray[np.float32]:
    """Return a distorted copy.

    Args:
        waveform: float32 [T], -1..1.
        sample_rate: Hz.
        config: Which distortions, and how strong.
        rng: Source of all random choices.
        is_rendition: Whether this is another instrument already, with its own note envelopes.

    Returns:
        float32 [T].
    """
    result = waveform
    if not is_rendition and rng.random() < config.reshape_share:
        result = reshape_notes(result, sample_rate, rng)
    if config.pitch_semitones:
        result = _shift_random_segment(result, sample_rate, config, rng)
    if config.equalizer_db or config.room_seconds:
        result = _filter(result, sample_rate, config, rng)
    if config.noise_db:
        level = config.noise_db - NOISE_RANGE_DB * rng.random()
        rms = np.sqrt(np.mean(np.square(result), dtype=np.float64))
        noise = rng.standard_normal(len(result), dtype=np.float32)
        result = result + noise * np.float32(rms * 10 ** (level / 20))
    return result.astype(np.float32, copy=False)


def _shift_random_segment(
    waveform: NDArray[np.float32],
    sample_rate: int,
    config: DistortionConfig,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    shortest, longest = config.pitch_segment_seconds
    length = min(int(rng.uniform(shortest, longest) * sample_rate), len(waveform))
    start = int(rng.integers(len(waveform) - length + 1))
    semitones = rng.uniform(-config.pitch_semitones, config.pitch_semitones)
    segment = waveform[start : start + length]
    # Faded in and out against the original, so that the seams do not click.
    fade = min(int(CROSSFADE_SECONDS * sample_rate), length // 2)
    weight = np.ones(length, np.float32)
    weight[:fade] = np.linspace(0, 1, fade, dtype=np.float32)
    weight[length - fade :] = weight[:fade][::-1]
    result = waveform.copy()
    shifted = shift_pitch(segment, sample_rate, semitones)
    result[start : start + length] = segment + weight * (shifted - segment)
    return result


def shift_pitch(
    waveform: NDArray[np.float32], sample_rate: int, semitones: float
) -> NDArray[np.float32]:
    """Shift the pitch and keep the length: a phase vocoder, then resampling.

    `torchaudio.functional.pitch_shift` does the same, but resamples by the nearest fraction
    of whole rates, whose filter has millions of taps for most shifts.

    Args:
        waveform: float32 [T].
        sample_rate: Hz.
        semitones: How far up; negative is down.

    Returns:
        float32 [T].
    """
    import torchaudio.functional

    ratio = 2 ** (semitones / 12)
    n_fft = 2 ** round(np.log2(VOCODER_WINDOW_SECONDS * sample_rate))
    hop = n_fft // 4
    window = torch.hann_window(n_fft)
    # The vocoder smears an abrupt end over most of a window, which clicks: mirror both ends. A
    # very short waveform is followed by silence, to make up enough frames.
    reach = min(3 * hop, len(waveform) - 1)
    mirrored = np.pad(waveform, reach, mode="reflect")
    mirrored = np.pad(mirrored, (0, max(0, 3 * n_fft - len(mirrored))))
    spectrum = torch.stft(
        torch.from_numpy(mirrored),
        n_fft,
        hop,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    advance = torch.linspace(0, torch.pi * hop, n_fft // 2 + 1).unsqueeze(1)
    stretched = torchaudio.functional.phase_vocoder(spectrum, 1 / ratio, advance)
    longer = torch.istft(stretched, n_fft, hop, window=window).numpy()
    shifted: NDArray[np.float32] = soxr.resample(
        longer, ratio * sample_rate, sample_rate, quality="MQ"
    )
    return shifted[reach : reach + len(waveform)]


def _filter(
    waveform: NDArray[np.float32],
    sample_rate: int,
    config: DistortionConfig,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Apply a random smooth frequency response and a random room in one product."""
    longest = int(config.room_seconds * sample_rate)
    impulse = _room(longest, sample_rate, rng)
    n_fft = _fast_length(len(waveform) + longest)
    # Torch's FFT, because NumPy's would work in double precision.
    spectrum = torch.fft.rfft(torch.from_numpy(waveform), n_fft)
    if len(impulse) > 1:
        spectrum *= torch.fft.rfft(torch.from_numpy(impulse), n_fft)
    if config.equalizer_db:
        bands = np.log2(EQUALIZER_BANDS_HZ)
        gains_db = rng.uniform(-1, 1, len(bands)) * config.equalizer_db * rng.random()
        frequencies = np.fft.rfftfreq(n_fft, 1 / sample_rate)
        curve_db = np.interp(np.log2(np.maximum(frequencies, 1)), bands, gains_db)
        spectrum *= torch.from_numpy(10 ** (curve_db.astype(np.float32) / 20))
    filtered: NDArray[np.float32] = torch.fft.irfft(spectrum, n_fft)[: len(waveform)].numpy()
    return filtered


def _fast_length(shortest: int) -> int:
    """Return the length from `shortest` up that is a power of two, or 3, 5 or 9 times one."""
    return min(odd << max(0, math.ceil(math.log2(shortest / odd))) for odd in (1, 3, 5, 9))


def _room(longest: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return an impulse response: the direct sound, and for half of the draws a tail.

    The tail is noise that decays by 60 dB within a random time (Moorer 1979); the direct
    sound comes first, so that the music keeps its timing.
    """
    has_room, share, wet_db = rng.random() < 0.5, rng.uniform(0.1, 1), rng.uniform(-30, -6)
    impulse = np.zeros(max(int(longest * share), 2) if longest and has_room else 1, np.float32)
    impulse[0] = 1
    length = len(impulse)
    if length > 1:
        decay = 10 ** (-3 * np.arange(length) / length)
        tail = rng.standard_normal(length) * decay
        before = int(0.002 * sample_rate)
        tail[: min(before, length)] = 0  # nothing arrives at once with the direct sound
        norm = np.sqrt(np.sum(tail**2))
        impulse += (tail / max(norm, 1e-9) * 10 ** (wet_db / 20)).astype(np.float32)
    return impulse
