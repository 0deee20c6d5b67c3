"""The families of networks, looked up by the name in a model's configuration."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.families.base import Family

FAMILY_NAMES = ("wavenet", "spectral")


def get_family(name: str) -> Family:
    """Return the family of that name, importing only its modules.

    Args:
        name: One of `FAMILY_NAMES`.
    """
    family: Family = import_module(f"core.families.{name}").FAMILY
    return family
