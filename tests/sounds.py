"""Additive instruments for the metric tests: notes in, a waveform out, no file and no SoundFont."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RATE = 16_000

Waveform = npt.NDArray[np.float32]


def melody(seed: int, seconds: float) -> list[tuple[float, float, int]]:
    """Two random voices in one key and tempo: start and length in seconds, MIDI pitch."""
    rng = np.random.default_rng(seed)
    beat = rng.uniform(0.4, 0.7)
    scale = np.array([0, 2, 4, 5, 7, 9, 11]) + rng.integers(12)
    notes = []
    for base, lengths in ((60, (0.5, 1.0)), (43, (1.0, 2.0))):
        at, degree = 0.0, 0
        while at < seconds - 0.1:
            length = min(beat * float(rng.choice(lengths)), seconds - at)
            degree = int(np.clip(degree + rng.integers(-3, 4), 0, 10))
            notes.append((at, length, base + 12 * (degree // 7) + int(scale[degree % 7])))
            at += length
    return notes


def piano(
    notes: list[tuple[float, float, int]], rate: int = RATE, brightness: float = 1.0
) -> Waveform:
    """Sharp attacks, and every partial dies away, the higher ones sooner."""
    return _play(notes, rate, brightness, decays=True)


def organ(
    notes: list[tuple[float, float, int]], rate: int = RATE, brightness: float = 1.0
) -> Waveform:
    """Soft attacks, and steady partials while the key is down."""
    return _play(notes, rate, brightness, decays=False)


def _play(notes, rate, brightness, *, decays) -> Waveform:
    end = max(start + length for start, length, _ in notes)
    sound = np.zeros(round(end * rate))
    for start, length, pitch in notes:
        first = round(start * rate)
        t = np.arange(min(round(length * rate), len(sound) - first)) / rate
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        attack, release = (0.004, 0.02) if decays else (0.05, 0.05)
        envelope = np.minimum(1, t / attack) * np.clip((length - t) / release, 0, 1)
        for k in (1, 2, 3, 4, 5, 6) if decays else (1, 2, 4, 8):
            if k * hertz < 0.45 * rate:
                decay = np.exp(-t * (1.5 + k)) if decays else 1.0
                tone = np.sin(2 * np.pi * k * hertz * t + k) / k**brightness
                sound[first : first + len(t)] += tone * envelope * decay
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> Waveform:
    """White noise at a tenth of full scale."""
    values = np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return (0.1 * values).astype(np.float32)


def smear(waveform: Waveform, seed: int = 0) -> Waveform:
    """Blur the magnitudes of an STFT over 9 bins and 5 frames and give them random phases."""
    import torch
    from torch.nn import functional as F

    window = torch.hann_window(2048)
    spectrum = torch.stft(
        torch.from_numpy(waveform), 2048, 512, window=window, return_complex=True
    ).abs()
    blurred = F.avg_pool2d(spectrum[None, None], (9, 5), 1, (4, 2))[0, 0]
    phases = 2 * np.pi * torch.rand(blurred.shape, generator=torch.Generator().manual_seed(seed))
    smeared = torch.istft(
        torch.polar(blurred, phases), 2048, 512, window=window, length=len(waveform)
    ).numpy()
    level = np.sqrt(np.mean(waveform**2) / np.mean(smeared**2))
    return (smeared * level).astype(np.float32)
