"""Every metric of a translation in one table: what it asks, its two ends, how it is calibrated.

A figure alone says little: the chroma of the wrong piece is 0.5, not 0. So each metric is measured
on yardsticks too, the rows of a score card:

- `translation`: what is judged.
- `copy`: the input, unchanged: all of the music, none of the target.
- `wrong_piece`: other music, played by the target: none of the music, all of the target.
- `true`: the same music truly played by the target.
- `other_rendering`: the same, by another player, instrument or SoundFont.
- `noise`: white noise as loud as the translation.

and is also given as a share of the way between its two ends: from the row that counts as 0 % to
the row that counts as 100 %. A share may be above 100 % or below 0 %; it is None where an end is
unknown, or where the two ends look the same in the decimals that are shown.

`positive` and `negative` name the pairs that the metric must tell apart: rows as above, or a true
rendering that was spoilt (`core.metrics.degradations`). `calibration.json` holds how well it does,
on held-out pieces and several SoundFonts (`recipes/calibration`): below an AUC of 0.95 the figure
is shown with a warning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """What is known of a metric before anything is measured.

    Attributes:
        name: Its key in figures and JSON.
        label: For readers.
        question: What it is an answer to.
        unit: Empty for a plain number.
        is_higher_better: Which way is better.
        zero: Row that counts as 0 %.
        full: Rows that count as 100 %; the first that is there.
        positive: The better of the two pairs of its calibration.
        negative: The worse one.
        is_two_sided: Whether more than the true rendering has is as wrong as less.
        digits: Decimals to show.
    """

    name: str
    label: str
    question: Question
    unit: str
    is_higher_better: bool
    zero: str
    full: tuple[str, ...]
    positive: str
    negative: str
    is_two_sided: bool = False
    digits: int = 2

    def share(self, value: float | None, rows: Mapping[str, float | None]) -> float | None:
        """Return how far a value is on the way from the metric's 0 % to its 100 %.

        Args:
            value: The figure.
            rows: The yardsticks' figures by row.

        Returns:
            The share; None where an end is missing, or the 100 % end is no better than the other,
            as for a source that is in the target's domain already.
        """
        zero = rows.get(self.zero)
        full = next((rows[row] for row in self.full if rows.get(row) is not None), None)
        if value is None or zero is None or full is None or abs(full - zero) < 10**-self.digits:
            return None
        if self.is_two_sided:
            return 1 - abs(value - full) / abs(zero - full)
        if (full > zero) != self.is_higher_better:
            return None
        return (value - zero) / (full - zero)

    @property
    def auc(self) -> float | None:
        """How well it tells its positive from its negative pairs; None if not calibrated."""
        found = calibration()["metrics"].get(self.name)
        return None if found is None else float(found["auc"])

    @property
    def is_trusted(self) -> bool:
        """Whether calibration found that it tells its pairs apart."""
        return self.auc is not None and self.auc >= TRUSTED_AUC


def _content(name: str, label: str) -> Metric:
    return Metric(name, label, "content", "", True, WRONG_PIECE, (TRUE, COPY), TRUE, WRONG_PIECE)


def _target(name: str, label: str, *, is_higher_better: bool, digits: int = 2) -> Metric:
    ends = (COPY, (TRUE, WRONG_PIECE))
    pairs = (TRUE, COPY)
    return Metric(name, label, "target", "", is_higher_better, *ends, *pairs, digits=digits)


def _quality(
    name: str, label: str, unit: str, negative: str, *, is_higher_better: bool, digits: int = 2
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
        is_two_sided=True,
        digits=digits,
    )


METRICS = {
    metric.name: metric
    for metric in (
        _content("chroma", "chroma"),
        _content("aligned_chroma", "chroma, aligned in time"),
        _content("onset", "onsets"),
        _content("pitch_correlation", "notes, frame by frame"),
        _content("note_f1_150ms", "notes within 150 ms"),
        _content("note_f1_50ms", "notes within 50 ms"),
        _target("target_probability", "heard as the target", is_higher_better=True),
        _target("source_probability", "heard as the source", is_higher_better=False),
        _target("frechet_distance", "Fréchet distance", is_higher_better=False),
        _target("kernel_distance", "kernel distance", is_higher_better=False),
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
            digits=1,
        ),
        _quality("clipped_fraction", "clipped", "", "clipped", is_higher_better=False, digits=4),
        _quality("silence_fraction", "silent", "", "interrupted", is_higher_better=False),
        _quality("spectral_flatness", "flatness", "", "hissing", is_higher_better=False, digits=3),
        _quality("spectral_contrast_db", "contrast", "dB", "smeared", is_higher_better=True),
        _quality("harmonic_share", "harmonic share", "", "smeared", is_higher_better=True),
        _quality("attack_sharpness_db", "attacks", "dB", "smeared", is_higher_better=True),
        _quality("out_of_band_share", "out of band", "", "noise", is_higher_better=False, digits=3),
    )
}


@cache
def calibration() -> dict[str, Any]:
    """Return the published calibration; empty before there is one.

    Returns:
        `metrics`: by name `auc`, `auc_held_out` (of the held-out rendering alone) and `rows`
        (by name `mean`, `low`, `high` and `n`; low and high hold 90 % of the figures); and
        what it was measured on.
    """
    path = files("core.metrics") / "calibration.json"
    if not path.is_file():
        return {"metrics": {}}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
