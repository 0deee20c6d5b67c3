"""What TAB offers for models and domains. Never imports torch, never fails."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import typer  # noqa: TC002 (Typer reads the annotations)


def complete_domains(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the domains of the model already typed on the line, else of all found here."""
    from core.model_file import find_model, list_models, read_header

    offered: dict[str, None] = {}
    requested = ctx.params.get("model") or os.environ.get("UMT_MODEL")
    with suppress(Exception):  # whatever is wrong, the command itself will say it
        # Without a request, the lookup takes a model that has the domain: any of them may be.
        cwd = Path.cwd()
        models = [find_model(requested, [], cwd=cwd)] if requested else list_models(cwd)
        for model in models:
            with suppress(Exception):
                offered |= dict.fromkeys(read_header(model.path).domains)
    return [domain for domain in offered if domain.startswith(incomplete)]


def complete_domains_of_parent(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the domains of the model named by --from."""
    from core.model_file import find_model, read_header

    offered: tuple[str, ...] = ()
    with suppress(Exception):
        found = find_model(ctx.params.get("from_model"), [], cwd=Path.cwd())
        offered = read_header(found.path).domains
    return [domain for domain in offered if domain.startswith(incomplete)]


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


def complete_engines(incomplete: str) -> list[str]:
    """Offer the engines of WaveNet models."""
    return [name for name in ("auto", "cpu", "cuda", "reference") if name.startswith(incomplete)]


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
