"""Every metric of a translation in one table: its question, its baselines, its calibration.

A figure alone means little: the chroma of the wrong piece is 0.5, not 0. So each metric is computed
for baselines too. Together with the translation they are the rows of a score card:

- `translation`: what is evaluated.
- `copy`: the input, unchanged: all of the music, nothing of the target.
- `wrong_piece`: other music, played by the target: none of the music, all of the target.
- `true`: the same music truly played by the target.
- `other_rendering`: the same, by another player, instrument or SoundFont.
- `noise`: white noise as loud as the translation.

Each figure is also given as a normalised score: 0 is the metric's worst baseline, 1 its best one.
It may be below 0 or above 1, and it is None where a baseline is missing, or where the two look the
same in the decimals that are shown.

`positive` and `negative` name the pairs that the metric must separate: rows as above, or a degraded
true rendering (`core.metrics.degradations`). `calibration.json` holds how well it does, on held-out
pieces and several SoundFonts (`recipes/calibration`): below an AUC of 0.95 the figure is shown with
a warning. The range of the positive pairs there is what recordings usually show.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.metrics.intervals import Interval

TRUSTED_AUC = 0.95

TRANSLATION, COPY, WRONG_PIECE, TRUE, OTHER_RENDERING, NOISE = ROWS = (
    "translation",
    "copy",
    "wrong_piece",
    "true",
    "other_rendering",
    "noise",
)
ROW_LABELS = {
    TRANSLATION: "translation",
    COPY: "unchanged input",
    WRONG_PIECE: "other music",
    TRUE: "true rendering",
    OTHER_RENDERING: "another rendering",
    NOISE: "noise",
}

Question = Literal["content", "target", "quality"]
QUESTIONS: dict[Question, str] = {
    "content": "Is the music still there?",
    "target": "Does it sound like the target?",
    "quality": "Is it clean sound?",
}


@dataclass(frozen=True)
class Metric:
    """Definition of a metric.

    Attributes:
        name: Its key in figures and JSON.
        label: For readers.
        question: What it is an answer to.
        unit: Empty for a plain number.
        is_higher_better: Which way is better.
        worst: Row that scores 0.
        best: Rows that score 1; the first one that is present counts.
        positive: The better of the two pairs of its calibration.
        negative: The worse one.
        meaning: What it measures, in one sentence for readers.
        is_two_sided: Whether more than the true rendering has is as wrong as less.
        digits: Decimals to show.
    """

    name: str
    label: str
    question: Question
    unit: str
    is_higher_better: bool
    worst: str
    best: tuple[str, ...]
    positive: str
    negative: str
    meaning: str
    is_two_sided: bool = False
    digits: int = 2

    def score(self, value: float | None, rows: Mapping[str, float | None]) -> float | None:
        """Normalise a figure: 0 is the worst baseline, 1 the best one.

        Args:
            value: The figure.
            rows: The baselines' figures by row.

        Returns:
            The score; None where a baseline is missing, or the best one is no better than the
            worst, as for a source that is in the target's domain already.
        """
        worst = rows.get(self.worst)
        best = next((rows[row] for row in self.best if rows.get(row) is not None), None)
        if value is None or worst is None or best is None or abs(best - worst) < 10**-self.digits:
            return None
        if self.is_two_sided:
            return 1 - abs(value - best) / abs(worst - best)
        if (best > worst) != self.is_higher_better:
            return None
        return (value - worst) / (best - worst)

    def is_unusual(self, value: float, usual: Interval) -> bool:
        """Return whether a figure is outside the range that recordings usually show.

        A one-sided metric is unusual on its worse side only, and a difference that the shown
        decimals do not resolve is none.
        """
        margin = 0.5 * 10.0**-self.digits
        is_low, is_high = value < usual[0] - margin, value > usual[1] + margin
        if self.is_two_sided:
            return is_low or is_high
        return is_low if self.is_higher_better else is_high

    @property
    def auc(self) -> float | None:
        """How well it separates its positive from its negative pairs; None if not calibrated."""
        found = calibration()["metrics"].get(self.name)
        return None if found is None else found["auc"]

    @property
    def is_trusted(self) -> bool:
        """Whether calibration found that it separates its pairs."""
        return self.auc is not None and self.auc >= TRUSTED_AUC

    @property
    def calibrated_range(self) -> Interval | None:
        """Where 90 % of the true renderings of its calibration lie; None if not calibrated."""
        found = calibration()["metrics"].get(self.name)
        if found is None:
            return None
        row = found["rows"][self.positive]
        return row["low"], row["high"]


def _content(name: str, label: str, meaning: str) -> Metric:
    return Metric(
        name, label, "content", "", True, WRONG_PIECE, (TRUE, COPY), TRUE, WRONG_PIECE, meaning
    )


def _target(name: str, label: str, meaning: str, *, is_higher_better: bool) -> Metric:
    baselines = (COPY, (TRUE, WRONG_PIECE))
    return Metric(name, label, "target", "", is_higher_better, *baselines, TRUE, COPY, meaning)


def _quality(
    name: str,
    label: str,
    unit: str,
    negative: str,
    meaning: str,
    *,
    is_higher_better: bool = False,
    digits: int = 2,
) -> Metric:
    return Metric(
        name,
        label,
        "quality",
        unit,
        is_higher_better,
        NOISE,
        (TRUE, WRONG_PIECE),
        TRUE,
        negative,
        meaning,
        is_two_sided=True,
        digits=digits,
    )


METRICS = {
    metric.name: metric
    for metric in (
        _content(
            "chroma",
            "chroma",
            "How far the pitch classes of source and translation agree, moment by moment.",
        ),
        _content(
            "aligned_chroma",
            "chroma, aligned in time",
            "The same, with up to two seconds of shift allowed.",
        ),
        _content("onset", "onsets", "How far notes begin at the same times."),
        _content(
            "pitch_correlation",
            "notes, frame by frame",
            "How far the same keys sound at the same times, by automatic transcription.",
        ),
        _content(
            "note_f1_150ms",
            "notes within 150 ms",
            "How many notes of one file are in the other, starting within 150 ms.",
        ),
        _content(
            "note_f1_50ms",
            "notes within 50 ms",
            "How many notes of one file are in the other, starting within 50 ms.",
        ),
        _target(
            "target_probability",
            "heard as the target",
            "Probability of the target domain, by the timbre classifier.",
            is_higher_better=True,
        ),
        _target(
            "source_probability",
            "heard as the source",
            "Probability of the source's domain, by the timbre classifier.",
            is_higher_better=False,
        ),
        _target(
            "frechet_distance",
            "Fréchet distance",
            "Distance of the timbre from recordings of the target, as Gaussians.",
            is_higher_better=False,
        ),
        _target(
            "kernel_distance",
            "kernel distance",
            "Distance of the timbre from recordings of the target, whatever their distribution.",
            is_higher_better=False,
        ),
        Metric(
            "log_spectral_distance_db",
            "log-spectral distance",
            "quality",
            "dB",
            False,
            NOISE,
            (TRUE,),
            OTHER_RENDERING,
            COPY,
            "Distance between the spectra of the translation and the nearest true rendering.",
            digits=1,
        ),
        _quality(
            "clipped_fraction",
            "clipped",
            "",
            "clipped",
            "Fraction of samples at full scale.",
            digits=4,
        ),
        _quality(
            "silence_fraction",
            "silent",
            "",
            "interrupted",
            "Fraction of the time that is silent.",
        ),
        _quality(
            "spectral_flatness",
            "flatness",
            "",
            "hissing",
            "How like noise the spectrum is: 0 is a tone, 0.56 white noise.",
            digits=3,
        ),
        _quality(
            "spectral_contrast_db",
            "contrast",
            "dB",
            "smeared",
            "How far partials stand out from what is between them.",
            is_higher_better=True,
        ),
        _quality(
            "harmonic_share",
            "harmonic share",
            "",
            "smeared",
            "Share of the energy in steady partials; the rest is noise and strokes.",
            is_higher_better=True,
        ),
        _quality(
            "out_of_band_share",
            "out of band",
            "",
            "noise",
            "Share of the energy above the frequencies that the target uses.",
            digits=3,
        ),
    )
}


class RowStatistics(TypedDict):
    """Figures of one row: their mean, their number, and where the published percentiles lie."""

    mean: float
    low: float
    high: float
    n: int


class MetricCalibration(TypedDict):
    """AUC of positive against negative pairs, also in the held-out rendering alone, and rows."""

    auc: float
    auc_held_out: float | None
    rows: dict[str, RowStatistics]


class Calibration(TypedDict):
    """What `recipes/calibration` publishes: what was measured, on what, and the result."""

    pieces: int
    translations: int
    domains: list[str]
    renderings: list[str]
    held_out_rendering: str
    excerpt_seconds: int
    percentiles: list[int]
    metrics: dict[str, MetricCalibration]


@cache
def calibration() -> Calibration:
    """Return the published calibration, which is part of the package."""
    text = (files("core.metrics") / "calibration.json").read_text(encoding="utf-8")
    content: Calibration = json.loads(text)
    return content
