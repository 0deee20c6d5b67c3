"""How a file sounds by itself; each figure is to be held against the target domain's own.

`clipped_fraction`: share of samples at full scale, 0 to 1; clean audio has 0.
`silence_fraction`: share of 50 ms frames below -60 dBFS, 0 to 1.
`spectral_flatness`: geometric over arithmetic mean of the power spectrum from 100 Hz to 7 kHz, mean
    over frames; from 0 (a pure tone) to about 0.56 (white noise). Johnston 1988.
`spectral_contrast_db`: level of the strongest over the weakest fifth of the bins in each octave,
    mean over octaves and frames, in dB from 0. Clear partials score high, smeared and noisy sound
    low. Jiang et al. 2002, "Music type classification by spectral contrast feature".
`harmonic_share`: share of the energy below 6 kHz that median filtering gives to steady partials and
    not to vertical strokes, 0 to 1. Sound whose partials waver and melt together scores low.
    Fitzgerald 2010, "Harmonic/percussive separation using median filtering".
`attack_sharpness_db`: the fastest rise within 20 ms of the level in 24 mel bands, mean over bands;
    then the largest of each second, mean over the seconds that sound. dB, from 0.
`out_of_band_share`: share of the energy above the frequency below which 99 % of the target domain's
    energy lies; 0 to 1, and 0.01 in the domain itself.

How well each of them tells clean sound from spoilt is in `docs/evaluation.md`. Attacks do not:
smeared plucked and struck strings are told, but organs and bowed strings have no sharp attacks to
lose.

No samples are an error (AudioError). Silence has a silence_fraction of 1 and a clipped_fraction of
0; whatever needs sound is None. Spectra are of frames no more than 40 dB below the file's loud
ones, and of a file longer than two minutes they are of 12 excerpts of 10 s, evenly spread.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from core.metrics.partials import (
    FLATNESS_HZ,
    HOP,
    WINDOW,
    harmonic_share,
    spectral_contrast_db,
    spectral_flatness,
)
from core.metrics.spectra import (
    ANALYSIS_RATE,
    Waveform,
    at_analysis_rate,
    frame_blocks,
    mel_filters,
    power_blocks,
    sounding,
)

FULL_SCALE = 32_766 / 32_768  # one 16-bit step below the top is clipped too
SILENCE_DBFS = -60.0
SILENCE_HOP = ANALYSIS_RATE // 20  # samples in 50 ms

EXCERPT = 10 * ANALYSIS_RATE
MAX_EXCERPTS = 12

SPECTRAL_FLOOR = 1e-7  # of the mean power of a bin

ATTACK_WINDOW, ATTACK_HOP, ATTACK_MELS = 512, ANALYSIS_RATE // 100, 24
ATTACK_FRAMES = 2  # 20 ms
ATTACK_FLOOR = 1e-4  # of the mean band power; rises below it are inaudible

ROLLOFF_SHARE = 0.99


def evaluate(waveform: npt.NDArray[np.floating], sample_rate: int) -> dict[str, float | None]:
    """Compute the figures that need the file alone: all but `out_of_band_share`.

    Args:
        waveform: float [T]; clipping is looked for in it as it is.
        sample_rate: in Hz.

    Returns:
        The figures in the order of the module's docstring. None: not defined for silence.

    Raises:
        AudioError: not a mono waveform of finite floats with at least one sample.
    """
    heard = at_analysis_rate(waveform, sample_rate, name="output")
    power = spectrogram(heard)
    return {
        "clipped_fraction": clipped_fraction(waveform),
        "silence_fraction": silence_fraction(heard),
        "spectral_flatness": spectral_flatness(power),
        "spectral_contrast_db": spectral_contrast_db(power),
        "harmonic_share": harmonic_share(power),
        "attack_sharpness_db": attack_sharpness_db(heard),
    }


def clipped_fraction(waveform: npt.NDArray[np.floating]) -> float:
    """Return the share of samples [T], at the file's own rate, that are at full scale."""
    return float(np.mean(np.abs(waveform) >= FULL_SCALE))


def silence_fraction(waveform: Waveform) -> float:
    """Return the share of 50 ms frames of a waveform [T] at 16 kHz that are below -60 dBFS."""
    blocks = frame_blocks(waveform, SILENCE_HOP, SILENCE_HOP, centred=False)
    energy = torch.cat([frames.square().sum(dim=1) for frames in blocks])
    lengths = torch.full_like(energy, SILENCE_HOP)
    lengths[-1] = len(waveform) - (len(energy) - 1) * SILENCE_HOP
    return float((energy / lengths < 10 ** (SILENCE_DBFS / 10)).float().mean())


def spectrogram(waveform: Waveform) -> torch.Tensor:
    """Return power spectra [L, 1025] of the sounding frames of a waveform [T] at 16 kHz.

    They are relative to their mean, on a floor of -70 dB: how deep a digital pause between two
    partials is says something about number formats, nothing about sound.
    """
    spectra = [block for part in _excerpts(waveform) for block in power_blocks(part, WINDOW, HOP)]
    power = torch.cat(spectra)
    heard = power[sounding(power.sum(dim=1), WINDOW)]
    return heard / heard.mean() + SPECTRAL_FLOOR if len(heard) else heard


def _excerpts(waveform: Waveform) -> list[Waveform]:
    if len(waveform) <= MAX_EXCERPTS * EXCERPT:
        return [waveform]
    starts = np.linspace(0, len(waveform) - EXCERPT, MAX_EXCERPTS).astype(int)
    return [waveform[start : start + EXCERPT] for start in starts]


def attack_sharpness_db(waveform: Waveform) -> float | None:
    """Return how fast sound sets in within a waveform [T] at 16 kHz; None if it is silent."""
    fastest = [rises for part in _excerpts(waveform) for rises in _fastest_rises(part)]
    return float(np.mean(fastest)) if fastest else None


def _fastest_rises(waveform: Waveform) -> list[float]:
    """Return the fastest rise in dB of each second in which something sounds."""
    filters = mel_filters(ATTACK_WINDOW, ATTACK_MELS, *map(float, FLATNESS_HZ))
    spectra = list(power_blocks(waveform, ATTACK_WINDOW, ATTACK_HOP))
    cut = ATTACK_WINDOW // 2 // ATTACK_HOP + 1  # windows that reach beyond the ends
    power = torch.cat([block.sum(dim=1) for block in spectra])[cut:-cut]
    bands = torch.cat([block @ filters for block in spectra])[cut:-cut]
    if len(bands) <= ATTACK_FRAMES or not power.any():
        return []
    levels = 10 * (bands / bands.mean() + ATTACK_FLOOR).log10()
    rises = (levels[ATTACK_FRAMES:] - levels[:-ATTACK_FRAMES]).relu().mean(dim=1)
    heard = sounding(power, ATTACK_WINDOW)[ATTACK_FRAMES:]
    rate = ANALYSIS_RATE // ATTACK_HOP
    seconds = zip(torch.split(rises, rate), torch.split(heard, rate), strict=True)
    return [float(rise.max()) for rise, sounds in seconds if sounds.any()]


def long_term_spectrum(waveform: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the share of a waveform's energy in each bin [1025] up to half its own rate.

    Args:
        waveform: float [T].

    Returns:
        Shares that sum to 1, or zeros for silence; bin k is at k * sample_rate / 2048.
    """
    total = torch.zeros(1 + WINDOW // 2, dtype=torch.float64)
    for block in power_blocks(np.asarray(waveform, dtype=np.float32), WINDOW, HOP):
        total += block.double().sum(dim=0)
    return (total / total.sum().clamp_min(1e-12)).numpy()


def rolloff_hz(spectrum: npt.NDArray[np.float64], sample_rate: int) -> float:
    """Return the frequency below which 99 % of a `long_term_spectrum` [1025] lies."""
    below = np.cumsum(spectrum)
    return float(np.searchsorted(below, ROLLOFF_SHARE * below[-1]) * sample_rate / WINDOW)


def out_of_band_share(
    spectrum: npt.NDArray[np.float64], sample_rate: int, domain_rolloff_hz: float
) -> float | None:
    """Return the share of a `long_term_spectrum` [1025] above a frequency; None for silence."""
    hertz = np.arange(len(spectrum)) * sample_rate / WINDOW
    return float(spectrum[hertz > domain_rolloff_hz].sum()) if spectrum.any() else None
