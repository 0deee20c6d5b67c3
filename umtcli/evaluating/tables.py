"""Score cards for readers and for programs: rich tables, and values for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

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

NOTHING = "-"


def card_table(card: ScoreCard, title: str, typical: Mapping[str, Any] | None = None) -> Table:
    """Lay out a score card: a line a metric, a column a yardstick.

    Args:
        card: What was measured.
        title: Of the table.
        typical: The target domain's 5, 50 and 95 % points of some metrics.
    """
    from rich.table import Table
    from rich.text import Text

    shown = rows_of(card)
    table = Table(title=Text(title), title_justify="left", box=None)
    table.add_column("figure")
    for heading in (ROW_LABELS[TRANSLATION], "95 %", "share", *(ROW_LABELS[r] for r in shown[1:])):
        table.add_column(heading, justify="right")
    if typical:
        table.add_column("typical", justify="right")
    for question, text in QUESTIONS.items():
        names = [name for name in card if METRICS[name].question == question]
        if names:
            table.add_row(Text(text, style="bold"))
        for name in names:
            metric, rows = METRICS[name], card[name]
            found = rows.get(TRANSLATION)
            cells = [
                value_text(metric, found),
                interval_text(metric, found),
                share_text(found),
                *(value_text(metric, rows.get(row)) for row in shown[1:]),
            ]
            if typical:
                cells.append(range_text(metric, typical.get(name)))
            table.add_row(f"  {metric_label(metric)}", *cells)
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


def rows_of(card: ScoreCard) -> list[str]:
    """Return the rows that a card has, the translation first."""
    present = {row for rows in card.values() for row in rows} | {TRANSLATION}
    return [row for row in ROWS if row in present]


def metric_label(metric: Metric) -> str:
    """Return a metric's name and unit for readers, with a warning where it is not to be trusted."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.label}{unit}{'' if metric.is_trusted else ' (!)'}"


def warning_of(names: Iterable[str]) -> str | None:
    """Return one line on the metrics that calibration found wanting; None if there are none."""
    doubtful = [METRICS[name] for name in names if not METRICS[name].is_trusted]
    if not doubtful:
        return None
    told = ", ".join(
        f"{metric.label} {'not calibrated' if metric.auc is None else f'{metric.auc:.2f}'}"
        for metric in doubtful
    )
    return f"(!) tells right from wrong with an AUC below {TRUSTED_AUC}: {told}"


def value_text(metric: Metric, estimate: Estimate | None) -> str:
    """Return a figure with the decimals of its metric."""
    if estimate is None or estimate.value is None:
        return NOTHING
    return _number(metric, estimate.value)


def _number(metric: Metric, value: float) -> str:
    return f"{value:z.{metric.digits}f}"  # z: zero without a sign


def interval_text(metric: Metric, estimate: Estimate | None) -> str:
    """Return the interval of a figure."""
    if estimate is None or estimate.interval is None:
        return NOTHING
    return " to ".join(_number(metric, end) for end in estimate.interval)


def share_text(estimate: Estimate | None) -> str:
    """Return a figure as a share of the way between its metric's two ends."""
    return NOTHING if estimate is None or estimate.share is None else f"{estimate.share:z.0%}"


def range_text(metric: Metric, ends: tuple[float, float, float] | None) -> str:
    """Return the typical range of a figure."""
    if ends is None:
        return NOTHING
    return f"{_number(metric, ends[0])} to {_number(metric, ends[2])}"


def card_json(card: ScoreCard) -> dict[str, Any]:
    """Return a score card as JSON values: by metric, its AUC and its rows."""
    return {
        name: {
            "auc": METRICS[name].auc,
            "rows": {row: asdict(estimate) for row, estimate in rows.items()},
        }
        for name, rows in card.items()
    }


def heard_text(figures: SongFigures) -> str:
    """Return what the classifier hears, the likeliest domains first."""
    if figures.heard is None:
        return ""
    likely = sorted(figures.heard.items(), key=lambda item: -item[1])[:2]
    return "; heard as " + ", ".join(f"{name} {share:.0%}" for name, share in likely)
