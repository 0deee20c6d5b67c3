"""What `umt eval` measures: a piece of audio, or a whole model on held-out tracks.

In: waveforms, or a translator and prepared domains. Out: plain values. The definitions of
the figures, with units and ranges, are in `core.metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from core.data.dataset import Segments, fixed_batch
from core.errors import DataError
from core.metrics import content, quality
from core.metrics.timbre import TimbreClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from core.data.domain import Domain
    from core.metrics.content import Score
    from core.model import Translator

ITEMS_PER_SPLIT = 64
BATCH_ITEMS = 8


@dataclass(frozen=True)
class AudioFigures:
    """Figures of one piece of audio.

    Attributes:
        seconds: Its length.
        content: Scores against the source by name; None without a source.
        heard: Probability that the independent classifier gives each of its domains; None
            for silence.
        source_heard: The same for the source; None without one.
        quality: Quality figures by name; None where silence has none.
        typical: For the target domain, the 5, 50 and 95 % points of each quality figure on
            training audio; empty if the domain is unknown to the classifier.
    """

    seconds: float
    content: dict[str, Score] | None
    heard: dict[str, float] | None
    source_heard: dict[str, float] | None
    quality: dict[str, float | None]
    typical: dict[str, tuple[float, float, float]]


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


def load_classifier() -> TimbreClassifier:
    """Load the target classifier that is shipped with the starter model."""
    return TimbreClassifier.load(Path(str(files("core.pretrained"))) / "timbre.safetensors")


def evaluate_audio(
    output: NDArray[np.float32],
    sample_rate: int,
    *,
    source: NDArray[np.float32] | None = None,
    target: str | None = None,
) -> AudioFigures:
    """Measure a piece of audio, alone or against what it was translated from.

    Args:
        output: float32 [T].
        sample_rate: Of both, Hz.
        source: float32 [T'], aligned with the output.
        target: The domain that the output should be in, for its typical values.

    Raises:
        AudioError: Empty or not finite.
    """
    classifier = load_classifier()
    measured: dict[str, Any] = dict(quality.evaluate(output, sample_rate))
    return AudioFigures(
        seconds=len(output) / sample_rate,
        content=None if source is None else content.evaluate(source, output, sample_rate),
        heard=classifier.probabilities(output, sample_rate),
        source_heard=None if source is None else classifier.probabilities(source, sample_rate),
        quality=measured,
        typical=classifier.typical(target) if target in classifier.domains else {},
    )


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
