"""`umt eval IN…`: audio, by itself or against its source and true renderings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.evaluation import EVALUATION_RATE
from umtcli.errors import ItemResults
from umtcli.eval import JSON_VERSION
from umtcli.eval.inputs import EvalInput, read_inputs
from umtcli.eval.tables import card_json, card_table, heard_text, warnings_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from core.evaluation.analysis import Analysis
    from core.evaluation.song import SongFigures
    from core.metrics.timbre import TimbreClassifier
    from umtcli.console import Environment
    from umtcli.eval.options import EvalOptions


def evaluate_audio(env: Environment, options: EvalOptions) -> None:
    """Evaluate the inputs one after the other, and show the results."""
    batch = ItemResults(env)
    inputs = read_inputs(batch, options)
    classifier = load_classifier(env, options.data)
    found = []
    for own in inputs:
        with batch.item(own.name):
            figures = _evaluate(env, own, classifier)
            batch.results.append(_as_json(own, figures))
            if options.html is not None:  # else the waveforms of a whole batch would stay in memory
                found.append((own, figures))
            if not options.is_json:
                _show(env, own, figures)
    if found:
        from umtcli.eval.page import audio_page

        options.write_html(env, audio_page(found))
    batch.finish("eval", is_json=options.is_json, version=JSON_VERSION)


def load_classifier(env: Environment, data: Path | None) -> TimbreClassifier:
    """Return the classifier of prepared domains, or the shipped one without any."""
    from core.data.domain import load_domains
    from core.evaluation.classifier_cache import classifier_of, shipped_classifier

    if data is None:
        return shipped_classifier()
    return classifier_of(load_domains(data, None), data, notice=env.notice)


def _evaluate(env: Environment, own: EvalInput, classifier: TimbreClassifier) -> SongFigures:
    from core.evaluation.analysis import Analysis
    from core.evaluation.song import evaluate_song

    def analysis(waveform: NDArray[np.float32]) -> Analysis:
        return Analysis(waveform, EVALUATION_RATE, classifier)

    if own.target is not None and own.target not in classifier.domains:
        known = ", ".join(classifier.domains)
        env.notice(
            f"{own.label}: the timbre classifier does not know {own.target}, only {known}; "
            "with --data it is trained on the prepared domains"
        )
    return evaluate_song(
        analysis(own.waveform),
        source=None if own.source is None else analysis(own.source),
        target=own.target,
        references=[analysis(waveform) for waveform in own.references],
    )


def _as_json(own: EvalInput, figures: SongFigures) -> dict[str, object]:
    return {
        "input": own.name,
        "source": own.source_name,
        "target": own.target,
        "references": list(own.reference_names),
        "seconds": figures.seconds,
        "source_domain": figures.source_domain,
        "heard": figures.heard,
        "source_heard": figures.source_heard,
        "usual": {name: list(ends) for name, ends in figures.usual.items()},
        "unusual": list(figures.unusual),
        "metrics": card_json(figures.card),
    }


def _show(env: Environment, own: EvalInput, figures: SongFigures) -> None:
    against = f" from {own.source_name}" if own.source_name else ""
    title = f"{own.label}{against}, {figures.seconds:.1f} s{heard_text(figures)}"
    env.write_table(card_table(figures.card, title, figures.usual, figures.unusual))
    for line in warnings_of(figures.card, figures.usual, figures.unusual):
        env.notice(line)
