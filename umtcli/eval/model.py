"""`umt eval --data`: a model on held-out tracks of prepared domains."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from core.errors import DataError, UsageError
from umtcli.console import Progress
from umtcli.eval import JSON_VERSION
from umtcli.models import choose_model, load_translator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.data.domain import Domain
    from core.evaluation.model import ModelFigures
    from core.model_file import FoundModel, ModelHeader
    from core.translator import Translator
    from umtcli.console import Environment
    from umtcli.eval.options import EvalOptions


def evaluate_data(env: Environment, options: EvalOptions) -> None:
    """Measure a model on the prepared domains that it knows, and show the results."""
    from core.data.domain import SPLITS, load_domains
    from core.evaluation.model import count_segments, evaluate_model

    assert options.data is not None
    # `umt eval --data data < song.wav` may have meant the audio.
    if options.model is None and env.stdin_kind == "data":
        env.notice("--data alone measures a model, and stdin is not read; name it - if it is audio")
    prepared = load_domains(options.data, None)
    found, header = choose_model(env, options.model, [])
    domains = _known_domains(env, prepared, found, header)
    # Only these: each further decoder costs time and memory.
    model = load_translator(found, [domain.name for domain in domains], options.device)
    n_segments = count_segments(model, domains, SPLITS)
    with Progress(env, "measuring", n_segments, unit="segments") as progress:
        figures = evaluate_model(model, domains, SPLITS, on_measured=progress.advance)
    if not figures.domains:
        raise DataError(
            f"{options.data}: no audio in the domains that {found.name} knows; "
            "fill them with umt prep"
        )
    if options.is_json:
        facts = {"version": JSON_VERSION, "model": found.name, "id": header.id}
        env.write_json("eval", facts | _as_json(model, figures))
    else:
        _show(env, model, figures)


def _known_domains(
    env: Environment, prepared: Sequence[Domain], found: FoundModel, header: ModelHeader
) -> list[Domain]:
    """Return the prepared domains that the model knows, and report the others.

    Raises:
        UsageError: There are none.
    """
    known = [domain for domain in prepared if domain.name in header.domains]
    if not known:
        raise UsageError(
            f"the data has {', '.join(domain.name for domain in prepared)}, "
            f"{found.name} knows {', '.join(header.domains)}: nothing in common"
        )
    for domain in prepared:
        if domain not in known:
            env.notice(f"{domain.name} is unknown to {found.name}: left out")
    return known


def _as_json(model: Translator, figures: ModelFigures) -> dict[str, object]:
    return {
        "figure": model.family_description.figure,
        "chance": 1 / len(model.classified),
        "probe_accuracy": figures.probe_accuracy,
        "probe_chance": figures.probe_chance,
        "notes": None if figures.notes is None else asdict(figures.notes),
        "results": [asdict(row) for row in figures.domains],
    }


def _show(env: Environment, model: Translator, figures: ModelFigures) -> None:
    """Write a table of domains and splits, and two lines about the latents."""
    from rich.table import Table
    from rich.text import Text

    family = model.family_description
    names = list(dict.fromkeys(name for row in figures.domains for name in row.baselines))
    table = Table("domain", "split", box=None)
    chance = 1 / len(model.classified)
    for heading in ("minutes", family.figure, *names, f"confusion accuracy (chance {chance:.2f})"):
        table.add_column(heading, justify="right")
    for row in figures.domains:
        baselines = (row.baselines.get(name) for name in names)
        cells = ["-" if value is None else f"{value:.2f}" for value in baselines]
        accuracy = "-" if row.confusion_accuracy is None else f"{row.confusion_accuracy:.2f}"
        numbers = (f"{row.minutes:.1f}", f"{row.figure:.3f}")
        table.add_row(Text(row.domain), row.split, *numbers, *cells, accuracy)
    env.write_table(table)
    if figures.probe_accuracy is not None:
        env.write_text(
            f"latents: a probe finds the domain of {figures.probe_accuracy:.0%} of held-out "
            f"segments (chance {figures.probe_chance:.0%})\n"
        )
    if figures.notes is not None:
        own = figures.notes
        env.write_text(
            f"latents: one note on several instruments {own.same_note:.2f} apart, several notes "
            f"on one instrument {own.same_instrument:.2f}; AUC {own.auc:.2f}\n"
        )
