"""A model on held-out tracks of prepared domains: reconstruction, and what its latents encode.

In: a translator and prepared domains. Out: the family's held-out figure beside baselines that need
no model or only a small one, and how much of the instrument is left in the latents. The
definitions are in `core.metrics.linear_prediction` and `core.metrics.latents`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.data.dataset import Segments, fixed_batch
from core.errors import DataError
from core.heldout import hear
from core.metrics import tones
from core.metrics.latents import NoteTest, note_test, probe_accuracy
from core.metrics.linear_prediction import autoregressive_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core.data.domain import Domain
    from core.translator import Translator

ITEMS_PER_SPLIT = 64
NOTE_SECONDS = 1.0


@dataclass(frozen=True)
class DomainFigures:
    """Figures of a model on one split of one domain.

    Attributes:
        domain: The domain.
        split: The split.
        minutes: How much audio the split holds.
        figure: The family's held-out figure.
        baselines: The same figure of predictions that need no model, by name.
        confusion_accuracy: Fraction of segments whose domain the confusion network finds, as in
            `core.heldout`.
    """

    domain: str
    split: str
    minutes: float
    figure: float
    baselines: dict[str, float]
    confusion_accuracy: float | None


@dataclass(frozen=True)
class ModelFigures:
    """Figures of a model.

    Attributes:
        domains: Figures of each domain and split.
        probe_accuracy: How often a probe finds the domain of held-out latents; None without
            training and held-out audio of two domains.
        probe_chance: The accuracy of guessing.
        notes: The paper's test of notes; None if the latents are all alike.
    """

    domains: list[DomainFigures]
    probe_accuracy: float | None
    probe_chance: float | None
    notes: NoteTest | None


@torch.no_grad()
def evaluate_model(
    model: Translator,
    domains: Sequence[Domain],
    splits: Sequence[str],
    *,
    on_measured: Callable[[], None] | None = None,
) -> ModelFigures:
    """Measure a model on held-out segments, drawn the same way at every call.

    Args:
        model: With the decoders of all those domains.
        domains: Prepared domains that the model knows.
        splits: Those to measure; a domain without audio in a split is left out.
        on_measured: Called after each domain.
    """
    found: list[DomainFigures] = []
    latents: dict[str, dict[str, torch.Tensor]] = {}
    for domain in domains:
        items = {
            split: segments
            for split in splits
            if (segments := _items(model, domain, split)) is not None
        }
        for split, waveform in items.items():
            heard = hear(model, domain.name, waveform)
            latents.setdefault(domain.name, {})[split] = heard.latents.cpu()
            found.append(
                DomainFigures(
                    domain=domain.name,
                    split=split,
                    minutes=domain.minutes(split),
                    figure=heard.figure,
                    baselines=_baselines(model, domain.name, items.get("train"), waveform),
                    confusion_accuracy=heard.confusion_accuracy,
                )
            )
        if on_measured is not None:
            on_measured()
    probed = [own for own in latents.values() if "train" in own and len(own) > 1]
    probe = probe_accuracy([own["train"] for own in probed], [_heldout(own) for own in probed])
    chance = None if probe is None else 1 / len(probed)
    return ModelFigures(found, probe, chance, note_test(_encode_notes(model)))


def _items(model: Translator, domain: Domain, split: str) -> torch.Tensor | None:
    """Return segments of a split, float32 [N, T]; None if it is empty."""
    try:
        segments = Segments(
            domain,
            split,
            sample_rate=model.sample_rate,
            length=model.config.segment_length,
            # As an added domain was trained: see `core.training.adding`.
            level_db=None if domain.name in model.classified else model.level_db,
        )
    except DataError:
        if domain.minutes(split):
            raise
        return None
    return fixed_batch(segments, ITEMS_PER_SPLIT, seed=0)


def _baselines(
    model: Translator, name: str, training: torch.Tensor | None, waveform: torch.Tensor
) -> dict[str, float]:
    decoder = model.decoders[name]
    found = dict(decoder.baselines(waveform))
    codes = decoder.codes(waveform)
    known = None if training is None else decoder.codes(training)
    if codes is not None and known is not None:
        bits = autoregressive_bits(known, codes, decoder.n_codes)
        if bits is not None:
            found["linear prediction"] = bits
    return found


def _heldout(splits: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([latents for split, latents in splits.items() if split != "train"])


def _encode_notes(model: Translator) -> torch.Tensor:
    """Return latents of synthetic notes, float [I, N, D], each averaged over the note."""
    n_frames = max(1, round(NOTE_SECONDS * model.sample_rate / model.hop_length))
    seconds = n_frames * model.hop_length / model.sample_rate
    rows = []
    for name in tones.INSTRUMENTS:
        notes = [
            tones.synthesize(name, pitch, seconds, model.sample_rate)
            for pitch in tones.TEST_PITCHES
        ]
        played = torch.from_numpy(np.stack(notes)).to(model.device)
        rows.append(model.encoder(played).mean(dim=1).cpu())
    return torch.stack(rows)
