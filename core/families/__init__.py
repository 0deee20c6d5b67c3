"""The families of networks, looked up by the name in a model's configuration."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.config import ModelConfig
    from core.families.base import Family, GenerationOptions

FAMILY_NAMES = ("wavenet", "spectral")


def get_family(name: str) -> Family[ModelConfig, GenerationOptions]:
    """Return the family of that name, importing only its modules.

    The type forgets which family it is: callers pass the configuration whose `family` is `name`
    and the options that `build_options` returns.

    Args:
        name: One of `FAMILY_NAMES`.
    """
    family: Family[ModelConfig, GenerationOptions] = import_module(f"core.families.{name}").FAMILY
    return family
