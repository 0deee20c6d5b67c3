"""The networks of a model: one shared encoder, one decoder per domain, the domain classifier.

In and out: model files. What is done with networks that are loaded is in `core.streaming`.
"""

from __future__ import annotations

import os
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.config import Config
from core.confusion import DomainClassifier
from core.devices import resolve_device
from core.errors import ModelError, UsageError
from core.families import FAMILY_NAMES, get_family
from core.model_file import (
    ModelHeader,
    find_domain,
    locate_model,
    open_model,
    part_of,
    write_model,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from core.families.base import Decoder, Encoder, GenerationOptions
    from core.key_range import KeyRange

DEFAULT_LEVEL_DB = -20.0  # dBFS; the training level of a model that has seen no data


class Decoders(nn.Module):
    """Decoders by domain name; their state-dict keys are `NAME.…`.

    Not an `nn.ModuleDict`, which refuses names that it has methods or attributes of, such as
    `train` and `keys`.
    """

    def __init__(self, decoders: Mapping[str, Decoder[GenerationOptions]]) -> None:
        super().__init__()
        self.names = tuple(decoders)
        self.networks = nn.ModuleList(decoders.values())
        self.register_state_dict_post_hook(_key_by_name)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_key_by_index)  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> Decoder[GenerationOptions]:
        return cast("Decoder[GenerationOptions]", self.networks[self.names.index(name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self.names


def _key_by_name(
    decoders: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: object
) -> None:
    """Rename `networks.INDEX.…` to `NAME.…`, as stored models have it."""
    assert isinstance(decoders, Decoders)
    start = f"{prefix}networks."
    renamed = {}
    for key in [key for key in state if key.startswith(start)]:
        index, rest = key.removeprefix(start).split(".", 1)
        renamed[f"{prefix}{decoders.names[int(index)]}.{rest}"] = state.pop(key)
    state.update(renamed)  # at once: a domain may be called "networks"


def _key_by_index(decoders: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Undo `_key_by_name`."""
    assert isinstance(decoders, Decoders)
    renamed = {}
    for key in [key for key in state if key.startswith(prefix)]:
        name, rest = key.removeprefix(prefix).split(".", 1)
        if name in decoders.names:
            index = decoders.names.index(name)
            renamed[f"{prefix}networks.{index}.{rest}"] = state.pop(key)
    state.update(renamed)


class _ShapesOnly(TorchFunctionMode):
    """Gives new parameters a shape and no memory, and draws no values for them.

    Not `torch.device("meta")`, under which computing a module's constants and initial values
    imports torch's compiler: 1.2 s.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        named = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else named["tensor"]
        if func is torch.empty:
            named["device"] = "meta"
        return func(*args, **named)


class Networks(nn.Module):
    """A model of K domains.

    Attributes:
        config: What the model was built from.
        domains: Names of all domains that the model knows, in the order of their ids.
        encoder: Shared encoder.
        decoders: One decoder per domain; only those asked for when loaded from a file.
        classifier: The domain confusion network.
        classified: Domains that it tells apart, the first of all domains: those that were
            added later to the trained encoder are not among them.
        stored_as: Parts that `save` writes with a type of their own: those that come from
            another file and are to stay the same bit for bit.
        level_db: Mean level of the prepared recordings, dBFS; None to leave inputs as they are.
        ranges: Keys that domains have, as far as they are known; notes beyond them are moved.
        training_record: Where the weights come from; plain JSON types.
        id: Hash of configuration and weights, set by `save` and `load`.
        name: What it was loaded by: a path, or a bundled name; "" for one made here.
    """

    def __init__(
        self,
        config: Config,
        domains: Iterable[str],
        built: Iterable[str],
        *,
        classified: Iterable[str] | None = None,
    ) -> None:
        """Build the networks with fresh weights.

        Args:
            config: The configuration.
            domains: All domains of the model.
            built: Those that get a decoder.
            classified: Those that the classifier tells apart; None for all.
        """
        super().__init__()
        self.config = config
        self.domains = tuple(domains)
        self.family_description = get_family(config.model.family)
        self.encoder: Encoder = self.family_description.encoder(config.model)
        self.decoders = Decoders(
            {name: self.family_description.decoder(config.model) for name in built}
        )
        self.classified = self.domains if classified is None else tuple(classified)
        self.classifier = DomainClassifier(
            config.model.latent_dim, len(self.classified), config.confusion
        )
        self.stored_as: dict[str, torch.dtype] = {}
        self.level_db: float | None = DEFAULT_LEVEL_DB
        self.ranges: dict[str, KeyRange] = {}
        self.training_record: dict[str, Any] = {}
        self.id = "untrained"
        self.name = ""

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(family={self.config.model.family!r}, "
            f"sample_rate={self.sample_rate}, domains={self.decoders.names}, "
            f"device={str(self.device)!r})"
        )

    @classmethod
    def create(cls, config: Config, domains: Iterable[str], *, seed: int = 0) -> Self:
        """Return a model with random weights.

        Args:
            config: The configuration.
            domains: Names; sorted, so that ids do not depend on the order given.
            seed: Seed of the weights.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            names = sorted(domains)
            return cls(config, names, names)

    @classmethod
    def load(
        cls, source: str | Path, *, domains: Iterable[str] | None = None, device: str = "cpu"
    ) -> Self:
        """Load a model file; runs no code from it.

        Args:
            source: The file, the directory of a training run, a bundled name ("starter"), or
                "hf:owner/name[@revision][/file]" on the Hugging Face Hub.
            domains: Decoders to load; None for all, empty for the encoder alone.
            device: "auto", "cpu", "cuda" or "cuda:N".

        Raises:
            ModelError: The file is damaged, or newer than this program.
            UsageError: There is no such model or device, or the model lacks a domain.
        """
        chosen = resolve_device(device)
        path = locate_model(os.fspath(source)).path
        with open_model(path) as file:
            header = file.header
            config = Config.from_dict(header.config)
            names = header.domains if domains is None else domains
            wanted = tuple(dict.fromkeys(find_domain(name, header.domains) for name in names))

            build = partial(cls, config, header.domains, wanted, classified=header.classified)

            # A small file can announce networks of any size: compare before memory is taken.
            with _ShapesOnly():
                expected = build().state_dict()
            for name, tensor in expected.items():
                if file.shape(name) != tuple(tensor.shape):
                    raise ModelError(
                        f"{path}: damaged: {name} has shape {file.shape(name)}, and its "
                        f"configuration makes that {tuple(tensor.shape)}"
                    )
            stored = file.read(expected.keys())
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, only to be replaced
            model = build()
        model.load_state_dict(
            {name: torch.from_numpy(values).float() for name, values in stored.items()}
        )
        model.level_db = header.level_db
        model.ranges = header.ranges
        model.training_record = header.training
        model.id = header.id
        model.name = os.fspath(source)
        return model.eval().requires_grad_(requires_grad=False).to(chosen)

    def save(self, path: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write the model file, complete or not at all.

        Args:
            path: The file; its directory exists.
            dtype: How weights are stored, torch.float32 or torch.float16; they are always
                computed with in float32.

        Raises:
            OSError: The file cannot be written.
        """
        tensors = {
            name: tensor.detach().to("cpu", self.stored_as.get(part_of(name), dtype)).numpy()
            for name, tensor in self.state_dict().items()
        }
        model = self.config.model
        header = ModelHeader(
            family=model.family,
            preset=self.config.preset,
            domains=self.domains,
            sample_rate=model.sample_rate,
            hop_length=model.hop_length,
            latent_dim=model.latent_dim,
            level_db=self.level_db,
            config=self.config.to_dict(),
            training=self.training_record,
            checksums={},
            classified=self.classified,
            ranges=self.ranges,
        )
        self.id = write_model(Path(path), tensors, header)

    @property
    def sample_rate(self) -> int:
        """Rate of the model's audio, Hz."""
        return self.config.model.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples per latent frame."""
        return self.config.model.hop_length

    @property
    def latent_dim(self) -> int:
        """Channels of a latent frame."""
        return self.config.model.latent_dim

    @property
    def latent_rate(self) -> float:
        """Latent frames a second."""
        return self.sample_rate / self.hop_length

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return next(self.encoder.parameters()).device

    def generation_options(self, given: Mapping[str, object]) -> GenerationOptions:
        """Check and fill in the generation options of this model's family.

        Args:
            given: Options by name, for example `{"temperature": 0.9}`.

        Raises:
            UsageError: An option belongs to another family or has an impossible value.
        """
        known = {item.name for item in fields(self.family_description.options)}
        for name in given:
            if name not in known:
                owners = [
                    family
                    for family in FAMILY_NAMES
                    if name in {item.name for item in fields(get_family(family).options)}
                ]
                raise UsageError(
                    f"{name} is an option of {' and '.join(owners) or 'no'} models, "
                    f"and this one is {self.config.model.family}"
                )
        return self.family_description.build_options(given)
