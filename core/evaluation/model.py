"""A model on held-out tracks of prepared domains: reconstruction, and what its latents encode.

In: a translator and prepared domains. Out: the family's held-out figure beside baselines that need
no model or only a small one, and how much of the instrument is left in the latents. The
definitions are in `core.metrics.linear_prediction` and `core.metrics.latents`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.data.dataset import Segments, fixed_batch
from core.data.samples import reading
from core.metrics import tones
from core.metrics.latents import NoteTest, note_test, probe_accuracy
from core.metrics.linear_prediction import autoregressive_bits
from core.training.validation import ValidationMetrics, validation_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core.data.domain import Domain
    from core.translator import Translator

MAX_SEGMENTS = 32  # of a split: more narrow a figure's spread slowly and cost minutes
SEGMENTS_AT_ONCE = 8  # between two reports of progress
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
            `core.training.validation`.
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
    on_measured: Callable[[int], None] = lambda _: None,
) -> ModelFigures:
    """Measure a model on segments of each split, drawn the same way at every call.

    Args:
        model: With the decoders of all those domains.
        domains: Prepared domains that the model knows.
        splits: Those to measure; a domain without audio in a split is left out.
        on_measured: Called with the number of segments that were measured since the last call;
            `count_segments` returns that of all.

    Raises:
        DataError: Samples are missing or damaged.
    """
    with reading(domains):  # `umt prep` may go on meanwhile
        return _evaluate(model, domains, splits, on_measured)


def _evaluate(
    model: Translator,
    domains: Sequence[Domain],
    splits: Sequence[str],
    on_measured: Callable[[int], None],
) -> ModelFigures:
    found: list[DomainFigures] = []
    latents: dict[str, dict[str, torch.Tensor]] = {}
    for domain in domains:
        segments = {
            split: _segments(model, domain, split, n_segments)
            for split in splits
            if (n_segments := _n_segments(model, domain, split))
        }
        for split, waveform in segments.items():
            result = _measure(model, domain.name, waveform, on_measured)
            latents.setdefault(domain.name, {})[split] = result.latents
            baselines = _baselines(model, domain.name, segments.get("train"), waveform)
            if result.figure_of_others is not None:
                baselines["other latents"] = result.figure_of_others
            found.append(
                DomainFigures(
                    domain=domain.name,
                    split=split,
                    minutes=domain.minutes(split),
                    figure=result.figure,
                    baselines=baselines,
                    confusion_accuracy=result.confusion_accuracy,
                )
            )
    # Domains without held-out audio cannot be tested, and their share of chance would be wrong.
    probed = [own for own in latents.values() if "train" in own and len(own) > 1]
    probe = probe_accuracy([own["train"] for own in probed], [_heldout(own) for own in probed])
    chance = None if probe is None else 1 / len(probed)
    return ModelFigures(found, probe, chance, note_test(_encode_notes(model)))


def count_segments(model: Translator, domains: Sequence[Domain], splits: Sequence[str]) -> int:
    """Return the number of segments that `evaluate_model` measures."""
    return sum(_n_segments(model, domain, split) for domain in domains for split in splits)


def _n_segments(model: Translator, domain: Domain, split: str) -> int:
    """Return how many segments of a split are measured: no more than fit into its audio."""
    seconds = model.config.segment_length / model.sample_rate
    return min(MAX_SEGMENTS, math.ceil(60 * domain.minutes(split) / seconds))


def _segments(model: Translator, domain: Domain, split: str, n_segments: int) -> torch.Tensor:
    """Return segments of a split, float32 [N, T]."""
    segments = Segments(
        domain,
        split,
        sample_rate=model.sample_rate,
        length=model.config.segment_length,
        # Decoders that were added to a trained model were trained on levelled segments.
        level_db=None if domain.name in model.classified else model.level_db,
    )
    return fixed_batch(segments, n_segments, seed=0)


def _measure(
    model: Translator, name: str, waveform: torch.Tensor, on_measured: Callable[[int], None]
) -> ValidationMetrics:
    """Return figures and latents of a domain's segments, float32 [N, T]."""
    parts: list[ValidationMetrics] = []
    sizes: list[int] = []
    # Of about equal size: a single segment at the end would have no others' latents to compare.
    for part in torch.tensor_split(waveform, math.ceil(len(waveform) / SEGMENTS_AT_ONCE)):
        parts.append(validation_metrics(model, name, part))
        sizes.append(len(part))
        on_measured(len(part))

    def mean(values: Sequence[float | None]) -> float | None:
        known = [
            (value, size) for value, size in zip(values, sizes, strict=True) if value is not None
        ]
        total = sum(size for _, size in known)
        return sum(value * size for value, size in known) / total if known else None

    figure = mean([own.figure for own in parts])
    assert figure is not None
    return ValidationMetrics(
        # Those of all domains together would fill a GPU's memory.
        latents=torch.cat([own.latents.cpu() for own in parts]),
        figure=figure,
        figure_of_others=mean([own.figure_of_others for own in parts]),
        confusion_accuracy=mean([own.confusion_accuracy for own in parts]),
    )


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
