"""`umt eval --paired`: a model's translations beside the same notes truly played."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core.metrics.catalogue import METRICS
from umtcli.console import Progress
from umtcli.evaluating.tables import card_json, card_table, matrix_table, warning_of

if TYPE_CHECKING:
    from pathlib import Path

    from core.evaluation.paired import Matrix, PairFigures, Piece
    from core.metrics.timbre import TimbreClassifier
    from core.model import Translator
    from umtcli.console import Environment


@dataclass(frozen=True)
class PairedResult:
    """What was found out about a model on paired music.

    Attributes:
        pieces: The pieces.
        figures: Of each translation.
        matrix: Of all of them.
    """

    pieces: list[Piece]
    figures: list[PairFigures]
    matrix: Matrix


def evaluate_pairs(
    env: Environment, model: Translator, directory: Path, classifier: TimbreClassifier
) -> PairedResult:
    """Translate and measure, showing progress."""
    from core.evaluation.paired import evaluate_paired, find_pieces, pairs_of, summarise

    pieces = find_pieces(directory, model.domains)
    found: list[PairFigures] = []
    with Progress(env, "comparing", pairs_of(pieces), unit="translations") as progress:
        for pair in evaluate_paired(model, pieces, classifier):
            # An hour of translations has no place in memory; those of one piece are for listening.
            is_heard = pair.piece == pieces[0].name
            found.append(pair if is_heard else replace(pair, output=None))
            progress.advance(1)
    return PairedResult(pieces, found, summarise(found))


def pairs_json(result: PairedResult) -> dict[str, Any]:
    """Return what was found out as JSON values: means, matrix, and every translation."""
    return {
        "pieces": result.matrix.n_pieces,
        "metrics": card_json(result.matrix.overall),
        "matrix": [
            {"source": source, "target": target, "metrics": card_json(card)}
            for (source, target), card in result.matrix.cells.items()
        ],
        "results": [
            {
                "piece": pair.piece,
                "rendering": pair.rendering,
                "source": pair.source,
                "target": pair.target,
                "rows": pair.rows,
            }
            for pair in result.figures
        ],
    }


def show_pairs(env: Environment, result: PairedResult, model_name: str) -> None:
    """Write the means beside their yardsticks, and the matrix of every metric."""
    n_pieces, n_pairs = result.matrix.n_pieces, len(result.figures)
    title = f"{model_name}: {n_pairs} translations of {n_pieces} pieces"
    env.write_table(card_table(result.matrix.overall, title))
    for name in result.matrix.overall:
        env.write_table(matrix_table(result.matrix, METRICS[name]))
    warning = warning_of(result.matrix.overall)
    if warning:
        env.notice(warning)
