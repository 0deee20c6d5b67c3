"""Transposition of the spectral family's latents: what one key says, another one says.

Whole semitones are exact. Fractions are added to the pitches of keys, which models without pitch
latents do not have.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from core.errors import UsageError
from core.families.spectral.salience import N_KEYS

if TYPE_CHECKING:
    from torch import Tensor

    from core.config import SpectralConfig

# Presence and onset of a key where nothing sounds: -80 dB, and no rise of it.
NOTHING = (math.tanh(-1.0), math.tanh(-1.0), 0.0)
FURTHEST_SEMITONES = 48.0
SMALLEST_FRACTION = 1e-6  # of a semitone; less is rounding


def transpose(latents: Tensor, config: SpectralConfig, semitones: float) -> Tensor:
    """Move notes up or down; what leaves the piano's keys is lost.

    Args:
        latents: float [..., D].
        config: The family's configuration.
        semitones: By how many, -48 to 48.

    Returns:
        float [..., D]; the channels that do not belong to keys are as they were.

    Raises:
        UsageError: Too far, or a fraction and the model has no pitch latents.
    """
    if not abs(semitones) <= FURTHEST_SEMITONES:
        raise UsageError(f"transpose {semitones:g}: expected semitones from -48 to 48")
    n_moved = round(semitones)
    fraction = semitones - n_moved
    if abs(fraction) > SMALLEST_FRACTION and not config.pitch_latents:
        raise UsageError(
            f"transpose {semitones:g}: this model has no pitch latents and moves by whole "
            "semitones only"
        )
    n_kinds = 3 if config.pitch_latents else 2
    n_others = latents.shape[-1] - n_kinds * N_KEYS
    *keys, others = torch.split(latents, [N_KEYS] * n_kinds + [n_others], -1)
    moved = []
    for own, nothing in zip(keys, NOTHING[:n_kinds], strict=True):
        filled = torch.full_like(own, nothing)
        kept = N_KEYS - abs(n_moved)
        start, end = max(n_moved, 0), max(-n_moved, 0)
        filled[..., start : start + kept] = own[..., end : end + kept]
        moved.append(filled)
    if config.pitch_latents:
        moved[2] = moved[2] + fraction
    return torch.cat([*moved, others], -1)
