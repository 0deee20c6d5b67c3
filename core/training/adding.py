"""A domain added to a trained model: one new decoder on an encoder that stays as it is.

In: a model file. Out: a model with one more decoder, of which only that one will learn, and
what to train it with. The domain classifier does not get to know the new domain: telling
it apart would need the old domains' recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from core.errors import UsageError
from core.model_file import find_domain, part_of, read_header
from core.training.parent import ancestry, check_same_networks, config_of
from core.translator import Translator

if TYPE_CHECKING:
    from pathlib import Path

    from core.config import Config


@dataclass(frozen=True)
class Addition:
    """What is added to which model.

    Attributes:
        name: The new domain.
        parent: The model file that it is added to.
        like: Domain of the model whose decoder the new one starts from; None for fresh weights.
    """

    name: str
    parent: Path
    like: str | None = None


def config_for(addition: Addition) -> Config:
    """Return the parent's configuration with as many steps as one of its decoders gets.

    Raises:
        ModelError: The parent is missing or damaged.
    """
    config = config_of(addition.parent)
    n_domains = len(read_header(addition.parent).classified)
    share = min(config.training.domains_per_step, n_domains) / n_domains
    return config.updated("training", steps=max(1, round(share * config.training.steps)))


def check_addition(addition: Addition, config: Config) -> None:
    """Check against the parent's header, before anything is loaded.

    Raises:
        ModelError: The parent is missing or damaged.
        UsageError: The parent has that domain, or not the one to start from, or other networks.
    """
    header = read_header(addition.parent)
    if addition.name in header.domains:
        raise UsageError(
            f"{addition.parent} has a domain {addition.name!r} already; prepare the recordings "
            "under another name (umt prep --name) and add that"
        )
    if addition.like is not None:
        find_domain(addition.like, header.domains)
    check_same_networks(addition.parent, config)


def extended_model(addition: Addition, config: Config) -> Translator:
    """Return the parent with one more decoder; its encoder and old decoders are frozen."""
    parent = Translator.load(addition.parent)
    domains = [*parent.domains, addition.name]  # the ids of the old ones stay
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model = Translator(config, domains, domains, classified=parent.classified)
    model.load_state_dict(model.state_dict() | parent.state_dict())
    decoder = model.decoders[addition.name]
    if addition.like is not None:
        decoder.load_state_dict(parent.decoders[addition.like].state_dict())
    model.encoder.requires_grad_(requires_grad=False)
    model.decoders.requires_grad_(requires_grad=False)
    decoder.requires_grad_(requires_grad=True)
    model.level_db = parent.level_db
    model.stored_as = _stored_types(addition.parent)
    return model


def lineage(addition: Addition) -> dict[str, Any]:
    """Return where an extended model comes from, for its training record."""
    return {"added": addition.name, "like": addition.like, **ancestry(addition.parent)}


def _stored_types(path: Path) -> dict[str, torch.dtype]:
    """Return how the parts of a model file are stored, so that they can stay the same."""
    with safe_open(path, framework="pt") as file:
        return {part_of(name): file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
