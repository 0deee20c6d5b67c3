"""What `umt eval` measures: a piece of audio, or a whole model on held-out tracks.

In: waveforms, or a translator and prepared domains. Out: plain values. The definitions of
the figures, with units and ranges, are in `core.metrics`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.audio.reading import read_audio
from core.data.dataset import Segments, fixed_batch
from core.errors import DataError
from core.metrics import content, log_spectral, quality
from core.metrics.timbre import TimbreClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from core.data.domain import Domain
    from core.metrics.content import Score
    from core.model import Translator

ITEMS_PER_SPLIT = 64
PAIRED_NAME = re.compile(r"(?P<domain>.+)--(?P<rendering>.+)")
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
        yardsticks: The same figure of what needs no learning, by name.
        confusion_accuracy: Share of segments whose domain the confusion network names; None for
            a domain that was added to a trained model, which that network does not know.
    """

    domain: str
    split: str
    minutes: float
    figure: float
    yardsticks: dict[str, float]
    confusion_accuracy: float | None


@dataclass(frozen=True)
class PairFigures:
    """A translation against the true rendering of the same notes on the target instrument.

    A figure is None where it has no value, as for silence; see `core.metrics`.

    Attributes:
        piece: The piece.
        rendering: What both renderings were made with, e.g. a SoundFont.
        source: Domain of the input.
        target: Domain of the output.
        chroma: Chroma cosine of output and source.
        chroma_true: Chroma cosine of the true rendering and source: what is possible.
        chroma_chance: What other music scores.
        distance_db: Log-spectral distance of the output to the true rendering.
        distance_copy_db: That of the unchanged input.
        distance_other_db: That of another rendering of the target, if there is one.
        heard_as_target: Probability that the classifier gives the target in the output.
        true_heard_as_target: The same in the true rendering.
        harmonic_share: Of the output.
        harmonic_share_true: Of the true rendering.
    """

    piece: str
    rendering: str
    source: str
    target: str
    chroma: float | None
    chroma_true: float | None
    chroma_chance: float | None
    distance_db: float | None
    distance_copy_db: float | None
    distance_other_db: float | None
    heard_as_target: float | None
    true_heard_as_target: float | None
    harmonic_share: float | None
    harmonic_share_true: float | None


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
    reference = classifier.references.get(target) if target else None
    return AudioFigures(
        seconds=len(output) / sample_rate,
        content=None if source is None else content.evaluate(source, output, sample_rate),
        heard=classifier.probabilities(output, sample_rate),
        source_heard=None if source is None else classifier.probabilities(source, sample_rate),
        quality=quality.evaluate(
            output,
            sample_rate,
            domain_rolloff_hz=None if reference is None else reference.rolloff_hz,
        ),
        typical={} if reference is None else dict(reference.quality),
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
                segments = Segments(
                    domain,
                    split,
                    sample_rate=model.sample_rate,
                    length=length,
                    # As an added domain was trained: see `core.training.adding`.
                    level_db=None if domain.name in model.classified else model.level_db,
                )
            except DataError:
                if domain.minutes(split):
                    raise
                continue
            items = fixed_batch(segments, ITEMS_PER_SPLIT, seed=0)
            figure, accuracy = _measure(model, domain.name, items)
            yield DomainFigures(
                domain=domain.name,
                split=split,
                minutes=domain.minutes(split),
                figure=figure,
                yardsticks=model.decoders[domain.name].yardsticks(items),
                confusion_accuracy=accuracy,
            )


def _measure(model: Translator, name: str, items: Tensor) -> tuple[float, float | None]:
    """Return the family's figure and the confusion network's accuracy, means over items."""
    figures, right = [], 0
    decoder = model.decoders[name]
    for waveform in torch.split(items, BATCH_ITEMS):
        on_device = waveform.to(model.device)
        latents = model.encoder(on_device)
        figures.append(float(decoder.heldout_figure(latents, on_device)))
        found = model.classifier(latents).argmax(1)
        right += int((found == model.domains.index(name)).sum())
    accuracy = right / ITEMS_PER_SPLIT if name in model.classified else None
    return float(np.mean(figures)), accuracy


def evaluate_paired(model: Translator, directory: Path) -> Iterator[PairFigures]:
    """Translate pieces that exist on several instruments, and compare with the truth.

    Args:
        model: With the decoders of all domains.
        directory: `PIECE/DOMAIN--RENDERING.EXTENSION`, all files of a piece aligned. Pieces
            take turns in the rendering that is translated, so that each is heard.

    Yields:
        Figures of each piece, source and target.

    Raises:
        DataError: There is nothing to compare.
    """
    pieces = [path for path in sorted(directory.iterdir()) if path.is_dir()]
    found = False
    for number, piece in enumerate(pieces):
        renderings: dict[str, dict[str, Path]] = defaultdict(dict)
        for path in sorted(piece.iterdir()):
            match = PAIRED_NAME.fullmatch(path.stem)
            if match and match["domain"] in model.domains:
                renderings[match["rendering"]][match["domain"]] = path
        if renderings:
            found = True
            names = sorted(renderings)
            name = names[number % len(names)]
            other = renderings[names[(number + 1) % len(names)]] if len(names) > 1 else {}
            yield from _compare(model, piece.name, name, renderings[name], other)
    if not found:
        raise DataError(f"{directory}: no PIECE/DOMAIN--RENDERING files of this model's domains")


def _compare(
    model: Translator,
    piece: str,
    rendering: str,
    paths: Mapping[str, Path],
    other_paths: Mapping[str, Path],
) -> Iterator[PairFigures]:
    """Translate a piece from each of its domains into each other one."""
    classifier = load_classifier()
    rate = model.sample_rate
    true = {domain: read_audio(path, rate) for domain, path in paths.items()}
    other = {domain: read_audio(path, rate) for domain, path in other_paths.items()}
    for source, played in true.items():
        latents = model.encode(played, rate)
        for target, truth in true.items():
            if target == source:
                continue
            output = model.decode(latents, to=target)[: len(played)]
            kept = content.evaluate(played, output, rate)["chroma"]
            possible = content.evaluate(played, truth, rate)["chroma"]

            yield PairFigures(
                piece=piece,
                rendering=rendering,
                source=source,
                target=target,
                chroma=kept.value,
                chroma_true=possible.value,
                chroma_chance=kept.chance,
                distance_db=log_spectral.log_spectral_distance_db(output, truth, rate),
                distance_copy_db=log_spectral.log_spectral_distance_db(played, truth, rate),
                distance_other_db=log_spectral.log_spectral_distance_db(other[target], truth, rate)
                if target in other
                else None,
                heard_as_target=(classifier.probabilities(output, rate) or {}).get(target),
                true_heard_as_target=(classifier.probabilities(truth, rate) or {}).get(target),
                harmonic_share=quality.evaluate(output, rate)["harmonic_share"],
                harmonic_share_true=quality.evaluate(truth, rate)["harmonic_share"],
            )
