"""`umt eval IN…`: audio, by itself or against its source and true renderings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import input_label
from core.evaluation import EVALUATION_RATE
from umtcli.errors import ItemResults
from umtcli.eval import JSON_VERSION
from umtcli.eval.inputs import EvalInput, read_input
from umtcli.eval.tables import UNPITCHED_SOURCE, card_json, card_table, heard_text, warnings_of
from umtcli.inputs import choose_inputs, find_inputs
from umtcli.processes import Processes, share_inputs

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from core.evaluation.analysis import Analysis
    from core.evaluation.song import SongFigures
    from core.metrics.timbre import TimbreClassifier
    from umtcli.console import Environment
    from umtcli.eval.options import EvalOptions
    from umtcli.eval.page import Section
    from umtcli.inputs import Input


@dataclass(frozen=True)
class _Measured:
    """What is shown of an input; the waveforms of a whole batch would fill the memory."""

    name: str
    source_name: str | None
    figures: SongFigures
    section: Section | None


def evaluate_audio(env: Environment, options: EvalOptions) -> None:
    """Evaluate the inputs one after the other, and show the results."""
    results, processes = ItemResults(env), Processes()

    def plan() -> tuple[list[Input], list[list[int]]]:
        # Directories are listed now, so that one without audio fails before anything is measured.
        inputs = find_inputs(results, choose_inputs(env, options.inputs))
        return inputs, share_inputs(inputs, processes.count)

    inputs, shares = processes.agreed(plan)
    classifier = processes.agreed(lambda: load_classifier(env, options.data))
    measured: list[_Measured] = []
    for index in shares[processes.rank]:
        name = inputs[index].name
        with results.item(name):
            own = read_input(env, name, options)
            figures = _evaluate(env, own, classifier)
            section = None
            if options.html is not None:
                from umtcli.eval.page import audio_section

                section = audio_section(own, figures)
            results.results.append(_as_json(own, figures))
            measured.append(_Measured(name, own.source_name, figures, section))
            if processes.count == 1 and not options.is_json:
                _show(env, measured[-1])
    order = [own.name for own in inputs]
    all_measured = [one for share in processes.gathered(measured) for one in share]
    if not processes.merge(results, "input", order):
        return
    all_measured.sort(key=lambda one: order.index(one.name))
    if processes.count > 1 and not options.is_json:
        for one in all_measured:
            _show(env, one)
    if options.html is not None and all_measured:
        from umtcli.eval.page import audio_page

        sections = [one.section for one in all_measured if one.section is not None]
        options.write_html(env, audio_page(sections))
    results.finish("eval", is_json=options.is_json, version=JSON_VERSION)


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
        "source_is_unpitched": figures.source_is_unpitched,
        "usual": {name: list(ends) for name, ends in figures.usual.items()},
        "unusual": list(figures.unusual),
        "metrics": card_json(figures.card),
    }


def _show(env: Environment, measured: _Measured) -> None:
    figures = measured.figures
    against = f" from {measured.source_name}" if measured.source_name else ""
    label = input_label(measured.name)
    title = f"{label}{against}, {figures.seconds:.1f} s{heard_text(figures)}"
    env.write_table(card_table(figures.card, title, figures.usual, figures.unusual))
    if figures.source_is_unpitched:
        env.notice(f"{label}: {UNPITCHED_SOURCE}, whatever the figures are")
    for line in warnings_of(figures.card, figures.usual, figures.unusual):
        env.notice(line)
