"""The log-spectral distance, as published.

Definition: Cífka, Ozerov, Şimşekli & Richard 2021, "Self-supervised VQ-VAE for one-shot music style
transfer", by their published evaluation, so that figures compare with theirs. The output is cut or
padded with silence to the reference; both are at 16 kHz and scaled to a root mean square of 1.
Power spectrograms in 128 Slaney mel bands (window 2048, hop 512, ends reflected) are put in
decibels, no lower than 80 dB below each file's loudest cell. In each band the root mean square
difference over time is taken (textbooks take it over frequency), then the mean over bands.

Unit: dB. Range: from 0 (identical) upwards; lower is better. To a silent reference it is not
defined; `core.evaluation.analysis` leaves such a reference out.

Limits: smeared sound is nearer to its own original than the unchanged input is;
`core.metrics.quality` detects smearing more reliably (`docs/evaluation.md` has the figures).
"""

from __future__ import annotations

import numpy as np
import torch

from core.metrics.spectra import ANALYSIS_RATE, Waveform, mel_filters

LSD_WINDOW, LSD_HOP, LSD_MELS = 2048, 512, 128
LSD_RANGE_DB = 80.0


def distance_db(output: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the distance in dB of two arrays [L, 128] that `mel_decibels` made."""
    return float((output - reference).square().mean(dim=0).sqrt().mean())


def mel_decibels(waveform: Waveform, length: int) -> torch.Tensor:
    """Return [L, 128] decibels, as librosa 0.8's defaults at 16 kHz give them.

    Args:
        waveform: float32 [T] at 16 kHz, cut or padded with silence to the length.
        length: In samples, at least 1.
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
