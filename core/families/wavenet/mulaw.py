"""Mu-law codes: the 8-bit alphabet of the WaveNet family.

One grid serves both directions, so that encoding a decoded code returns it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torchaudio.functional

if TYPE_CHECKING:
    from torch import Tensor

N_CLASSES = 256
SILENCE = 128  # the code of a zero sample, with which a sampler starts


def encode(waveform: Tensor) -> Tensor:
    """Quantise a waveform.

    Args:
        waveform: float [...], -1..1; beyond that it is clipped.

    Returns:
        Codes, int64 [...], values 0..255.
    """
    codes: Tensor = torchaudio.functional.mu_law_encoding(waveform.clamp(-1, 1), N_CLASSES)
    return codes


def decode(codes: Tensor) -> Tensor:
    """Return the waveform of codes, float32 [...], -1..1.

    Args:
        codes: int64 [...], values 0..255.
    """
    waveform: Tensor = torchaudio.functional.mu_law_decoding(codes, N_CLASSES)
    return waveform


def to_input(codes: Tensor) -> Tensor:
    """Return what the networks see of codes: float32 [...], -0.5..0.5."""
    return codes.float() / (N_CLASSES - 1) - 0.5
