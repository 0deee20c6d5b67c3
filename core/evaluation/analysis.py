"""One waveform with its features, each computed once and compared with many others.

In: a waveform. Out: the figures of `core.metrics.catalogue` by name; a figure that is not defined
for this audio is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from core.metrics import content, log_spectral, quality, timbre, transcription
from core.metrics.spectra import at_analysis_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from core.metrics.timbre import TimbreClassifier

Figures = dict[str, float | None]


class Analysis:
    """A waveform and the features that metrics extract from it, computed on first access.

    Attributes:
        waveform: float32 [T].
        sample_rate: In Hz.
        classifier: Of its timbre.
        resampled: float32 [T'], the waveform at 16 kHz.
    """

    def __init__(
        self, waveform: NDArray[np.float32], sample_rate: int, classifier: TimbreClassifier
    ) -> None:
        self.waveform = waveform
        self.sample_rate = sample_rate
        self.classifier = classifier
        self.resampled = at_analysis_rate(waveform, sample_rate, name="audio")
        self._decibels: dict[int, torch.Tensor] = {}

    @cached_property
    def content(self) -> content.ContentFeatures:
        """Its pitch classes and onsets."""
        return content.extract(self.resampled)

    @cached_property
    def notes(self) -> transcription.Transcription | None:
        """Its notes; None without the optional extra."""
        return transcription.transcribe(self.resampled) if transcription.is_available() else None

    @cached_property
    def embeddings(self) -> torch.Tensor:
        """The classifier's embeddings [N, 16] of its windows."""
        return self.classifier.embed(self.waveform, self.sample_rate)

    @cached_property
    def probabilities(self) -> dict[str, float]:
        """The probability of each domain; empty for silence."""
        return self.classifier.probabilities_of(self.embeddings) or {}

    @cached_property
    def quality(self) -> Figures:
        """The quality figures that need this waveform alone."""
        return quality.evaluate(self.waveform, self.sample_rate)

    @cached_property
    def spectrum(self) -> NDArray[np.float64]:
        """Its long-term spectrum [1025]."""
        return quality.long_term_spectrum(self.waveform)

    def mel_decibels(self, length: int) -> torch.Tensor:
        """Return its mel levels [L, 128], cut or padded to a number of samples at 16 kHz."""
        # By length: an output is cut or padded to each of its references.
        if length not in self._decibels:
            self._decibels[length] = log_spectral.mel_decibels(self.resampled, length)
        return self._decibels[length]


@dataclass(frozen=True)
class Goal:
    """What a translation is measured against.

    Attributes:
        source: What it was made from, if that is known.
        target: The domain it should be in, if the classifier knows it.
        source_domain: The domain of the source, likewise.
        references: True renderings; the distance is to the nearest one.
    """

    source: Analysis | None
    target: str | None
    source_domain: str | None
    references: Sequence[Analysis] = ()


def figures(output: Analysis, goal: Goal) -> Figures:
    """Compute every figure that the goal allows."""
    found: Figures = {}
    if goal.source is not None:
        # Chance is a baseline of its own, and most of the time that comparing takes.
        scores = content.compare(goal.source.content, output.content, has_chance=False)
        found |= {name: score.value for name, score in scores.items()}
        if goal.source.notes is not None and output.notes is not None:
            found |= transcription.compare(goal.source.notes, output.notes)
    if goal.target is not None:
        found |= target_figures(output, goal.target, goal.source_domain)
    return found | sound_figures(output, goal.target, goal.references)


def target_figures(output: Analysis, target: str, source_domain: str | None) -> Figures:
    """Compute how close the timbre is to the target's, and to the source's."""
    reference = output.classifier.references[target]
    found: Figures = {"target_probability": output.probabilities.get(target)}
    if source_domain is not None and source_domain != target:
        found["source_probability"] = output.probabilities.get(source_domain)
    found["frechet_distance"] = timbre.frechet_distance(output.embeddings, reference)
    found["kernel_distance"] = timbre.kernel_distance(output.embeddings, reference)
    return found


def sound_figures(output: Analysis, target: str | None, references: Sequence[Analysis]) -> Figures:
    """Compute the figures that do not need the source: quality, and distance to references."""
    found = quality_figures(output, target)
    if references:
        found = found | {"log_spectral_distance_db": nearest_db(output, references)}
    return found


def quality_figures(output: Analysis, target: str | None) -> Figures:
    """Compute how clean the audio is."""
    if target is None:
        # Which frequencies are out of band depends on the target alone.
        return output.quality
    rolloff_hz = output.classifier.references[target].rolloff_hz
    share = quality.out_of_band_share(output.spectrum, output.sample_rate, rolloff_hz)
    return output.quality | {"out_of_band_share": share}


def nearest_db(
    output: Analysis, references: Sequence[Analysis], frames: slice = slice(None)
) -> float | None:
    """Return the log-spectral distance to the nearest reference, of all frames or of some.

    None where every reference is silent or has no such frames.
    """
    distances = []
    for reference in references:
        length = len(reference.resampled)
        levels = [own.mel_decibels(length)[frames] for own in (output, reference)]
        if reference.resampled.any() and len(levels[0]):
            distances.append(log_spectral.distance_db(*levels))
    return min(distances, default=None)
