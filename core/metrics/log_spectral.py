"""The log-spectral distance, as published.

Definition: Cífka, Ozerov, Şimşekli & Richard 2021, "Self-supervised VQ-VAE for one-shot music style
transfer", by their published evaluation, so that figures compare with theirs. The output is cut or
padded with silence to the reference; both are at 16 kHz and scaled to a root mean square of 1.
Power spectrograms in 128 Slaney mel bands (window 2048, hop 512, ends reflected) are put in
decibels, no lower than 80 dB below each file's loudest cell. In each band the root mean square
difference over time is taken (textbooks take it over frequency), then the mean over bands.

Unit: dB. Range: from 0 (identical) upwards; lower is better.

How well it tells another rendering from the unchanged input is in `docs/evaluation.md`. Smeared
sound is nearer to its own original than the unchanged input is: `core.metrics.quality` hears that
better.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from core.metrics.spectra import ANALYSIS_RATE, Waveform, at_analysis_rate, mel_filters

LSD_WINDOW, LSD_HOP, LSD_MELS = 2048, 512, 128
LSD_RANGE_DB = 80.0


def log_spectral_distance_db(
    output: npt.NDArray[np.floating], reference: npt.NDArray[np.floating], sample_rate: int
) -> float | None:
    """Return the log-spectral distance of an output to its true rendering.

    Args:
        output: float [T].
        reference: float [T'], the same music truly played.
        sample_rate: of both, in Hz.

    Returns:
        The distance in dB, or None if the reference is silent.

    Raises:
        AudioError: either is not a mono waveform of finite floats with at least one sample.
    """
    heard = [
        at_analysis_rate(waveform, sample_rate, name=name)
        for waveform, name in ((output, "output"), (reference, "reference"))
    ]
    if not heard[1].any():
        return None
    return distance_db(*(mel_decibels(waveform, len(heard[1])) for waveform in heard))


def distance_db(output: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the distance in dB of two arrays [L, 128] that `mel_decibels` made."""
    return float((output - reference).square().mean(dim=0).sqrt().mean())


def mel_decibels(waveform: Waveform, length: int) -> torch.Tensor:
    """Return [L, 128] decibels, as librosa 0.8's defaults at 16 kHz give them.

    Args:
        waveform: float32 [T] at 16 kHz, cut or padded with silence to the length.
        length: in samples, at least 1.
    """
    fitted = np.pad(waveform[:length], (0, max(0, length - len(waveform))))
    level = np.sqrt(np.mean(fitted**2)) + np.finfo(np.float32).eps
    padded = np.pad(fitted / level, LSD_WINDOW // 2, mode="reflect")
    frames = torch.from_numpy(padded).unfold(0, LSD_WINDOW, LSD_HOP)
    filters = mel_filters(LSD_WINDOW, LSD_MELS, 0.0, ANALYSIS_RATE / 2)
    window = torch.hann_window(LSD_WINDOW)
    blocks = [
        torch.fft.rfft(part * window).abs().square() @ filters for part in torch.split(frames, 1024)
    ]
    decibels = 10 * torch.cat(blocks).clamp_min(1e-10).log10()
    return decibels.clamp_min(float(decibels.max()) - LSD_RANGE_DB)
