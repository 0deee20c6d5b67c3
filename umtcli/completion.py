"""What TAB offers for models and domains. Never imports torch, never fails."""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer  # noqa: TC002 (Typer reads the annotations)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core.model_file import FoundModel


def complete_domains(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the domains of the model already typed on the line, else of all found here.

    Of several with commas between them, the last one is completed.
    """
    from core.model_file import list_models, read_header

    offered: dict[str, None] = {}
    requested = ctx.params.get("model") or os.environ.get("UMT_MODEL")
    with suppress(Exception):  # the command itself will report what is wrong
        # Without a request, the lookup takes a model that has the domain: any of them may be.
        cwd = Path.cwd()
        models = [_find_here(requested)] if requested else list_models(cwd)
        for model in models:
            with suppress(Exception):
                offered |= dict.fromkeys(read_header(model.path).domains)
    before, comma, last = incomplete.rpartition(",")
    if last and "all".startswith(last) and not comma:
        offered["all"] = None
    return [before + comma + name for name in _starting(offered, last)]


def complete_domains_of_parent(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the domains of the model named by --from."""
    from core.model_file import read_header

    offered: tuple[str, ...] = ()
    with suppress(Exception):
        offered = read_header(_find_here(ctx.params.get("from_model")).path).domains
    return _starting(offered, incomplete)


def complete_models(incomplete: str) -> list[str]:
    """Offer the models found, and model files and directories below what is typed."""
    from core.model_file import list_models

    offered: list[str] = []
    with suppress(Exception):
        offered = [model.name for model in list_models(Path.cwd())]
    return [name for name in offered if name.startswith(incomplete)] + _paths(incomplete)


def complete_devices(incomplete: str) -> list[str]:
    """Offer the kinds of device; which of them this machine has only torch would know."""
    return [name for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]


def complete_training_devices(incomplete: str) -> list[str]:
    """Offer the kinds of device that `umt train` takes."""
    return [name for name in ("auto", "cpu") if name.startswith(incomplete)]


def complete_bits(incomplete: str) -> list[str]:
    """Offer what --bits takes."""
    return [name for name in ("16", "24", "float") if name.startswith(incomplete)]


def complete_transpositions(incomplete: str) -> list[str]:
    """Offer what --transpose takes besides numbers."""
    return [name for name in ("fit",) if name.startswith(incomplete)]


def complete_rates(incomplete: str) -> list[str]:
    """Offer the usual sample rates."""
    usual = ("16000", "22050", "44100", "48000", "88200", "96000")
    return [name for name in usual if name.startswith(incomplete)]


def complete_presets(incomplete: str) -> list[str]:
    """Offer the presets of `umt train`."""
    from core.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def complete_trackers(incomplete: str) -> list[str]:
    """Offer what --log-with takes."""
    return [name for name in ("tensorboard", "wandb", "trackio") if name.startswith(incomplete)]


def complete_hosts(incomplete: str) -> list[str]:
    """Offer what --format of `umt export` takes."""
    return [name for name in ("nn~", "neutone") if name.startswith(incomplete)]


def complete_engines(incomplete: str) -> list[str]:
    """Offer the engines of WaveNet models."""
    return [name for name in ("auto", "cpu", "cuda", "reference") if name.startswith(incomplete)]


def _find_here(requested: str | None) -> FoundModel:
    """Find a model without a download: TAB must not wait for a network."""
    from core.errors import UsageError
    from core.hub import HubModel, cached_model
    from core.model_file import find_model

    def cached(model: HubModel) -> Path:
        if (path := cached_model(model)) is None:
            raise UsageError(f"{model} is not in the cache")
        return path

    return find_model(requested, [], cwd=Path.cwd(), download=cached)


def _starting(domains: Iterable[str], incomplete: str) -> list[str]:
    typed = unicodedata.normalize("NFC", incomplete)
    return [name for name in domains if unicodedata.normalize("NFC", name).startswith(typed)]


def _paths(incomplete: str) -> list[str]:
    folder, _, start = incomplete.rpartition("/")
    parent = Path(folder + "/" if incomplete.startswith("/") else folder or ".")
    with suppress(OSError):
        entries = sorted(parent.iterdir())
        prefix = f"{folder}/" if "/" in incomplete else ""
        return [
            f"{prefix}{entry.name}{'/' if entry.is_dir() else ''}"
            for entry in entries
            if entry.name.startswith(start)
            and (start or not entry.name.startswith("."))
            and (entry.is_dir() or entry.suffix == ".safetensors")
        ]
    return []
