"""Score cards as text: rows of cells for terminals and pages, and values for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from core.metrics.catalogue import (
    METRICS,
    QUESTIONS,
    ROW_LABELS,
    ROWS,
    TRANSLATION,
    TRUSTED_AUC,
    Metric,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.table import Table

    from core.evaluation.paired import Matrix
    from core.evaluation.score_card import Estimate, ScoreCard
    from core.evaluation.song import SongFigures
    from core.metrics.intervals import Interval

EMPTY = "-"
UNUSUAL_MARK = " *"
UNPITCHED_SOURCE = "the source is mostly drums or noise, which no instrument can play"


@dataclass(frozen=True)
class CardRow:
    """One metric of a score card, as text.

    Attributes:
        name: Its key in figures and JSON.
        label: Its name and unit for readers.
        meaning: What it measures.
        value: The translation's figure.
        interval: 95 %, of the same.
        score: Normalised, of the same.
        baselines: The figure of each baseline, in the order of `baselines_of`.
        usual: The range that recordings usually show.
        is_unusual: Whether the translation's figure is outside of it.
    """

    name: str
    label: str
    meaning: str
    value: str
    interval: str
    score: str
    baselines: tuple[str, ...]
    usual: str
    is_unusual: bool


def card_rows(
    card: ScoreCard, usual: Mapping[str, Interval], unusual: Iterable[str]
) -> dict[str, list[CardRow]]:
    """Return the rows of a score card as text, by question.

    Args:
        card: The figures.
        usual: By metric, the range that recordings usually show.
        unusual: The metrics whose figure is outside of it.
    """
    baselines, marked = baselines_of(card), set(unusual)
    groups: dict[str, list[CardRow]] = {}
    for name, rows in card.items():
        metric, found = METRICS[name], rows.get(TRANSLATION)
        groups.setdefault(QUESTIONS[metric.question], []).append(
            CardRow(
                name=name,
                label=metric_label(metric),
                meaning=metric.meaning,
                value=value_text(metric, found),
                interval=interval_text(metric, found),
                score=score_text(found),
                baselines=tuple(value_text(metric, rows.get(row)) for row in baselines),
                usual=range_text(metric, usual.get(name)),
                is_unusual=name in marked,
            )
        )
    return groups


def card_table(
    card: ScoreCard, title: str, usual: Mapping[str, Interval], unusual: Iterable[str]
) -> Table:
    """Lay out a score card for a terminal: a line a metric, a column a baseline."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None)
    table.add_column("figure")
    baselines = [ROW_LABELS[row] for row in baselines_of(card)]
    for heading in (ROW_LABELS[TRANSLATION], "95 %", "score", *baselines, "usual"):
        table.add_column(heading, justify="right")
    for question, rows in card_rows(card, usual, unusual).items():
        table.add_row(Text(question, style="bold"))
        for row in rows:
            mark = Text(UNUSUAL_MARK if row.is_unusual else " " * len(UNUSUAL_MARK))
            value = Text(row.value, style="bold yellow" if row.is_unusual else "") + mark
            cells = (row.interval, row.score, *row.baselines, row.usual)
            table.add_row(f"  {row.label}", value, *cells)
    return table


def matrix_table(matrix: Matrix, metric: Metric) -> Table:
    """Lay out one metric of all translations: a line a source, a column a target."""
    from rich.table import Table
    from rich.text import Text

    targets = sorted({target for _, target in matrix.cells})
    table = Table(title=Text(f"{metric_label(metric)}: source × target"), box=None)
    table.title_justify = "left"
    table.add_column("from \\ to")
    for target in targets:
        table.add_column(Text(target), justify="right")
    for source in sorted({source for source, _ in matrix.cells}):
        cells = (matrix.cells.get((source, target), {}) for target in targets)
        found = (cell.get(metric.name, {}).get(TRANSLATION) for cell in cells)
        table.add_row(Text(source), *(value_text(metric, estimate) for estimate in found))
    return table


def baselines_of(card: ScoreCard) -> list[str]:
    """Return the baselines that a card has, in the order of the catalogue."""
    present = {row for rows in card.values() for row in rows} - {TRANSLATION}
    return [row for row in ROWS if row in present]


def metric_label(metric: Metric) -> str:
    """Return a metric's name and unit for readers, with a mark where it is not to be trusted."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.label}{unit}{'' if metric.is_trusted else ' (!)'}"


def warnings_of(
    card: ScoreCard, usual: Mapping[str, Interval], unusual: Iterable[str]
) -> list[str]:
    """Return a line on each kind of mark in a table; none where there are no marks."""
    doubtful = [METRICS[name] for name in card if not METRICS[name].is_trusted]
    outside = [
        f"{METRICS[name].label} {value_text(METRICS[name], card[name].get(TRANSLATION))} "
        f"({range_text(METRICS[name], usual[name])})"
        for name in unusual
    ]
    lines = []
    if doubtful:
        aucs = ", ".join(
            f"{own.label} {'not calibrated' if own.auc is None else f'{own.auc:.2f}'}"
            for own in doubtful
        )
        lines.append(f"(!) separates right from wrong with an AUC below {TRUSTED_AUC}: {aucs}")
    if outside:
        lines.append(f"* outside what recordings usually show: {'; '.join(outside)}")
    return lines


def value_text(metric: Metric, estimate: Estimate | None) -> str:
    """Return a figure with the decimals of its metric."""
    if estimate is None or estimate.value is None:
        return EMPTY
    return _number(metric, estimate.value)


def _number(metric: Metric, value: float) -> str:
    return f"{value:z.{metric.digits}f}"  # z: zero without a sign


def interval_text(metric: Metric, estimate: Estimate | None) -> str:
    """Return the 95 % interval of a figure."""
    return range_text(metric, None if estimate is None else estimate.interval)


def score_text(estimate: Estimate | None) -> str:
    """Return the normalised score of a figure in percent."""
    return EMPTY if estimate is None or estimate.score is None else f"{estimate.score:z.0%}"


def range_text(metric: Metric, ends: Interval | None) -> str:
    """Return a range of figures."""
    return EMPTY if ends is None else " to ".join(_number(metric, end) for end in ends)


def card_json(card: ScoreCard) -> dict[str, object]:
    """Return a score card as JSON values: by metric, its AUC and its rows."""
    return {
        name: {
            "auc": METRICS[name].auc,
            "rows": {row: asdict(estimate) for row, estimate in rows.items()},
        }
        for name, rows in card.items()
    }


def heard_text(figures: SongFigures) -> str:
    """Return the most probable domains, and in what the sound is unlike recordings of them."""
    if figures.heard is None:
        return ""
    likely = sorted(figures.heard.items(), key=lambda item: -item[1])[:2]
    text = "; heard as " + ", ".join(f"{name} {share:.0%}" for name, share in likely)
    of_sound = [
        METRICS[name].label
        for name in figures.unusual
        if METRICS[name].question != "content" and not name.endswith("_probability")
    ]
    return f"{text}, but unlike recordings in: {', '.join(of_sound)}" if of_sound else text
