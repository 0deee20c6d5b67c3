"""Model files: their header and weights, and where to look for them. Loads no torch.

A model is one `.safetensors` file. Its header holds, as strings, the JSON of everything that is
not a tensor. Tensors are named `encoder.*`, `classifier.*` and `decoders.NAME.*`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import unicodedata
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from safetensors import SafetensorError, safe_open

from core.config import Config
from core.errors import ModelError, UsageError
from core.files import atomic_write
from core.hub import PREFIX, HubModel, download_model, parse_hub_name
from core.key_range import KeyRange  # noqa: TC001 (`build` reads the annotations)
from core.parsing import build, did_you_mean, parse_json, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

FORMAT_VERSION = 1
MODEL_FILE = "model.safetensors"
BUNDLED_MODEL = "starter"
FEWEST_UPDATES = 300  # of a decoder; with less it makes noise
LOUDEST_LEVEL_DB, QUIETEST_LEVEL_DB = 20.0, -120.0  # dBFS
_MAX_DOMAINS = 1000
_MAX_GENERATIONS = 100  # of models that a model began with


@dataclass(frozen=True)
class ModelHeader:
    """Everything in a model file apart from its weights.

    Attributes:
        family: `wavenet` or `spectral`.
        preset: The preset that the configuration started from.
        domains: Domain names; their position is their `domain_id`.
        sample_rate: Hz.
        hop_length: Samples per latent frame.
        latent_dim: Channels of a latent frame.
        level_db: Mean level of the prepared recordings, dBFS (see `core.audio.levels`); None where
            it is not known, as of imported models.
        config: The whole configuration, as `Config.to_dict` gives it.
        training: Where the weights come from, of plain JSON types; empty for random weights.
            `steps` and `seconds` of the run; `minutes` of audio and the number of `recordings`, by
            trained domain and split;
            `updates` of each decoder in all its runs (see `count_updates`); `figures` of the last
            validation (`validation/NAME` and others) and their `baselines`, by domain and name;
            `best`, step and mean figure of the best validation; `parent`, the base model's
            record with its `id` and `domains`; `added` and `like` where a domain was added.
        checksums: CRC-32 of each part's tensors.
        classified: Domains that the confusion network tells apart: all but added ones.
        ranges: Keys that domains have, as far as they are known; see `core.key_range`.
        id: Hash of configuration and weights, 12 hexadecimal digits.
        n_parameters: Numbers in each part.
    """

    family: str
    preset: str
    domains: tuple[str, ...]
    sample_rate: int
    hop_length: int
    latent_dim: int
    level_db: float | None
    config: dict[str, Any]
    training: dict[str, Any]
    checksums: dict[str, int]
    classified: tuple[str, ...]
    ranges: dict[str, KeyRange] = dataclasses.field(default_factory=dict)
    id: str = ""
    n_parameters: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < len(self.domains) <= _MAX_DOMAINS or len({*self.domains}) < len(self.domains):
            raise ValueError(f"{len(self.domains)} domains: expected 1 to {_MAX_DOMAINS}, distinct")
        for name in self.domains:
            if not name.isprintable() or name.strip() != name or not name or {*name} & {*"./\\"}:
                raise ValueError(f"{shortened(name)} cannot be a domain's name")
        if not {*self.classified} <= {*self.domains}:
            raise ValueError("the domain classifier has unknown domains")
        if not {*self.ranges} <= {*self.domains}:
            raise ValueError("ranges of unknown domains")
        level_db = self.level_db
        if level_db is not None and not QUIETEST_LEVEL_DB <= level_db <= LOUDEST_LEVEL_DB:
            raise ValueError(f"level_db = {level_db}: impossible")
        model = Config.from_dict(self.config).model
        stated = (self.family, self.sample_rate, self.hop_length, self.latent_dim)
        if stated != (model.family, model.sample_rate, model.hop_length, model.latent_dim):
            raise ValueError("it contradicts the configuration")


class _Handle(Protocol):
    """What is used of `safe_open`, which has no types of its own."""

    def keys(self) -> list[str]: ...
    def metadata(self) -> dict[str, str] | None: ...
    def get_tensor(self, name: str) -> NDArray[np.generic]: ...
    def get_slice(self, name: str) -> _Slice: ...


class _Slice(Protocol):
    def get_shape(self) -> list[int]: ...


class ModelFile:
    """An open model file, made by `open_model`.

    Attributes:
        path: Where it was found.
        header: Everything but the weights.
    """

    def __init__(self, path: Path, handle: _Handle) -> None:
        self.path = path
        self._handle = handle
        self._names = frozenset(handle.keys())
        self.header = self._read_header()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            ModelError: There is no such tensor.
        """
        if name not in self._names:
            raise ModelError(f"{self.path}: damaged: no tensor {shortened(name)}")
        return tuple(self._handle.get_slice(name).get_shape())

    def read(self, names: Collection[str]) -> dict[str, NDArray[np.generic]]:
        """Read tensors and check them against the file's checksums.

        Args:
            names: All those of some parts.

        Returns:
            Arrays by name, as they are stored: float16 or float32.

        Raises:
            ModelError: The file is damaged, or has no tensor of such a name.
        """
        for name in names:
            self.shape(name)
        try:
            stored = {name: self._handle.get_tensor(name) for name in sorted(names)}
        except (SafetensorError, OSError, TypeError) as error:
            raise ModelError(f"{self.path}: damaged model file: {error}") from error
        for part, checksum in _checksums(stored).items():
            if self.header.checksums.get(part) != checksum:
                raise ModelError(
                    f"{self.path}: damaged: the weights of {part} changed since they were saved; "
                    "copy or train it again"
                )
        return stored

    def _read_header(self) -> ModelHeader:
        metadata = self._handle.metadata() or {}
        if metadata.get("format") != "umt":
            raise ModelError(f"{self.path}: a safetensors file, but not a umt model")
        version = metadata.get("format_version", "?")
        if not version.isascii() or not version.isdecimal() or int(version[:9]) > FORMAT_VERSION:
            raise ModelError(
                f"{self.path}: model format {version[:9]}, this umt reads up to "
                f"{FORMAT_VERSION}; update umt"
            )
        prefix = f"{self.path}: damaged model file: "
        values = parse_json(metadata.get("header", ""), prefix, error=ModelError)
        if isinstance(values, dict):
            # Files of the first models do not have it.
            values = {"classified": values.get("domains"), **values}
        try:
            header = build(ModelHeader, values, prefix, error=ModelError, ignores_unknown=True)
        except UsageError as error:  # of the configuration
            raise ModelError(f"{self.path}: {error}; is this umt older than the model?") from error
        model_id = metadata.get("id", "")
        if model_id != _identify(header):
            raise ModelError(
                f"{self.path}: damaged: its configuration changed since it was saved; copy or "
                "train it again"
            )
        sizes: dict[str, int] = {}
        for name in sorted(self._names):
            part = part_of(name)
            sizes[part] = sizes.get(part, 0) + math.prod(self.shape(name))
        return dataclasses.replace(header, id=model_id, n_parameters=sizes)


@dataclass(frozen=True)
class FoundModel:
    """A model file and how it was found.

    Attributes:
        path: The file.
        name: What a user would type after `--model`.
        reason: Why this one was taken, for a notice.
        warning: What is wrong with it all the same; empty for nothing.
    """

    path: Path
    name: str
    reason: str
    warning: str = ""


def part_of(tensor_name: str) -> str:
    """Return the part that a tensor belongs to: `encoder`, `classifier`, `decoders.NAME`."""
    names = tensor_name.split(".")
    return ".".join(names[:2]) if names[0] == "decoders" else names[0]


@contextmanager
def open_model(path: Path) -> Iterator[ModelFile]:
    """Open a model file once for header and weights.

    A training run replaces its model file now and then. Who opened the old one goes on reading
    it; header and weights read one after the other could be of two models.

    Raises:
        ModelError: The file is missing, is no umt model, is damaged, or is of a format newer
            than this program.
    """
    # Before it is opened: a named pipe would block.
    if not path.is_file() and not path.is_dir() and path.exists():
        raise ModelError(f"{path}: cannot read this model: not a regular file")
    try:
        handle = safe_open(path, framework="np")
    except SafetensorError as error:
        raise ModelError(
            f"{path}: not a model file, or damaged ({error}); copy or train it again"
        ) from error
    except OSError as error:  # of safetensors, without errno
        reason = "it is a directory" if path.is_dir() else _reason(path, error)
        raise ModelError(f"{path}: cannot read this model: {reason}") from error
    with handle:
        yield ModelFile(path, cast("_Handle", handle))


def read_header(path: Path) -> ModelHeader:
    """Read a model file's header.

    Raises:
        ModelError: As `open_model`.
    """
    with open_model(path) as file:
        return file.header


def write_model(path: Path, tensors: Mapping[str, NDArray[np.generic]], header: ModelHeader) -> str:
    """Write a model file, complete or not at all.

    Args:
        path: The file; its directory exists.
        tensors: All weights by name.
        header: Without checksums, which are taken from the tensors.

    Returns:
        The model's id.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors.numpy import save_file

    stored = dataclasses.replace(header, checksums=_checksums(tensors))
    values = dataclasses.asdict(stored)
    del values["id"], values["n_parameters"]  # of the file, not in it
    metadata = {
        "format": "umt",
        "format_version": str(FORMAT_VERSION),
        "id": _identify(stored),
        "header": json.dumps(values, allow_nan=False),
    }
    with atomic_write(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=metadata)
        except SafetensorError as error:  # the system's errors come in this guise
            raise OSError(f"{path}: cannot be written ({error})") from error
    return metadata["id"]


def _identify(header: ModelHeader) -> str:
    """Return the id of a model: equal for equal configuration, domains, weights and ranges."""
    content: list[Any] = [header.config, header.domains, header.checksums]
    if header.ranges:  # files of earlier versions have none, and keep their id
        content.append({name: str(own) for name, own in header.ranges.items()})
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _checksums(tensors: Mapping[str, NDArray[np.generic]]) -> dict[str, int]:
    """Return the CRC-32 of each part's tensors in the order of their names."""
    checksums: dict[str, int] = {}
    for name in sorted(tensors):
        part = part_of(name)
        checksums[part] = zlib.crc32(tensors[name].tobytes(), checksums.get(part, 0))
    return checksums


def _reason(path: Path, error: OSError) -> str:
    """Return why a file cannot be opened; safetensors does not always know."""
    try:
        with path.open("rb"):
            return error.strerror or str(error)
    except OSError as own:
        return own.strerror or str(own)


def find_domain(name: str, known: Collection[str], *, model: str = "this model") -> str:
    """Return a domain as a model spells it; composed and decomposed Unicode are the same.

    Args:
        name: The domain.
        known: Those of the model.
        model: What messages call it.

    Raises:
        UsageError: The model does not know it; the message lists those it knows.
    """
    normal = unicodedata.normalize("NFC", name)
    for domain in known:
        if unicodedata.normalize("NFC", domain) == normal:
            return domain
    raise UsageError(
        f"unknown domain {shortened(name)}; {model} has {', '.join(known)}"
        f"{did_you_mean(name, known)}"
    )


def parse_target(target: str) -> dict[str, float]:
    """Return the domains that a target consists of, each with its share.

    Args:
        target: A domain, or several with their shares, which are played together:
            "piano:0.7,strings:0.3".

    Raises:
        UsageError: A share is no number above 0, or one is missing or there twice.
    """
    if ":" not in target:
        return {target: 1.0}
    shares: dict[str, float] = {}
    for part in target.split(","):
        name, _, share = part.rpartition(":")
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if not name or name in shares or not 0 < value < math.inf:
            raise UsageError(
                f"target {shortened(target)}: give each instrument one share above 0, as in "
                "piano:0.7,strings:0.3"
            )
        shares[name] = value
    return shares


def target_name(target: str) -> str:
    """Return what results of a target are called: its domains, without their shares."""
    return "+".join(parse_target(target))


def bundled_models() -> dict[str, Path]:
    """Return the models that are part of this package, by name."""
    directory = Path(str(files("core.pretrained")))
    return {path.stem: path for path in sorted(directory.glob("starter*.safetensors"))}


def list_models(cwd: Path) -> list[FoundModel]:
    """Return the models of `cwd/runs`, newest first, then the bundled ones."""
    runs: list[tuple[int, Path]] = []
    for path in (cwd / "runs").glob(f"*/{MODEL_FILE}"):
        try:
            runs.append((-path.stat().st_mtime_ns, path))
        except OSError:  # removed meanwhile, or not for us to read
            continue
    found = [FoundModel(path, f"runs/{path.parent.name}", "run") for _, path in sorted(runs)]
    found += [FoundModel(path, name, "bundled") for name, path in bundled_models().items()]
    return found


def find_model(
    requested: str | None,
    domains: Sequence[str],
    *,
    cwd: Path,
    download: Callable[[HubModel], Path] = download_model,
) -> FoundModel:
    """Find the model to use.

    In this order: what was requested; what the environment variable UMT_MODEL names; the newest
    run under `cwd/runs` that has every domain asked for and is trained enough to be heard; the
    bundled starter model; the newest run that has the domains, with a warning.

    Args:
        requested: A path, a run's directory, a bundled name, or `hf:owner/name`; None to look
            around.
        domains: Domains that a model must have to be taken unasked.
        cwd: Where relative paths start.
        download: Returns the file of a model on the hub.

    Raises:
        UsageError: What was requested is not there.
        ModelError: Nothing was requested and nothing is there, or the hub cannot be reached.
    """
    if requested:
        return locate_model(requested, "as requested", cwd=cwd, download=download)
    if from_environment := os.environ.get("UMT_MODEL"):
        try:
            return locate_model(from_environment, "from $UMT_MODEL", cwd=cwd, download=download)
        except UsageError as error:
            raise UsageError(f"$UMT_MODEL: {error}") from error
    return _choose(list_models(cwd), domains)


def _choose(models: Sequence[FoundModel], domains: Sequence[str]) -> FoundModel:
    """Choose among the models found; see `find_model`."""
    what = f"newest run with {', '.join(domains)}" if domains else "newest run here"
    untrained: FoundModel | None = None
    starter: FoundModel | None = None
    for model in models:
        try:
            header = read_header(model.path)
            wanted = [find_domain(name, header.domains) for name in domains]
        except (ModelError, UsageError):
            continue  # an unreadable run must not stand in the way of the next one
        if model.reason == "run":
            lack = _lacks_training(header, wanted or header.domains)
            if not lack:
                return FoundModel(model.path, model.name, what)
            untrained = untrained or FoundModel(model.path, model.name, what, lack)
        elif model.name == BUNDLED_MODEL:
            starter = model
    if starter is not None:
        passed_over = f"; {untrained.name} {untrained.warning}" if untrained else ""
        return FoundModel(starter.path, starter.name, f"bundled model{passed_over}")
    if untrained is not None:
        return untrained
    for model in models:
        if model.name == BUNDLED_MODEL:  # its message will list the domains that it has
            return FoundModel(model.path, model.name, "bundled model")
    raise ModelError("no model found: name one with --model, or train one with `umt train`")


def _lacks_training(header: ModelHeader, domains: Sequence[str]) -> str:
    """Return why decoders would make noise; empty if they were trained enough.

    Judged by their updates, those of the models they began with included, and by the held-out
    figure beside the best of the figures that need no learning, where the run kept both.
    """
    for name in domains:
        n_updates = count_updates(header, name)
        if n_updates < FEWEST_UPDATES:
            return f"has {n_updates} updates of {name}, and needs {FEWEST_UPDATES}"
        figure = _figure(header.training, name)
        baselines = _mapping(_mapping(header.training, "baselines"), name)
        numbers = [own for own in baselines.values() if isinstance(own, int | float)]
        if figure is not None and numbers and figure >= min(numbers):
            return f"has a held-out figure of {figure:.3g} for {name}, no better than without it"
    return ""


def count_updates(header: ModelHeader, name: str) -> int:
    """Return how many updates a decoder had, here and in the models that this one began with.

    Records of earlier versions do not say it; there it follows from the steps. Imported decoders
    were trained elsewhere, for a number of updates that is not known: just enough are counted.
    """
    per_step = int(header.config.get("training", {}).get("domains_per_step", 1))
    wanted = name
    n_updates = 0.0
    record: Mapping[str, Any] = header.training
    for _ in range(_MAX_GENERATIONS):
        stored = _mapping(record, "updates").get(wanted)
        if isinstance(stored, int):
            return round(n_updates) + stored
        if "imported" in record:
            return round(n_updates) + FEWEST_UPDATES
        steps = record.get("steps", 0)
        steps = steps if isinstance(steps, int) else 0
        added = record.get("added")
        if added is None:
            n_domains = len(_mapping(record, "minutes")) or len(header.domains)
            n_updates += steps * min(per_step, n_domains) / n_domains
        elif added == wanted:
            n_updates += steps
            like = record.get("like")
            wanted = like if isinstance(like, str) else wanted
        record = _mapping(record, "parent")
        if wanted not in record.get("domains", ()):
            break
    return round(n_updates)


def _figure(training: Mapping[str, Any], name: str) -> float | None:
    value = _mapping(training, "figures").get(f"validation/{name}")
    return value if isinstance(value, int | float) else None


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def locate_model(
    requested: str,
    reason: str = "as requested",
    *,
    cwd: Path | None = None,
    download: Callable[[HubModel], Path] = download_model,
) -> FoundModel:
    """Return the model of a path, a run's directory, a bundled name, or a name on the hub.

    Args:
        requested: What names it.
        reason: What the result gives as its reason.
        cwd: Where relative paths start.
        download: Returns the file of a model on the hub.

    Raises:
        UsageError: It is not there.
        ModelError: The hub cannot be reached.
    """
    if requested.startswith(PREFIX):
        return FoundModel(download(parse_hub_name(requested)), requested, reason)
    path = (cwd or Path()) / requested
    if os.path.isdir(path):  # unlike Path.is_dir, false for names that are too long
        if (path / MODEL_FILE).is_file():
            return FoundModel(path / MODEL_FILE, requested, reason)
        raise UsageError(
            f"{requested}: a directory without {MODEL_FILE}; a run has one after its first "
            "validation"
        )
    if os.path.exists(path):
        return FoundModel(path, requested, reason)
    if requested in bundled_models():
        return FoundModel(bundled_models()[requested], requested, reason)
    known = ", ".join(model.name for model in list_models(cwd or Path())) or "none"
    raise UsageError(f"no model {requested!r}: not a file, nor one of those found here ({known})")
