"""The keys that domains have: from the scores of their recordings, else from what the model hears.

In: prepared domains, and a model. Out: `core.key_range.KeyRange` by domain, for the model file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from core.data.dataset import Segments, fixed_batch
from core.data.midi import BEGINS, KEY
from core.data.score import read_notes
from core.key_range import N_MIDI_KEYS, KeyRange, range_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core.data.domain import Domain
    from core.translator import Translator

HEARD_SECONDS = 300.0  # of a domain's recordings, at most
BATCH_ITEMS = 8


def score_range(domain: Domain) -> KeyRange | None:
    """Return the range of a domain's scores; None if a recording has none, or they have no octave.

    Args:
        domain: Prepared; those of its tracks that belong to no training count, too.

    Raises:
        DataError: A score is missing or damaged.
    """
    if not all(track.notes for track in domain.tracks):
        return None
    counts = np.zeros(N_MIDI_KEYS)
    for track in domain.tracks:
        notes = read_notes(domain.directory / track.notes)
        keys = notes[notes[:, BEGINS] > 0, KEY].round().astype(int)
        counts += np.bincount(keys.clip(0, N_MIDI_KEYS - 1), minlength=N_MIDI_KEYS)
    return range_of(counts.tolist())


@torch.inference_mode()
def heard_ranges(
    model: Translator, domains: Iterable[Domain], level_db: float | None
) -> dict[str, KeyRange]:
    """Return the ranges of the notes that an encoder finds in domains' training recordings.

    Args:
        model: Its encoder finds notes, or nothing is returned.
        domains: Prepared.
        level_db: As for `core.data.dataset.Segments`.

    Returns:
        By name, without domains whose music has no octave.
    """
    notes = model.family_description.notes
    if notes is None:
        return {}
    training, length = model.config.training, model.config.segment_length
    model.eval()
    ranges = {}
    for domain in domains:
        segments = Segments(
            domain, "train", sample_rate=model.sample_rate, length=length, level_db=level_db
        )
        seconds = min(HEARD_SECONDS, 60 * domain.minutes("train"))
        n_items = max(1, round(seconds * model.sample_rate / length))
        counts = torch.zeros(N_MIDI_KEYS)
        for part in torch.split(fixed_batch(segments, n_items, training.seed), BATCH_ITEMS):
            latents = model.encoder(part.to(model.device)).flatten(0, 1)
            counts += notes.count(latents, model.config.model)
        keys = range_of(counts.tolist())
        if keys is not None:
            ranges[domain.name] = keys
    return ranges
