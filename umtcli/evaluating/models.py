"""`umt eval --data`: a model on held-out tracks."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from core.errors import AudioError, UsageError
from umtcli.models import choose_model, load_translator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.data.domain import Domain
    from core.evaluation.model import DomainFigures
    from core.model import Translator
    from core.modelfile import FoundModel, ModelHeader
    from umtcli.console import Environment
    from umtcli.evaluating.asked import Asked


def measure_model(env: Environment, asked: Asked) -> None:
    """Measure a model on the prepared domains that it knows, and show what was found."""
    from core.data.domain import load_domains

    assert asked.data is not None
    prepared = load_domains(asked.data, None)
    found, header = choose_model(env, asked.model, [])
    domains = known_domains(env, prepared, found, header)
    model = load_translator(found, [domain.name for domain in domains], asked.device)
    rows = evaluate_domains(model, domains)
    if asked.is_json:
        facts = {"model": found.name, "id": header.id}
        env.write_json("eval", facts | domains_json(model, rows))
    else:
        show_domains(env, model, rows)


def known_domains(
    env: Environment, prepared: Sequence[Domain], found: FoundModel, header: ModelHeader
) -> list[Domain]:
    """Return the prepared domains that the model knows; the others are told.

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


def evaluate_domains(model: Translator, domains: Sequence[Domain]) -> list[DomainFigures]:
    """Measure a model on each split of each domain.

    Raises:
        AudioError: The domains hold no audio.
    """
    from core.data.domain import SPLITS
    from core.evaluation.model import evaluate_model

    rows = list(evaluate_model(model, domains, SPLITS))
    if not rows:
        raise AudioError("the prepared domains hold no audio")
    return rows


def domains_json(model: Translator, rows: Sequence[DomainFigures]) -> dict[str, Any]:
    """Return what was found out as JSON values."""
    return {
        "figure": model.family_description.figure,
        "chance": 1 / len(model.domains),
        "results": [asdict(row) for row in rows],
    }


def show_domains(env: Environment, model: Translator, rows: Sequence[DomainFigures]) -> None:
    """Write what was found out as a table."""
    from rich.table import Table

    family = model.family_description
    ceiling = family.figure_ceiling
    unit = family.figure if ceiling is None else f"{family.figure} (untrained {ceiling:.2f})"
    table = Table("domain", "split", box=None)
    chance = 1 / len(model.domains)
    for heading in ("minutes", unit, f"confusion accuracy (chance {chance:.2f})"):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = (f"{row.minutes:.1f}", f"{row.figure:.3f}", f"{row.confusion_accuracy:.2f}")
        table.add_row(row.domain, row.split, *cells)
    env.write_table(table)
