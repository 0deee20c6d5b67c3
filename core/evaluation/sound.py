"""One piece of audio, heard once and then compared with as many others as there are yardsticks.

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


class Sound:
    """A waveform and what each metric hears in it, worked out when it is first asked for.

    Attributes:
        waveform: float32 [T].
        sample_rate: In Hz.
        classifier: What tells its timbre.
    """

    def __init__(
        self, waveform: NDArray[np.float32], sample_rate: int, classifier: TimbreClassifier
    ) -> None:
        self.waveform = waveform
        self.sample_rate = sample_rate
        self.classifier = classifier
        self.analysed = at_analysis_rate(waveform, sample_rate, name="audio")
        self._decibels: dict[int, torch.Tensor] = {}

    @cached_property
    def content(self) -> content.Heard:
        """Its pitch classes and onsets."""
        return content.listen(self.analysed)

    @cached_property
    def notes(self) -> transcription.Heard | None:
        """Its notes; None without the extra that can hear them."""
        return transcription.listen(self.analysed) if transcription.is_available() else None

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
        """Its figures by itself."""
        return quality.evaluate(self.waveform, self.sample_rate)

    @cached_property
    def spectrum(self) -> NDArray[np.float64]:
        """Its long-term spectrum."""
        return quality.long_term_spectrum(self.waveform)

    def mel_decibels(self, length: int) -> torch.Tensor:
        """Return its mel levels as if it were so many samples long, at 16 kHz."""
        if length not in self._decibels:
            self._decibels[length] = log_spectral.mel_decibels(self.analysed, length)
        return self._decibels[length]


@dataclass(frozen=True)
class Goal:
    """What a translation is measured against.

    Attributes:
        source: What it was made from, if that is known.
        target: The domain it should be in, if that is known to the classifier.
        source_domain: The domain of the source, likewise.
        references: True renderings; the nearest counts.
    """

    source: Sound | None
    target: str | None
    source_domain: str | None
    references: Sequence[Sound] = ()


def figures(output: Sound, goal: Goal) -> Figures:
    """Compute every figure that the goal allows."""
    found: Figures = {}
    if goal.source is not None:
        scores = content.compare(goal.source.content, output.content, has_chance=False)
        found |= {name: score.value for name, score in scores.items()}
        if goal.source.notes is not None and output.notes is not None:
            found |= transcription.compare(goal.source.notes, output.notes)
    if goal.target is not None:
        found |= target_figures(output, goal.target, goal.source_domain)
    return found | sound_figures(output, goal.target, goal.references)


def target_figures(output: Sound, target: str, source_domain: str | None) -> Figures:
    """Compute how much it sounds like the target, and like what it was made from."""
    reference = output.classifier.references[target]
    found: Figures = {"target_probability": output.probabilities.get(target)}
    if source_domain not in (None, target):
        found["source_probability"] = output.probabilities.get(str(source_domain))
    found["frechet_distance"] = timbre.frechet_distance(output.embeddings, reference)
    found["kernel_distance"] = timbre.kernel_distance(output.embeddings, reference)
    return found


def sound_figures(output: Sound, target: str | None, references: Sequence[Sound]) -> Figures:
    """Compute how clean it is, and how far from true renderings, wherever it comes from."""
    found = quality_figures(output, target)
    if references:
        found = found | {"log_spectral_distance_db": nearest_db(output, references)}
    return found


def quality_figures(output: Sound, target: str | None) -> Figures:
    """Compute how clean it is."""
    if target is None:
        return output.quality
    rolloff_hz = output.classifier.references[target].rolloff_hz
    share = quality.out_of_band_share(output.spectrum, output.sample_rate, rolloff_hz)
    return output.quality | {"out_of_band_share": share}


def nearest_db(
    output: Sound, references: Sequence[Sound], frames: slice = slice(None)
) -> float | None:
    """Return the log-spectral distance to the nearest reference, of all frames or of some.

    None where every reference is silent or has no such frames.
    """
    distances = []
    for reference in references:
        length = len(reference.analysed)
        heard = [own.mel_decibels(length)[frames] for own in (output, reference)]
        if reference.analysed.any() and len(heard[0]):
            distances.append(log_spectral.distance_db(*heard))
    return min(distances, default=None)
