"""A translation of one song, beside its baselines.

In: output, source, and true renderings if there are any. Out: a score card. There is no other piece
of the target to compare with, so "other music" is the translation itself rotated in time for the
content (`core.metrics.content`), and the domain's training audio for everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.evaluation.analysis import (
    Analysis,
    Figures,
    Goal,
    figures,
    nearest_db,
    quality_figures,
    sound_figures,
)
from core.evaluation.score_card import (
    Rows,
    ScoreCard,
    card_of_one,
    interval_around,
    unusual_figures,
    usual_ranges,
)
from core.metrics import content, degradations, timbre, transcription
from core.metrics.catalogue import (
    COPY,
    METRICS,
    NOISE,
    OTHER_RENDERING,
    TRANSLATION,
    TRUE,
    WRONG_PIECE,
)
from core.metrics.intervals import Interval, figure_interval, mean_interval
from core.metrics.log_spectral import LSD_HOP
from core.metrics.quality import is_unpitched
from core.metrics.spectra import ANALYSIS_RATE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from core.metrics.timbre import DomainReference, TimbreClassifier

PART_SECONDS = 5  # long enough for every figure, short enough for an interval
MAX_PARTS = 24  # of a long song; each costs as much as a song of five seconds
NOISE_SECONDS = 10  # enough for its quality figures; a distance needs the whole length


@dataclass(frozen=True)
class SongFigures:
    """The evaluation of one piece of audio.

    Attributes:
        seconds: Its length.
        target: The domain it should be in; None if unknown to the classifier.
        source_domain: The most probable domain of the source.
        heard: Probability of each domain; None for silence.
        source_heard: The same of the source; None without one.
        source_is_unpitched: Whether the source is mostly drums or noise, so that neither notes nor
            an instrument are to be expected.
        card: Figures beside their baselines.
        usual: By metric, the range that recordings usually show; see `usual_ranges`.
        unusual: The metrics whose figure is outside that range.
    """

    seconds: float
    target: str | None
    source_domain: str | None
    heard: dict[str, float] | None
    source_heard: dict[str, float] | None
    source_is_unpitched: bool
    card: ScoreCard
    usual: Mapping[str, Interval]
    unusual: tuple[str, ...]


def evaluate_song(
    output: Analysis,
    *,
    source: Analysis | None = None,
    target: str | None = None,
    references: Sequence[Analysis] = (),
) -> SongFigures:
    """Evaluate a piece of audio, alone or against its source and true renderings.

    Args:
        output: What is evaluated.
        source: What it was translated from, aligned with it.
        target: The domain it should be in; one that the classifier does not know is left out.
        references: True renderings of the same music by the target. Of several, the last one is
            kept as a baseline, and the distance is to the nearest of the others.
    """
    classifier = output.classifier
    known = target if target in classifier.domains else None
    # The last reference is a baseline of what another rendering scores; of one alone, the distance
    # would otherwise have nothing to be to.
    goal = Goal(source, known, _likeliest_domain(source), references[:-1] or references)
    rows: Rows = {TRANSLATION: figures(output, goal)}
    if source is not None:
        rows[COPY] = figures(source, goal)
    rows[WRONG_PIECE] = _chance(output, source) | _typical(classifier, known, goal.source_domain)
    if references:
        rows[TRUE] = figures(references[0], goal)
    if len(references) > 1:
        rows[OTHER_RENDERING] = figures(references[-1], goal)
    rows[NOISE] = _noise(output, goal)
    usual = usual_ranges(classifier, known)
    return SongFigures(
        seconds=len(output.waveform) / output.sample_rate,
        target=known,
        source_domain=goal.source_domain,
        heard=output.probabilities or None,
        source_heard=(source.probabilities or None) if source is not None else None,
        source_is_unpitched=is_unpitched(rows.get(COPY, {})),
        card=card_of_one(rows, {TRANSLATION: _intervals(output, goal, rows[TRANSLATION])}),
        usual={name: own for name, own in usual.items() if rows[TRANSLATION].get(name) is not None},
        unusual=unusual_figures(rows[TRANSLATION], usual),
    )


def _likeliest_domain(source: Analysis | None) -> str | None:
    found = source.probabilities if source is not None else {}
    return max(found, key=found.__getitem__) if found else None


def _chance(output: Analysis, source: Analysis | None) -> Figures:
    """Return the level of chance: the scores of the output rotated in time."""
    if source is None:
        return {}
    scores = content.compare(source.content, output.content)
    found: Figures = {
        name: score.chance for name, score in scores.items() if score.chance is not None
    }
    if source.notes is not None and output.notes is not None:
        found |= transcription.chance(source.notes, output.notes)
    return found


@torch.no_grad()
def _typical(
    classifier: TimbreClassifier, target: str | None, source_domain: str | None
) -> Figures:
    """Return the figures of the target's own training audio, which is other music."""
    if target is None:
        return {}
    reference = classifier.references[target]
    probabilities = classifier.probabilities_of(reference.samples) or {}
    found: Figures = {
        "target_probability": probabilities.get(target),
        "frechet_distance": timbre.frechet_distance(reference.samples, reference),
        "kernel_distance": timbre.kernel_distance(reference.samples, reference),
    }
    if source_domain is not None and source_domain != target:
        found["source_probability"] = probabilities.get(source_domain)
    return found | {name: middle for name, (_, middle, _) in reference.quality.items()}


def _noise(output: Analysis, goal: Goal) -> Figures:
    length = None if goal.references else NOISE_SECONDS * output.sample_rate
    waveform = degradations.noise(output.waveform[:length])
    noise = Analysis(waveform, output.sample_rate, output.classifier)
    return sound_figures(noise, goal.target, goal.references)


def _intervals(output: Analysis, goal: Goal, whole: Figures) -> dict[str, Interval | None]:
    """Return the intervals of all figures.

    Adjacent seconds are alike and no independent observations, so stretches of five are drawn.
    """
    both = [output] if goal.source is None else [output, goal.source]
    seconds = max(len(own.waveform) // own.sample_rate for own in both)
    # Also beyond the output's end: the content that is missing there counts.
    parts = [_figures_of_part(output, goal, start) for start in _starts(seconds)]
    found = {
        name: interval_around(value, [own.get(name) for own in parts])
        for name, value in whole.items()
        if METRICS[name].question != "target"  # resampled below, by the classifier's windows
    }
    return found | _target_intervals(output, goal)


def _figures_of_part(output: Analysis, goal: Goal, start: int) -> Figures:
    first, last = (second * output.sample_rate for second in (start, start + PART_SECONDS))
    found: Figures = {}
    if last <= len(output.waveform):
        part = Analysis(output.waveform[first:last], output.sample_rate, output.classifier)
        found = quality_figures(part, goal.target)
    source = goal.source
    if source is not None:
        parts = (own.content.part(start, PART_SECONDS) for own in (source, output))
        scores = content.compare(*parts, has_chance=False)
        found |= {name: score.value for name, score in scores.items()}
        if source.notes is not None and output.notes is not None:
            notes = (own.part(start, PART_SECONDS) for own in (source.notes, output.notes))
            found |= transcription.compare(*notes)
    # Cut out of the whole: its mel levels are relative to the loudest frame of all.
    frames = np.array([start, start + PART_SECONDS]) * ANALYSIS_RATE // LSD_HOP
    return found | {"log_spectral_distance_db": nearest_db(output, goal.references, slice(*frames))}


@torch.no_grad()
def _target_intervals(output: Analysis, goal: Goal) -> dict[str, Interval | None]:
    embeddings, classifier = output.embeddings, output.classifier
    if goal.target is None or not len(embeddings):
        return {}
    shares = classifier.network.head(embeddings).softmax(dim=1)
    by_domain = dict(zip(classifier.domains, shares.T.tolist(), strict=True))
    found = {
        name: mean_interval(by_domain[domain], _stretches(embeddings))
        for name, domain in (
            ("target_probability", goal.target),
            ("source_probability", goal.source_domain),
        )
        if domain is not None
    }
    reference = classifier.references[goal.target]
    for name, distance in (
        ("frechet_distance", timbre.frechet_distance),
        ("kernel_distance", timbre.kernel_distance),
    ):
        found[name] = _distance_interval(distance, embeddings, reference)
    return found


def _distance_interval(
    distance: Callable[[torch.Tensor, DomainReference], float | None],
    embeddings: torch.Tensor,
    reference: DomainReference,
) -> Interval | None:
    value = distance(embeddings, reference)
    if value is None:
        return None
    return figure_interval(
        value, _stretches(embeddings), lambda numbers: distance(embeddings[numbers], reference)
    )


def _stretches(windows: torch.Tensor) -> list[int]:
    return [second // PART_SECONDS for second in range(len(windows))]


def _starts(seconds: int) -> list[int]:
    """Return where the stretches of a song begin, in seconds; not all of a long one."""
    n_parts = seconds // PART_SECONDS
    places = np.linspace(0, n_parts - 1, min(n_parts, MAX_PARTS)).astype(int)
    return [PART_SECONDS * int(place) for place in places]
