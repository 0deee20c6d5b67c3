"""Reconstruction losses of the spectral family."""

from __future__ import annotations

import torch
from torch import Tensor

from core.families.spectral.spectrogram import spectrogram

# Long windows see pitch, short ones attacks (Yamamoto et al. 2020, arXiv 1910.11480).
FFT_LENGTHS = (4096, 2048, 1024, 256)
FLOOR = 1e-4  # differences below -80 dB of full scale do not count


def multi_resolution_loss(output: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """Compare magnitudes at several window lengths.

    At each length: the mean absolute difference of log magnitudes in nepers, weighted over
    frequency as the mel scale is dense, plus the spectral convergence (the norm of the
    difference over the target's norm).

    Args:
        output: float [B, T].
        target: float [B, T].
        sample_rate: Hz.

    Returns:
        Scalar, 0 for equal magnitudes, mean over window lengths.
    """
    total = output.new_zeros(())
    for n_fft in FFT_LENGTHS:
        hop = n_fft // 4
        length = output.shape[1] // hop * hop
        found = spectrogram(output[:, :length], n_fft, hop)
        wanted = spectrogram(target[:, :length], n_fft, hop)
        weights = mel_density(wanted.shape[2], sample_rate).to(output)
        distance = ((found + FLOOR).log() - (wanted + FLOOR).log()).abs()
        total = total + (distance * weights).mean()
        # Each item by itself: a loud one must not drown the others, nor the result depend on
        # how a batch is shared.
        norms = (found - wanted).flatten(1).norm(dim=1), wanted.flatten(1).norm(dim=1)
        total = total + (norms[0] / norms[1].clamp(min=1e-3)).mean()
    return total / len(FFT_LENGTHS)


def mel_density(n_bins: int, sample_rate: int) -> Tensor:
    """Return how many mels a linear frequency bin holds, float [n_bins], mean 1."""
    frequencies = torch.linspace(0, sample_rate / 2, n_bins)
    density = 1 / (1 + frequencies / 700)
    return density / density.mean()
