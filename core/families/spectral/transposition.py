"""Notes of the spectral family's latents on other keys: transposed, or folded into a range.

Whole semitones are exact. Fractions are added to the pitches of keys, which models without pitch
latents do not have.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from core.errors import UsageError
from core.families.spectral.salience import LOWEST_KEY, N_KEYS
from core.key_range import N_MIDI_KEYS

if TYPE_CHECKING:
    from torch import Tensor

    from core.config import SpectralConfig
    from core.key_range import KeyRange

# Presence and onset of a key where nothing sounds: -80 dB, and no rise of it.
NOTHING = (math.tanh(-1.0), math.tanh(-1.0), 0.0)
FURTHEST_SEMITONES = 48.0
SMALLEST_FRACTION = 1e-6  # of a semitone; less is rounding
# A key is a note, and not the overtone of one, from the first level below the loudest key of the
# frame on until it is below the second one. Presences are on a scale of 40 dB a unit.
BEGINS_WITHIN, ENDS_BEYOND = 20 / 40, 32 / 40
FAINTEST_NOTE = -0.4  # -56 dB


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
    kinds, others = _split(latents, config)
    moved = []
    for own, nothing in zip(kinds, NOTHING, strict=False):
        filled = torch.full_like(own, nothing)
        kept = N_KEYS - abs(n_moved)
        start, end = max(n_moved, 0), max(-n_moved, 0)
        filled[..., start : start + kept] = own[..., end : end + kept]
        moved.append(filled)
    if config.pitch_latents:
        moved[2] = moved[2] + fraction
    return torch.cat([*moved, others], -1)


class OctaveFold:
    """Moves the notes of one stream that are outside a range by octaves into it.

    A key's presence, onset and pitch go to the nearest octave in the range; where that key sounds
    itself, the louder of both is kept. What is no note, but 20 dB and more below the loudest key,
    stays: the overtones that an encoder leaves would sound a fifth or a third beside their note.

    Args:
        config: The family's configuration.
        keys: The range.

    Attributes:
        n_below: Frames of notes so far that were moved up.
        n_above: Frames of notes so far that were moved down.
    """

    def __init__(self, config: SpectralConfig, keys: KeyRange) -> None:
        self.config = config
        self.first, self.last = (key - LOWEST_KEY for key in (keys.lowest, keys.highest))
        self.n_below = self.n_above = 0
        self._were_notes: Tensor | None = None  # of the frame before, bool [keys]

    def __call__(self, latents: Tensor) -> Tensor:
        """Return the next frames, float [L, D] or [L, C, D], with their notes in the range."""
        if not len(latents):
            return latents
        kinds, others = _split(latents, self.config)
        levels = _levels(kinds[0])
        is_moved = self._notes(levels)
        is_moved[:, max(self.first, 0) : self.last + 1] = False
        if not is_moved.any():
            return latents
        self.n_below += int(is_moved[:, : max(self.first, 0)].sum())
        self.n_above += int(is_moved[:, self.last + 1 :].sum())
        kept = levels.where(~is_moved, -math.inf)
        folded = [
            own.where(_beside(~is_moved, own), nothing)
            for own, nothing in zip(kinds, NOTHING, strict=False)
        ]
        for key in is_moved.any(0).nonzero()[:, 0].tolist():
            place = self.place(key)
            if not 0 <= place < N_KEYS:
                continue
            wins = is_moved[:, key] & (levels[:, key] > kept[:, place])
            kept[:, place] = levels[:, key].where(wins, kept[:, place])
            for own, before in zip(folded, kinds, strict=True):
                own[..., place] = before[..., key].where(
                    _beside(wins, own[..., 0]), own[..., place]
                )
        return torch.cat([*folded, others], -1)

    def place(self, key: int) -> int:
        """Return where a key outside the range goes; both counted from the piano's lowest."""
        if key < self.first:
            return key + 12 * math.ceil((self.first - key) / 12)
        return key - 12 * math.ceil((key - self.last) / 12)

    def _notes(self, levels: Tensor) -> Tensor:
        """Return which keys are notes in each frame, bool [L, keys]."""
        loudest = _loudest(levels)
        begins, ends = levels > loudest - BEGINS_WITHIN, levels < loudest - ENDS_BEYOND
        frames = torch.arange(len(levels), device=levels.device).unsqueeze(1)
        last_change = frames.where(begins | ends, -1).cummax(0).values
        before = torch.zeros_like(begins[0]) if self._were_notes is None else self._were_notes
        are_notes = begins.gather(0, last_change.clamp(min=0)).where(last_change >= 0, before)
        self._were_notes = are_notes[-1]
        return are_notes


def count_notes(latents: Tensor, config: SpectralConfig) -> Tensor:
    """Return in how many frames each key is a note, float [128], by MIDI number.

    Args:
        latents: float [L, D] or [L, C, D].
        config: The family's configuration.
    """
    levels = _levels(_split(latents, config)[0][0])
    counts = torch.zeros(N_MIDI_KEYS)
    counts[LOWEST_KEY : LOWEST_KEY + N_KEYS] = (
        (levels > _loudest(levels) - BEGINS_WITHIN).sum(0).cpu()
    )
    return counts


def _split(latents: Tensor, config: SpectralConfig) -> tuple[list[Tensor], Tensor]:
    """Return presences, onsets and pitches of keys as far as there are any, and the rest."""
    n_kinds = 3 if config.pitch_latents else 2
    n_others = latents.shape[-1] - n_kinds * N_KEYS
    *kinds, others = torch.split(latents, [N_KEYS] * n_kinds + [n_others], -1)
    return kinds, others


def _levels(presence: Tensor) -> Tensor:
    """Return presences before the encoder limits them, float [L, keys]: of the louder channel."""
    levels = presence.clamp(-0.999, 0.999).atanh()
    return levels if levels.dim() == 2 else levels.amax(1)


def _loudest(levels: Tensor) -> Tensor:
    """Return the loudest key's level in each frame, float [L, 1]; not less where none sounds."""
    return levels.amax(1, keepdim=True).clamp(min=FAINTEST_NOTE + BEGINS_WITHIN)


def _beside(values: Tensor, like: Tensor) -> Tensor:
    """Return values of frames, [L, ...], in a shape that fits those of channels, [L, C, ...]."""
    return values if like.dim() == values.dim() else values.unsqueeze(1)
