"""`umt info`: what a model is, or which models, devices and formats there are."""

from __future__ import annotations

import platform
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import core
from core.errors import ModelError
from core.key_range import KeyRange
from umtcli import options
from umtcli.completion import complete_models
from umtcli.models import find

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from core.model_file import FoundModel, ModelHeader
    from umtcli.console import Environment

EXAMPLES = """\
umt info
umt info runs/fast --json
"""


def run(
    ctx: typer.Context,
    *,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            autocompletion=complete_models,
            help="A model file, a run (runs/NAME), a bundled name, or hf:owner/name.",
        ),
    ] = None,
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Describe a model, or what is installed and found here.

    Of a model: domains, preset, sizes, and how it was trained, its lineage included. Without
    MODEL: versions, devices, readable formats and the models found here.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    content = _describe_installation() if model is None else _describe_model(find(env, model))
    if is_json:
        env.write_json("info", content)
    else:
        _show(env, content)


def _describe_model(found: FoundModel) -> dict[str, Any]:
    from core.model_file import read_header

    header = read_header(found.path)
    return {
        "model": found.name,
        "path": str(found.path),
        "file_bytes": found.path.stat().st_size,
        "id": header.id,
        "family": header.family,
        "preset": header.preset,
        "domains": list(header.domains),
        "ranges": {name: asdict(keys) for name, keys in header.ranges.items()},
        "sample_rate": header.sample_rate,
        "hop_length": header.hop_length,
        "latent_dim": header.latent_dim,
        "latent_rate": header.sample_rate / header.hop_length,
        "level_db": header.level_db,
        "parameters": header.n_parameters,
        "training": header.training,
    }


def _describe_installation() -> dict[str, Any]:
    from importlib.metadata import version

    from core.audio.formats import readable_formats
    from core.model_file import list_models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own remarks on the machine's drivers
        from core.devices import available_devices

        devices = available_devices()
    return {
        "versions": {
            "umt": core.__version__,
            "torch": version("torch"),
            "torchaudio": version("torchaudio"),
            "python": platform.python_version(),
        },
        "devices": devices,
        "readable_formats": readable_formats(),
        "models": [_summarise(found) for found in list_models(Path.cwd())],
    }


def _summarise(found: FoundModel) -> dict[str, Any]:
    from core.model_file import read_header

    summary: dict[str, Any] = {"model": found.name, "found": found.reason}
    try:
        header: ModelHeader = read_header(found.path)
    except ModelError as error:
        return summary | {"error": str(error)}
    return summary | {"preset": header.preset, "domains": list(header.domains)}


def _show(env: Environment, content: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in _rows(content):
        table.add_row(name, value)
    env.write_table(table)


def _rows(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and text of every fact, those of nested ones with dotted names."""
    for key, value in content.items():
        if key == "models":
            for model in value:
                domains = ", ".join(model.get("domains", ())) or model.get("error", "")
                yield f"{model['found']} {model['model']}", domains
        elif key == "ranges":
            for name, keys in value.items():
                yield f"range of {name}", str(KeyRange(**keys))
        elif isinstance(value, dict):
            yield from _rows(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", ", ".join(map(str, value)) or "none"
        else:
            yield f"{prefix}{key}", f"{value:,}" if isinstance(value, int) else str(value)
