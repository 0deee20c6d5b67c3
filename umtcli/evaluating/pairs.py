"""`umt eval --paired`: a model's translations beside the same notes truly played."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import UsageError
from core.metrics.catalogue import METRICS
from umtcli.console import Progress
from umtcli.evaluating.songs import load_classifier
from umtcli.evaluating.tables import card_json, card_table, matrix_table, warning_of
from umtcli.models import choose_model, load_translator

if TYPE_CHECKING:
    from core.evaluation.paired import Matrix, PairFigures, Piece
    from core.metrics.timbre import TimbreClassifier
    from core.model_file import FoundModel, ModelHeader
    from core.translator import Translator
    from umtcli.console import Environment
    from umtcli.evaluating.asked import Asked


def measure_pairs(env: Environment, asked: Asked) -> None:
    """Translate and measure, and show what was found."""
    assert asked.paired is not None
    found, header, model, pieces = open_pairs(env, asked)
    figures, matrix = _evaluate(env, model, pieces, load_classifier(env, asked.data))
    if asked.page is not None:
        from umtcli.report.results import pairs_page

        asked.write_page(env, pairs_page(matrix, figures, pieces[0], found.name, model.sample_rate))
    if asked.is_json:
        env.write_json(
            "eval", {"model": found.name, "id": header.id, **pairs_json(figures, matrix)}
        )
    else:
        show_pairs(env, figures, matrix, found.name)


def open_pairs(
    env: Environment, asked: Asked
) -> tuple[FoundModel, ModelHeader, Translator, list[Piece]]:
    """Find the model and the pieces of its domains.

    Raises:
        UsageError: There is no such directory.
        DataError: It holds no such pieces.
    """
    from core.evaluation.paired import find_pieces

    assert asked.paired is not None
    if not asked.paired.is_dir():
        raise UsageError(f"--paired {asked.paired}: not a directory")
    found, header = choose_model(env, asked.model, [])
    pieces = find_pieces(asked.paired, header.domains)
    return found, header, load_translator(found, header.domains, asked.device), pieces


def _evaluate(
    env: Environment, model: Translator, pieces: list[Piece], classifier: TimbreClassifier
) -> tuple[list[PairFigures], Matrix]:
    from core.evaluation.paired import evaluate_paired, pairs_of, summarise

    found: list[PairFigures] = []
    with Progress(env, "comparing", pairs_of(pieces), unit="translations") as progress:
        for pair in evaluate_paired(model, pieces, classifier):
            # An hour of translations has no place in memory; those of one piece are for listening.
            is_heard = pair.piece == pieces[0].name
            found.append(pair if is_heard else replace(pair, output=None))
            progress.advance(1)
    return found, summarise(found)


def pairs_json(figures: list[PairFigures], matrix: Matrix) -> dict[str, Any]:
    """Return what was found out as JSON values: means, matrix, and every translation."""
    return {
        "pieces": matrix.n_pieces,
        "metrics": card_json(matrix.overall),
        "matrix": [
            {"source": source, "target": target, "metrics": card_json(card)}
            for (source, target), card in matrix.cells.items()
        ],
        "results": [
            {
                "piece": pair.piece,
                "rendering": pair.rendering,
                "source": pair.source,
                "target": pair.target,
                "rows": pair.rows,
            }
            for pair in figures
        ],
    }


def show_pairs(
    env: Environment, figures: list[PairFigures], matrix: Matrix, model_name: str
) -> None:
    """Write the means beside their yardsticks, and the matrix of every metric."""
    n_pieces, n_pairs = matrix.n_pieces, len(figures)
    title = f"{model_name}: {n_pairs} translations of {n_pieces} pieces"
    env.write_table(card_table(matrix.overall, title))
    for name in matrix.overall:
        env.write_table(matrix_table(matrix, METRICS[name]))
    warning = warning_of(matrix.overall)
    if warning:
        env.notice(warning)
