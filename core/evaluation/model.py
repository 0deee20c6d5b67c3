"""What `umt eval` measures: a piece of audio, or a whole model on held-out tracks.

In: waveforms, or a translator and prepared domains. Out: plain values. The definitions of
the figures, with units and ranges, are in `core.metrics`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.data.dataset import Segments, fixed_batch
from core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.data.domain import Domain
    from core.model import Translator

ITEMS_PER_SPLIT = 64
PAIRED_NAME = re.compile(r"(?P<domain>.+)--(?P<rendering>.+)")
BATCH_ITEMS = 8


@dataclass(frozen=True)
class DomainFigures:
    """Figures of a model on one split of one domain.

    Attributes:
        domain: The domain.
        split: The split.
        minutes: How much audio the split holds.
        figure: The family's held-out figure.
        confusion_accuracy: Share of segments whose domain the confusion network names.
    """

    domain: str
    split: str
    minutes: float
    figure: float
    confusion_accuracy: float


@torch.inference_mode()
def evaluate_model(
    model: Translator, domains: Sequence[Domain], splits: Sequence[str]
) -> Iterator[DomainFigures]:
    """Measure a model on held-out segments, drawn the same way at every call.

    Args:
        model: With the decoders of all those domains.
        domains: Prepared domains that the model knows.
        splits: Those to measure; a domain without audio in a split is left out.

    Yields:
        Figures, domain by domain.
    """
    training = model.config.training
    wanted = training.segment_seconds * model.sample_rate
    length = max(1, round(wanted / model.hop_length)) * model.hop_length
    for domain in domains:
        for split in splits:
            try:
                segments = Segments(domain, split, sample_rate=model.sample_rate, length=length)
            except DataError:
                if domain.minutes(split):
                    raise
                continue
            figure, accuracy = _measure(model, domain.name, segments)
            yield DomainFigures(domain.name, split, domain.minutes(split), figure, accuracy)


def _measure(model: Translator, name: str, segments: Segments) -> tuple[float, float]:
    """Return the family's figure and the confusion network's accuracy, means over items."""
    figures, right = [], 0
    items = fixed_batch(segments, ITEMS_PER_SPLIT, seed=0)
    decoder = model.decoders[name]
    for waveform in torch.split(items, BATCH_ITEMS):
        on_device = waveform.to(model.device)
        latents = model.encoder(on_device)
        figures.append(float(decoder.heldout_figure(latents, on_device)))
        found = model.classifier(latents).argmax(1)
        right += int((found == model.domains.index(name)).sum())
    return float(np.mean(figures)), right / ITEMS_PER_SPLIT
