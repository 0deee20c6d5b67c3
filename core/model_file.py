"""Model files: what stands in their header, and where to look for them. Loads no torch.

A model is one `.safetensors` file. Its header holds, as strings, the JSON of everything
that is not a tensor. Tensors are named `encoder.*`, `classifier.*` and `decoders.NAME.*`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT_VERSION = 1
MODEL_FILE = "model.safetensors"
BUNDLED_MODEL = "starter"
MAX_HEADER_BYTES = 100_000_000  # the safetensors format's own limit


@dataclass(frozen=True)
class ModelHeader:
    """Everything in a model file apart from its weights.

    Attributes:
        id: Hash of configuration and weights, 12 hexadecimal digits.
        family: `wavenet` or `spectral`.
        preset: The preset that the configuration started from.
        domains: Domain names; their position is their `domain_id`.
        sample_rate: Hz.
        hop_length: Samples per latent frame.
        latent_dim: Channels of a latent frame.
        level_db: Mean level of the prepared recordings, dBFS (see `core.audio.levels`).
        config: The whole configuration, as `Config.to_dict` gives it.
        training: Provenance: steps, seconds, data, figures, parent model.
        classified: Domains that the confusion network tells apart: all but added ones.
        checksums: CRC-32 of each part's tensors.
        n_parameters: Numbers in each part.
    """

    id: str
    family: str
    preset: str
    domains: tuple[str, ...]
    sample_rate: int
    hop_length: int
    latent_dim: int
    level_db: float
    config: dict[str, Any]
    training: dict[str, Any]
    classified: tuple[str, ...]
    checksums: dict[str, int]
    n_parameters: dict[str, int]

    def metadata(self) -> dict[str, str]:
        """Return what a safetensors file stores beside the tensors."""
        return {
            "format": "umt",
            "format_version": str(FORMAT_VERSION),
            "id": self.id,
            "header": json.dumps(
                {
                    "family": self.family,
                    "preset": self.preset,
                    "domains": self.domains,
                    "sample_rate": self.sample_rate,
                    "hop_length": self.hop_length,
                    "latent_dim": self.latent_dim,
                    "level_db": self.level_db,
                    "config": self.config,
                    "training": self.training,
                    "classified": self.classified,
                    "checksums": self.checksums,
                },
                allow_nan=False,
            ),
        }


@dataclass(frozen=True)
class FoundModel:
    """A model file and how it was found.

    Attributes:
        path: The file.
        name: What a user would type after `--model`.
        reason: Why this one was taken, for a notice.
    """

    path: Path
    name: str
    reason: str


def part_of(tensor_name: str) -> str:
    """Return the part that a tensor belongs to: `encoder`, `classifier`, `decoders.NAME`."""
    names = tensor_name.split(".")
    return ".".join(names[:2]) if names[0] == "decoders" else names[0]


def identify(
    config: Mapping[str, Any], domains: Sequence[str], checksums: Mapping[str, int]
) -> str:
    """Return the id of a model: equal for equal configuration, domains and weights."""
    text = json.dumps([config, domains, checksums], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_header(path: Path) -> ModelHeader:
    """Read a model file's header.

    Raises:
        ModelError: The file is missing, is no umt model, is damaged, or is of a format newer
            than this program.
    """
    entries, file_bytes, data_start = _read_entries(path)
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != "umt":
        raise ModelError(f"{path}: a safetensors file, but not a umt model")
    version = str(metadata.get("format_version", "?"))
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise ModelError(
            f"{path}: model format {version}, this umt reads up to {FORMAT_VERSION}; update umt"
        )
    try:
        end = max(entry["data_offsets"][1] for entry in entries.values())
        if data_start + end != file_bytes:
            raise ModelError(
                f"{path}: damaged: {file_bytes} bytes, its header says {data_start + end}; "
                "copy or train it again"
            )
        sizes: dict[str, int] = {}
        for name, entry in entries.items():
            sizes[part_of(name)] = sizes.get(part_of(name), 0) + math.prod(entry["shape"])
        values = json.loads(metadata["header"])
        values["domains"] = tuple(values["domains"])
        # Files of the first models do not have it.
        values["classified"] = tuple(values.get("classified", values["domains"]))
        header = ModelHeader(id=metadata["id"], n_parameters=sizes, **values)
        if header.id != identify(header.config, header.domains, header.checksums):
            raise ModelError(f"{path}: damaged: its configuration changed since it was saved")
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: damaged model file: its header is incomplete") from error
    return header


def _read_entries(path: Path) -> tuple[dict[str, Any], int, int]:
    """Return the safetensors header, the file's size and where its data begins (bytes)."""
    try:
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            length_bytes = file.read(8)
            length = struct.unpack("<Q", length_bytes)[0] if len(length_bytes) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER_BYTES, file_bytes):
                raise ModelError(f"{path}: not a model file, or damaged")
            entries = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"{path}: cannot read this model: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a model file, or damaged") from error
    if not isinstance(entries, dict):
        raise ModelError(f"{path}: not a model file, or damaged")
    return entries, file_bytes, 8 + length


def bundled_models() -> dict[str, Path]:
    """Return the models that are part of this package, by name."""
    directory = Path(str(files("core.pretrained")))
    return {path.stem: path for path in sorted(directory.glob("starter*.safetensors"))}


def list_models(cwd: Path) -> list[FoundModel]:
    """Return the models of `cwd/runs`, newest first, then the bundled ones."""
    runs = [path for path in (cwd / "runs").glob(f"*/{MODEL_FILE}") if path.is_file()]
    runs.sort(key=lambda path: (-path.stat().st_mtime_ns, path))
    found = [FoundModel(path, f"runs/{path.parent.name}", "run") for path in runs]
    found += [FoundModel(path, name, "bundled") for name, path in bundled_models().items()]
    return found


def find_model(requested: str | None, domains: Sequence[str], *, cwd: Path) -> FoundModel:
    """Find the model to use.

    In this order: what was requested; what the environment variable UMT_MODEL names; the
    newest run under `cwd/runs` that has every domain asked for; the bundled starter model.

    Args:
        requested: A path, a run's directory, or a bundled name; None to look around.
        domains: Domains that a run must have to be taken unasked.
        cwd: Where relative paths start.

    Raises:
        UsageError: What was requested is not there.
        ModelError: Nothing was requested and nothing is there.
    """
    if requested:
        return _resolve(requested, "as asked", cwd)
    if from_environment := os.environ.get("UMT_MODEL"):
        try:
            return _resolve(from_environment, "from $UMT_MODEL", cwd)
        except UsageError as error:
            raise UsageError(f"$UMT_MODEL: {error}") from error
    models = list_models(cwd)
    for model in models:
        if model.reason != "run":
            continue
        try:
            known = read_header(model.path).domains
        except ModelError:
            continue  # an unreadable run must not stand in the way of the next one
        if set(domains) <= set(known):
            what = f"with {', '.join(domains)}" if domains else "here"
            return FoundModel(model.path, model.name, f"newest run {what}")
    for model in models:
        if model.name == BUNDLED_MODEL:
            return FoundModel(model.path, model.name, "bundled model")
    raise ModelError("no model found: name one with --model, or train one with `umt train`")


def _resolve(requested: str, reason: str, cwd: Path) -> FoundModel:
    path = cwd / requested
    if path.is_dir():
        if (path / MODEL_FILE).is_file():
            return FoundModel(path / MODEL_FILE, requested, reason)
        raise UsageError(
            f"{requested}: a directory without {MODEL_FILE}; a run has one after its first "
            "validation"
        )
    if path.exists():
        return FoundModel(path, requested, reason)
    if requested in bundled_models():
        return FoundModel(bundled_models()[requested], requested, reason)
    known = ", ".join(model.name for model in list_models(cwd)) or "none"
    raise UsageError(f"no model {requested!r}: not a file, nor one of those found here ({known})")
