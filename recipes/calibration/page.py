"""Write the tables of `docs/evaluation.md` from what the package holds.

    python recipes/calibration/page.py

The definitions come from `core.metrics.catalogue`, the figures from its `calibration.json`. A test
fails when the page and the package differ.
"""

from __future__ import annotations

from pathlib import Path

from core.metrics.catalogue import (
    METRICS,
    QUESTIONS,
    ROW_LABELS,
    TRUSTED_AUC,
    Metric,
    RowStatistics,
    calibration,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
BEGIN, END = "<!-- {}: made by recipes/calibration/page.py -->", "<!-- end of {} -->"


def metrics_table() -> str:
    """Return the metrics with the baselines of their normalised score."""
    lines = ["| figure | JSON name | better | score 0 | score 1 |", "|---|---|---|---|---|"]
    for question, text in QUESTIONS.items():
        lines.append(f"| **{text}** | | | | |")
        for metric in METRICS.values():
            if metric.question == question:
                unit = f", {metric.unit}" if metric.unit else ""
                better = "higher" if metric.is_higher_better else "lower"
                better = "as the true rendering" if metric.is_two_sided else better
                best = ", else ".join(ROW_LABELS[row] for row in metric.best)
                name = f"{metric.label}{unit} | `{metric.name}`"
                lines.append(f"| {name} | {better} | {ROW_LABELS[metric.worst]} | {best} |")
    return "\n".join(lines)


def calibration_table() -> str:
    """Return how well each metric separates its right pairs from its wrong ones."""
    published = calibration()
    held_out = published["held_out_rendering"]
    lines = [
        f"{published['pieces']} pieces, {published['translations']} perfect translations among "
        f"{', '.join(published['domains'])}; rendered by {', '.join(published['renderings'])}. "
        f"Mean (5 to 95 %).",
        "",
        f"| figure | right pairs | wrong pairs | AUC | {held_out} alone |",
        "|---|---|---|---|---|",
    ]
    for name, metric in METRICS.items():
        found = published["metrics"].get(name)
        if found is None:
            continue
        cells = [
            _cell(metric, row, found["rows"][row]) for row in (metric.positive, metric.negative)
        ]
        alone = found["auc_held_out"]
        doubt = "" if found["auc"] >= TRUSTED_AUC else " **(!)**"
        alone_text = "-" if alone is None else f"{alone:.2f}"
        lines.append(
            f"| {metric.label} | {' | '.join(cells)} | {found['auc']:.3f}{doubt} | {alone_text} |"
        )
    return "\n".join(lines)


def _cell(metric: Metric, row: str, found: RowStatistics) -> str:
    values = (found["mean"], found["low"], found["high"])
    mean, low, high = (f"{value:.{metric.digits}f}" for value in values)
    return f"{ROW_LABELS.get(row, row)} {mean} ({low} to {high})"


def rows_table() -> str:
    """Return the mean of every row of every metric."""
    published = calibration()["metrics"]
    rows = list(dict.fromkeys(row for found in published.values() for row in found["rows"]))
    head = " | ".join(ROW_LABELS.get(row, row) for row in rows)
    lines = [f"| mean | {head} |", "|---|" + "---|" * len(rows)]
    for name, found in published.items():
        metric = METRICS[name]
        values = (found["rows"].get(row) for row in rows)
        cells = ("-" if own is None else f"{own['mean']:.{metric.digits}f}" for own in values)
        lines.append(f"| {metric.label} | {' | '.join(cells)} |")
    return "\n".join(lines)


TABLES = {"metrics": metrics_table, "calibration": calibration_table, "rows": rows_table}


def filled(page: str) -> str:
    """Return the page with its tables replaced."""
    for name, table in TABLES.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{table()}\n{end}{rest.split(end)[1]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
