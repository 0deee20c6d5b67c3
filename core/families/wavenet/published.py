"""The checkpoints that the paper's authors published, as a model of this family.

In: a folder with `args.pth` and a checkpoint of each domain, `lastmodel_RANK.pth`. Out: the
configuration, the domains, and all tensors under the names of a umt model file. The authors'
networks are ours with other names; tests compare the two element by element.

Checkpoints are pickles, which could run code. They are read with torch's restricted unpickler,
which builds tensors and plain containers; of `args.pth` it also accepts `argparse.Namespace` and
paths. A file that names anything else is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import unicodedata
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.config import WaveNetConfig
from core.errors import ModelError
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.encoder import WaveNetEncoder
from core.parsing import shortened
from core.presets import get_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from core.config import Config

    _Shapes = dict[str, dict[str, tuple[int, ...]]]  # part, name
    Allowed = Callable[..., object] | tuple[Callable[..., object], str]  # class, name in the file

PRESET = "paper-code"
MAX_LAYERS = 20  # of a block; the dilation of the last one is then 33 s, far beyond any model's
MAX_POOL = 16_000  # samples a latent frame: a second
N_CLASSIFIER_LAYERS = 3
# Options of the authors' program that their weights depend on, with the only value that the
# networks here have.
REQUIRED = {"kernel_size": 2, "encoder_func": "relu", "d_layers": N_CLASSIFIER_LAYERS}

# Their names and ours, without the final `.weight` or `.bias`.
ENCODER_NAMES = {
    r"start": "input",
    r"dilated_convs\.(\d+)\.dilated_conv": r"layers.\1.dilated",
    r"dilated_convs\.(\d+)\.conv_1x1": r"layers.\1.mix",
    r"conv_1x1": "output",
}
DECODER_NAMES = {
    r"first_conv": "input",
    r"skip_conv": "input_skip",
    r"layers\.(\d+)\.causal": r"layers.\1.dilated",
    r"layers\.(\d+)\.(condition|residual|skip)": r"layers.\1.\2",
    r"fc": "mix",
    r"condition": "mix_condition",
    r"logits": "output",
}
CLASSIFIER_NAMES = {
    r"convs\.0": "layers.0",
    r"convs\.2": "layers.1",
    r"convs\.4": "layers.2",
    r"convs\.6": "output",
}


@dataclass(frozen=True)
class PublishedModel:
    """What the checkpoints hold, in umt's terms.

    Attributes:
        config: Sizes of the checkpoints; everything else is preset `paper-code`.
        domains: Names, sorted as umt sorts them; the classifier's rows follow that order.
        tensors: By the names of a model file, float32: `encoder.*`, `classifier.*` and
            `decoders.NAME.*`.
        source: Where the weights come from, plain JSON types, for the training record.
    """

    config: Config
    domains: tuple[str, ...]
    tensors: dict[str, Tensor]
    source: dict[str, object]


def read_published(directory: Path, *, best: bool = False) -> PublishedModel:
    """Read the authors' checkpoints; runs no code from them.

    Args:
        directory: The folder.
        best: Take each domain's `bestmodel_*` instead of `lastmodel_*`. They were saved at
            different epochs, so their encoders may differ: the one of rank 0 is taken, beside which
            the other decoders were not trained to the end.

    Raises:
        ModelError: A file is missing, damaged or not such a checkpoint; it wants to run code; or
            the networks differ from those of this family. The message names the file.
    """
    args = _read_args(directory / "args.pth")
    names = _domain_names(args, directory / "args.pth")
    kind = "bestmodel" if best else "lastmodel"
    paths = _checkpoint_paths(directory, kind, names)
    for option, wanted in REQUIRED.items():
        found = args.options.get(option, wanted)
        if type(found) is not type(wanted) or found != wanted:
            raise ModelError(
                f"{directory / 'args.pth'}: {option} = {shortened(found)}; only checkpoints with "
                f"{wanted!r} can be imported"
            )
    order = sorted(range(len(names)), key=lambda rank: names[rank])
    tensors: dict[str, Tensor] = {}
    for rank, path in enumerate(paths):
        parts = _read_checkpoint(path, rank)
        if rank == 0:
            config = _configuration(args, parts, path)
            expected = _expected_shapes(config, len(names))
        _check_shapes(expected, parts, path)
        if rank == 0:
            # Their row number is the rank; ours is the place among the sorted names.
            for name in ("output.weight", "output.bias"):
                parts.classifier[name] = parts.classifier[name][order]
            tensors |= {f"encoder.{name}": value for name, value in parts.encoder.items()}
            tensors |= {f"classifier.{name}": value for name, value in parts.classifier.items()}
        elif not best:
            _check_same_encoder(tensors, parts.encoder, path, paths[0])
        tensors |= {f"decoders.{names[rank]}.{name}": v for name, v in parts.decoder.items()}
    source: dict[str, object] = {
        "checkpoints": kind,
        "epoch": args.epoch,
        "ranks": list(names),
        "sha256": {path.name: _sha256(path) for path in paths},
    }
    return PublishedModel(config, tuple(names[rank] for rank in order), tensors, source)


@dataclass(frozen=True)
class _Args:
    """The options that the checkpoints were trained with, by name, and the epoch."""

    options: dict[str, object]
    epoch: int | None


@dataclass(frozen=True)
class _Parts:
    """The three networks of a checkpoint under umt's names, float32."""

    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]
    classifier: dict[str, Tensor]


def _read_args(path: Path) -> _Args:
    # The training machine's path class, by its name in Python up to 3.12 and in 3.13, becomes one
    # that exists on every system.
    paths: list[Allowed] = [
        (PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")
    ]
    match _load(path, [argparse.Namespace, *paths]):
        case [argparse.Namespace() as namespace, *rest]:
            epoch = rest[0] if rest and type(rest[0]) is int else None
            return _Args(vars(namespace), epoch)
    raise ModelError(f"{path}: not the options of a training run; is it the authors' file?")


def _domain_names(args: _Args, path: Path) -> list[str]:
    """Return the domains by rank: the names of the folders that they were trained on."""
    data = args.options.get("data")
    folders = data if isinstance(data, list | tuple) else [data]
    names = []
    for folder in folders:
        if not isinstance(folder, str | PurePosixPath):
            raise ModelError(f"{path}: `data` lists no folders, so the domains have no names")
        name = unicodedata.normalize("NFC", PurePosixPath(folder).name)
        # A folder may have any name, a domain's has letters, digits, spaces, "-" and "_".
        names.append(re.sub(r"[^\w -]", "_", name).strip(" -"))
    if not names or "" in names or len(set(names)) < len(names):
        raise ModelError(f"{path}: `data` names a domain twice or not at all: {shortened(names)}")
    return names


def _checkpoint_paths(directory: Path, kind: str, names: Sequence[str]) -> list[Path]:
    paths = [directory / f"{kind}_{rank}.pth" for rank in range(len(names))]
    missing = [path.name for path in paths if not path.is_file()]
    if missing and kind == "lastmodel" and any(directory.glob("bestmodel_*.pth")):
        raise ModelError(
            f"{directory}: no {', '.join(missing)}. The bestmodel_* files were saved at different "
            "epochs, so their encoders may differ; --best takes them with the encoder of rank 0"
        )
    if missing:
        raise ModelError(
            f"{directory}: no {', '.join(missing)}; args.pth lists {len(names)} domains: "
            f"{', '.join(names)}"
        )
    unexpected = {path.name for path in directory.glob(f"{kind}_*.pth")}
    unexpected -= {path.name for path in paths}
    if unexpected:
        raise ModelError(
            f"{directory}: {min(unexpected)} has no domain; args.pth lists {len(names)}: "
            f"{', '.join(names)}"
        )
    return paths


def _read_checkpoint(path: Path, rank: int) -> _Parts:
    content = _load(path, [])
    if not isinstance(content, dict):
        raise ModelError(f"{path}: not a checkpoint of the authors' program")
    stored = content.get("dataset", rank)
    if type(stored) is not int or stored != rank:
        raise ModelError(
            f"{path}: is of rank {shortened(stored)}, its name is that of rank {rank}; was it "
            "renamed?"
        )
    return _Parts(
        _renamed(content.get("encoder_state"), ENCODER_NAMES, path, "encoder_state"),
        _renamed(content.get("decoder_state"), DECODER_NAMES, path, "decoder_state"),
        _renamed(content.get("discriminator_state"), CLASSIFIER_NAMES, path, "discriminator_state"),
    )


def _load(path: Path, allowed: Sequence[Allowed]) -> object:
    """Unpickle tensors, plain containers and the classes allowed, in either of torch's formats."""
    try:
        _refuse_compressed(path)
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on old and on damaged pickles
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: not there; a folder of the authors' checkpoints has args.pth and a "
            "lastmodel_RANK.pth for each domain"
        ) from error
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ModelError(
                f"{path}: refused: it wants to load {found[1]}, which could run code; "
                "checkpoints hold tensors and plain values only"
            ) from error
        raise ModelError(f"{path}: refused: neither tensors nor plain values") from error
    except (MemoryError, ModelError):
        raise
    except Exception as error:  # whatever a damaged file makes torch raise
        raise ModelError(f"{path}: damaged, or no checkpoint ({type(error).__name__})") from error
    return content


def _refuse_compressed(path: Path) -> None:
    """Raise if an archive unpacks to more than its size; torch itself compresses nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
        if n_bytes > path.stat().st_size:
            raise ModelError(f"{path}: refused: it would unpack to {n_bytes} bytes")


def _renamed(state: object, names: Mapping[str, str], path: Path, part: str) -> dict[str, Tensor]:
    """Return a network's tensors under umt's names, checked and converted to float32."""
    if not isinstance(state, dict) or not state:
        raise ModelError(f"{path}: has no {part}")
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        layer, _, kind = str(key).removeprefix("module.").rpartition(".")
        if ".extra." in f".{layer}.":
            raise ModelError(
                f"{path}: {part} has {shortened(key)}: the encoder of another project, which has "
                "other layers than the paper's; it cannot be imported"
            )
        matching = [theirs for theirs in names if re.fullmatch(theirs, layer)]
        if not matching or kind not in ("weight", "bias"):
            raise ModelError(
                f"{path}: {part} has {shortened(key)}, which the paper's networks have not"
            )
        ours = re.sub(matching[0], names[matching[0]], layer)
        renamed[f"{ours}.{kind}"] = _checked(value, path, f"{part}[{shortened(key)}]")
    return renamed


def _checked(value: object, path: Path, name: str) -> Tensor:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        raise ModelError(f"{path}: {name} is no tensor")
    if not value.is_floating_point() or value.is_meta:
        raise ModelError(f"{path}: {name} has no floating-point numbers")
    # A tensor with steps of 0 could claim any size.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ModelError(f"{path}: {name} is damaged: fewer numbers than its shape has")
    if not value.isfinite().all():
        raise ModelError(f"{path}: {name} has values that are not finite")
    return value.detach().float().clone(memory_format=torch.contiguous_format)


def _configuration(args: _Args, parts: _Parts, path: Path) -> Config:
    """Return the configuration by the first checkpoint's tensors and the training's options."""
    try:
        sizes = {
            "encoder_channels": len(parts.encoder["input.weight"]),
            "latent_dim": len(parts.encoder["output.weight"]),
            "residual_channels": len(parts.decoder["input.weight"]),
            "skip_channels": len(parts.decoder["mix.weight"]),
        }
        n_hidden = len(parts.classifier["layers.0.weight"])
    except KeyError as error:
        raise ModelError(f"{path}: has no tensor for {error.args[0]}") from error
    model = get_preset(PRESET).model
    pool = _whole_number(args, "encoder_pool", model.hop_length, MAX_POOL, path)
    for part, prefix, state in (
        ("encoder", "encoder_", parts.encoder),
        ("decoder", "", parts.decoder),
    ):
        n_layers = len({name.split(".")[1] for name in state if name.startswith("layers.")})
        blocks, layers = (
            _whole_number(args, f"{prefix}{what}", getattr(model, f"{part}_{what}"), most, path)
            for what, most in (("blocks", n_layers), ("layers", MAX_LAYERS))
        )
        if blocks * layers != n_layers:
            raise ModelError(
                f"{path}: the {part} has {n_layers} layers, and args.pth has {blocks} × {layers}"
            )
        sizes |= {f"{part}_blocks": blocks, f"{part}_layers": layers}
    config = get_preset(PRESET).updated("model", hop_length=pool, **sizes)
    return config.updated("confusion", channels=n_hidden)


def _whole_number(args: _Args, name: str, default: int, most: int, path: Path) -> int:
    value = args.options.get(name, default)
    if type(value) is not int or not 1 <= value <= most:
        raise ModelError(
            f"{path.parent / 'args.pth'}: {name} = {shortened(value)}: expected 1 to {most}"
        )
    return value


def _expected_shapes(config: Config, n_domains: int) -> _Shapes:
    """Return the shapes that tensors of this configuration have, without taking their memory."""
    hidden, latent_dim = config.confusion.channels, config.model.latent_dim
    classifier = {"output.weight": (n_domains, hidden, 1), "output.bias": (n_domains,)}
    for number in range(N_CLASSIFIER_LAYERS):
        classifier[f"layers.{number}.weight"] = (hidden, latent_dim if number == 0 else hidden, 1)
        classifier[f"layers.{number}.bias"] = (hidden,)
    assert isinstance(config.model, WaveNetConfig)
    with torch.device("meta"):
        networks = WaveNetEncoder(config.model), WaveNetDecoder(config.model)
    encoder, decoder = (
        {name: tuple(value.shape) for name, value in network.state_dict().items()}
        for network in networks
    )
    return {"encoder": encoder, "decoder": decoder, "classifier": classifier}


def _check_shapes(expected: _Shapes, parts: _Parts, path: Path) -> None:
    """Raise unless each tensor is there, no other is, and all have the expected shapes."""
    for part, shapes in expected.items():
        state: dict[str, Tensor] = getattr(parts, part)
        for name in sorted(shapes.keys() | state.keys()):
            found = tuple(state[name].shape) if name in state else None
            if found != shapes.get(name):
                raise ModelError(
                    f"{path}: {part}.{name} has shape {found}, expected {shapes.get(name)} by the "
                    "first checkpoint's tensors and args.pth"
                )


def _check_same_encoder(
    tensors: Mapping[str, Tensor], encoder: Mapping[str, Tensor], path: Path, first: Path
) -> None:
    differing = [
        name for name, own in encoder.items() if not torch.equal(own, tensors[f"encoder.{name}"])
    ]
    if differing:
        raise ModelError(
            f"{path}: its encoder is not the one of {first.name} ({differing[0]} differs), and a "
            "model has one for all domains; are they of one training run and one epoch?"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
