"""The model that a run begins with: new, grown from a trained one, or one with a decoder more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import DataError
from core.training.adding import check_addition, extended_model, lineage
from core.training.parent import ancestry, descendant
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core.config import Config
    from core.data.domain import Domain
    from core.training.adding import Addition


def first_model(
    config: Config, domains: Sequence[Domain], addition: Addition | None, parent: Path | None
) -> Translator:
    """Return the model as it is before the first update.

    Args:
        config: The configuration.
        domains: Prepared domains; for an addition, the added one.
        addition: What is added to a trained model, if anything.
        parent: A trained model that the new one begins with, if any.

    Raises:
        UsageError: The parent does not fit the configuration, or the addition its model.
        DataError: There are no recordings.
    """
    if addition is not None:
        check_addition(addition, config)
        return extended_model(addition, config)
    names = [domain.name for domain in domains]
    if parent is not None:
        model = descendant(parent, config, names)
    else:
        model = Translator.create(config, names, seed=config.training.seed)
    model.level_db = _mean_level_db(domains)
    return model


def lineage_of(addition: Addition | None, parent: Path | None) -> dict[str, Any]:
    """Return what the training record says of the model before; empty for a new one."""
    if addition is not None:
        return lineage(addition)
    return {} if parent is None else ancestry(parent)


def _mean_level_db(domains: Sequence[Domain]) -> float:
    levels = [track.level_db for domain in domains for track in domain.tracks]
    if not levels:
        raise DataError("no prepared recordings")
    return sum(levels) / len(levels)
