"""`umt eval --paired`: a model's translations beside the same notes truly played."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from core.errors import UsageError
from core.metrics.catalogue import METRICS
from umtcli.console import Progress
from umtcli.eval import JSON_VERSION
from umtcli.eval.audio import load_classifier
from umtcli.eval.tables import card_json, card_table, matrix_table, warnings_of
from umtcli.models import choose_model, load_translator

if TYPE_CHECKING:
    from core.evaluation.paired import Matrix, PairFigures, Piece
    from core.metrics.timbre import TimbreClassifier
    from core.model_file import FoundModel, ModelHeader
    from core.translator import Translator
    from umtcli.console import Environment
    from umtcli.eval.options import EvalOptions


def evaluate_pairs(env: Environment, options: EvalOptions) -> None:
    """Translate, measure, and show the results."""
    found, header, model, pieces = open_pairs(env, options)
    figures, matrix = _evaluate(env, model, pieces, load_classifier(env, options.data))
    if options.html is not None:
        from umtcli.eval.page import paired_page

        page = paired_page(matrix, figures, pieces[0], found.name, model.sample_rate)
        options.write_html(env, page)
    if options.is_json:
        facts = {"version": JSON_VERSION, "model": found.name, "id": header.id}
        env.write_json("eval", facts | _as_json(figures, matrix))
    else:
        _show(env, figures, matrix, found.name)


def open_pairs(
    env: Environment, options: EvalOptions
) -> tuple[FoundModel, ModelHeader, Translator, list[Piece]]:
    """Find the model and the pieces of its domains.

    Raises:
        UsageError: There is no such directory.
        DataError: It holds no such pieces.
    """
    from core.evaluation.paired import find_pieces

    assert options.paired is not None
    if not options.paired.is_dir():
        raise UsageError(f"--paired {options.paired}: not a directory")
    found, header = choose_model(env, options.model, [])
    pieces = find_pieces(options.paired, header.domains)
    return found, header, load_translator(found, header.domains, options.device), pieces


def _evaluate(
    env: Environment, model: Translator, pieces: list[Piece], classifier: TimbreClassifier
) -> tuple[list[PairFigures], Matrix]:
    from core.evaluation.paired import evaluate_paired, pairs_of, summarise

    found: list[PairFigures] = []
    with Progress(env, "comparing", pairs_of(pieces), unit="translations") as progress:
        for pair in evaluate_paired(model, pieces, classifier):
            # Only the first piece is played on the page; an hour of audio would fill the memory.
            is_played = pair.piece == pieces[0].name
            found.append(pair if is_played else replace(pair, output=None))
            progress.advance(1)
    return found, summarise(found, classifier)


def _as_json(figures: list[PairFigures], matrix: Matrix) -> dict[str, object]:
    """Return means, matrix, and every translation as JSON values."""
    return {
        "pieces": matrix.n_pieces,
        "usual": {name: list(ends) for name, ends in matrix.usual.items()},
        "unusual": list(matrix.unusual),
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


def _show(env: Environment, figures: list[PairFigures], matrix: Matrix, model_name: str) -> None:
    """Write the means beside their baselines, and the matrix of every metric."""
    title = f"{model_name}: {len(figures)} translations of {matrix.n_pieces} pieces"
    env.write_table(card_table(matrix.overall, title, matrix.usual, matrix.unusual))
    for name in matrix.overall:
        env.write_table(matrix_table(matrix, METRICS[name]))
    for line in warnings_of(matrix.overall, matrix.usual, matrix.unusual):
        env.notice(line)
