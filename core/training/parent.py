"""A trained model that a run begins with.

In: a model file. Out: a new model of the domains that are trained now, which has the parent's
encoder, its decoders of the same names, and its classifier if the set of domains is the same; the
classifier of another set of domains is a new one, because its task is another. Unlike
where a domain is added to a model that stays as it is (`core.training.adding`), everything learns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.config import Config
from core.errors import UsageError
from core.model_file import read_header
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import nn


def config_of(parent: Path) -> Config:
    """Return the configuration that a model was trained with.

    Raises:
        ModelError: The file is missing or damaged.
    """
    return Config.from_dict(read_header(parent).config)


def check_same_networks(parent: Path, config: Config) -> None:
    """Check that a model's networks are those of a configuration.

    Raises:
        ModelError: The file is missing or damaged.
        UsageError: They differ; it says in what.
    """
    theirs, ours = (values["model"] for values in (config_of(parent).to_dict(), config.to_dict()))
    for key, value in ours.items():
        if theirs.get(key, value) != value:
            raise UsageError(
                f"[model] {key} = {value}, but {parent} has {theirs[key]}: what begins with a "
                "model is built like it"
            )


def descendant(parent: Path, config: Config, domains: Sequence[str]) -> Translator:
    """Return a model of these domains, with the parent's weights where it has them."""
    check_same_networks(parent, config)
    model = Translator.create(config, domains, seed=config.training.seed)
    known = read_header(parent).domains
    common = [name for name in model.domains if name in known]
    trained = Translator.load(parent, domains=common)
    inherited: list[tuple[nn.Module, nn.Module]] = [(model.encoder, trained.encoder)]
    inherited += [(model.decoders[name], trained.decoders[name]) for name in common]
    for own, theirs in inherited:
        own.load_state_dict(theirs.state_dict())
    is_same_task = set(model.classified) == set(trained.classified)
    if is_same_task and _shapes(model.classifier) == _shapes(trained.classifier):
        state = trained.classifier.state_dict()
        # An output a domain: the parent may have the domains in another order.
        order = [trained.classified.index(name) for name in model.classified]
        outputs = {name: value[order] for name, value in state.items() if "output." in name}
        model.classifier.load_state_dict(state | outputs)
    return model


def ancestry(parent: Path) -> dict[str, Any]:
    """Return what a child's training record says of its parent."""
    header = read_header(parent)
    return {"parent": {"id": header.id, "domains": list(header.domains), **header.training}}


def _shapes(module: nn.Module) -> list[torch.Size]:
    return [tensor.shape for tensor in module.state_dict().values()]
