"""Runs that begin with a trained model, the base model, instead of with random weights.

In: a model file. Out: the model that the first update finds. There are two kinds:

- The new model takes over the encoder, the decoders of domains that both have, and the classifier
  if the set of domains is the same (that of another set would have another task). Everything is
  trained.
- A domain is added: the new model is the base model with one more decoder, which alone is
  trained. The classifier does not get to know the new domain, because telling it apart
  would need recordings of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from core.config import Config
from core.errors import DataError, UsageError
from core.model_file import count_updates, find_domain, part_of, read_header
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn

    from core.data.domain import Domain


@dataclass(frozen=True)
class WarmStart:
    """What a run begins with.

    Attributes:
        base_model: A model file, which stays as it is.
        added_domain: The domain that is added to the base model; None trains everything.
        like: Domain of the base model whose decoder the added domain's starts from; None for
            random weights.
    """

    base_model: Path
    added_domain: str | None = None
    like: str | None = None


def base_config(warm_start: WarmStart) -> Config:
    """Return the configuration of the base model.

    Where a domain is added, the steps are those that one of the base model's decoders got.

    Raises:
        ModelError: The base model is missing or damaged.
    """
    header = read_header(warm_start.base_model)
    config = Config.from_dict(header.config)
    if warm_start.added_domain is None:
        return config
    n_domains = len(header.classified)
    share = min(config.training.domains_per_step, n_domains) / n_domains
    return config.updated("training", steps=max(1, round(share * config.training.steps)))


def initial_model(
    config: Config, domains: Sequence[Domain], warm_start: WarmStart | None = None
) -> Translator:
    """Return the model as it is before the first update.

    Args:
        config: The configuration.
        domains: Prepared domains; the added one alone where one is added.
        warm_start: What the run begins with; None for random weights.

    Raises:
        ModelError: The base model is missing or damaged.
        UsageError: The base model has other networks, or has the added domain already, or
            lacks the one to start from.
        DataError: There are no recordings.
    """
    names = [domain.name for domain in domains]
    if warm_start is None:
        model = Translator.create(config, names, seed=config.training.seed)
    else:
        _check_same_networks(warm_start, config)
        if warm_start.added_domain is not None:
            return _with_added_domain(warm_start, warm_start.added_domain, config)
        model = _from_base_model(warm_start.base_model, names, config)
    model.level_db = _mean_level_db(domains)
    return model


def lineage(warm_start: WarmStart | None) -> dict[str, Any]:
    """Return the training record's entries about the base model; empty without one."""
    if warm_start is None:
        return {}
    header = read_header(warm_start.base_model)
    parent = {"id": header.id, "domains": list(header.domains), **header.training}
    if warm_start.added_domain is None:
        return {"parent": parent}
    return {"added": warm_start.added_domain, "like": warm_start.like, "parent": parent}


def inherited_updates(warm_start: WarmStart | None) -> dict[str, int]:
    """Return how many updates decoders had before this run, by domain; 0 where none is given."""
    if warm_start is None:
        return {}
    header = read_header(warm_start.base_model)
    updates = {name: count_updates(header, name) for name in header.domains}
    if warm_start.added_domain is not None and warm_start.like is not None:
        updates[warm_start.added_domain] = updates.get(warm_start.like, 0)
    return updates


def _from_base_model(path: Path, domains: Sequence[str], config: Config) -> Translator:
    model = Translator.create(config, domains, seed=config.training.seed)
    known = read_header(path).domains
    common = [name for name in model.domains if name in known]
    base = Translator.load(path, domains=common)
    pairs: list[tuple[nn.Module, nn.Module]] = [(model.encoder, base.encoder)]
    pairs += [(model.decoders[name], base.decoders[name]) for name in common]
    for own, theirs in pairs:
        own.load_state_dict(theirs.state_dict())
    is_same_task = set(model.classified) == set(base.classified)
    if is_same_task and _shapes(model.classifier) == _shapes(base.classifier):
        state = base.classifier.state_dict()
        # Its outputs are in the order of domains, which is another where one was added later.
        order = [base.classified.index(name) for name in model.classified]
        outputs = {name: value[order] for name, value in state.items() if "output." in name}
        model.classifier.load_state_dict(state | outputs)
    return model


def _with_added_domain(warm_start: WarmStart, added: str, config: Config) -> Translator:
    """Return the base model with one more decoder; everything else is frozen."""
    path = warm_start.base_model
    known = read_header(path).domains
    if added in known:
        raise UsageError(
            f"{path} has a domain {added!r} already; prepare the recordings under another name "
            "(umt prep --name) and add that"
        )
    if warm_start.like is not None:
        find_domain(warm_start.like, known)
    base = Translator.load(path)
    domains = [*base.domains, added]  # the ids of the others stay
    with torch.random.fork_rng(devices=[]):  # the caller's own draws stay as they are
        torch.manual_seed(config.training.seed)
        model = Translator(config, domains, domains, classified=base.classified)
    model.load_state_dict(model.state_dict() | base.state_dict())
    if warm_start.like is not None:
        model.decoders[added].load_state_dict(base.decoders[warm_start.like].state_dict())
    model.encoder.requires_grad_(requires_grad=False)
    model.decoders.requires_grad_(requires_grad=False)
    model.decoders[added].requires_grad_(requires_grad=True)
    model.level_db = base.level_db
    model.ranges = base.ranges
    model.stored_as = _stored_types(path)
    return model


def _check_same_networks(warm_start: WarmStart, config: Config) -> None:
    theirs, ours = (each.to_dict()["model"] for each in (base_config(warm_start), config))
    for key, value in ours.items():
        if theirs.get(key, value) != value:
            raise UsageError(
                f"[model] {key} = {value}, but {warm_start.base_model} has {theirs[key]}: what "
                "begins with a model is built like it"
            )


def _stored_types(path: Path) -> dict[str, torch.dtype]:
    """Return how the parts of a model file are stored, so that they can stay the same."""
    with safe_open(path, framework="pt") as file:
        return {part_of(name): file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118


def _shapes(module: nn.Module) -> list[torch.Size]:
    return [tensor.shape for tensor in module.state_dict().values()]


def _mean_level_db(domains: Sequence[Domain]) -> float:
    levels = [track.level_db for domain in domains for track in domain.tracks]
    if not levels:
        raise DataError("no prepared recordings")
    return sum(levels) / len(levels)
