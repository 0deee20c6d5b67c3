"""Checkpoints of the structure that the paper's authors published, made from umt's own networks."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from core.config import WaveNetConfig
from core.confusion import DomainClassifier
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.encoder import WaveNetEncoder
from core.presets import get_preset

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.config import Config

# By rank: not in the order of their names.
FOLDERS = ("musicnet/Cello", "musicnet/Piano", "musicnet/Bassoon")
DOMAINS = ("Cello", "Piano", "Bassoon")

# Our names, without `.weight` and `.bias`, and theirs.
ENCODER = {
    r"input": "start",
    r"layers\.(\d+)\.dilated": r"dilated_convs.\1.dilated_conv",
    r"layers\.(\d+)\.mix": r"dilated_convs.\1.conv_1x1",
    r"output": "conv_1x1",
}
DECODER = {
    r"input": "first_conv",
    r"input_skip": "skip_conv",
    r"layers\.(\d+)\.dilated": r"layers.\1.causal",
    r"mix": "fc",
    r"mix_condition": "condition",
    r"output": "logits",
}
CLASSIFIER = {r"layers\.0": "convs.0", r"layers\.1": "convs.2", r"layers\.2": "convs.4"}
CLASSIFIER |= {r"output": "convs.6"}


@dataclass
class Published:
    """What was written, and the networks that it was written from."""

    folder: Path
    config: Config
    encoder: WaveNetEncoder
    decoders: dict[str, WaveNetDecoder]
    classifier: DomainClassifier  # its outputs by rank


def small_config() -> Config:
    """Return the authors' recipe with small networks."""
    sizes = {"encoder_channels": 4, "encoder_blocks": 2, "encoder_layers": 3, "latent_dim": 5}
    sizes |= {"residual_channels": 4, "skip_channels": 6, "decoder_blocks": 2, "decoder_layers": 4}
    config = get_preset("paper-code").updated("model", **sizes)
    return config.updated("confusion", channels=7)


def write_published(
    folder: Path,
    *,
    kind: str = "lastmodel",
    prefix: str = "",
    is_legacy: bool = False,
    is_cuda: bool = False,
    change: Callable[[int, dict[str, Any]], None] | None = None,
    config: Config | None = None,
    **options: Any,
) -> Published:
    """Write a folder of checkpoints.

    Args:
        folder: Where; it is made.
        kind: First part of the files' names.
        prefix: Of all tensors' names.
        is_legacy: Whether to write torch's older file format.
        is_cuda: Whether tensors say that they were on a GPU.
        change: What to do with the content of each rank's file before it is written.
        config: Sizes of the networks; None for `small_config`.
        **options: Changes of the training's options; None leaves one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = config or small_config()
    model = config.model
    assert isinstance(model, WaveNetConfig)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = WaveNetEncoder(model).eval()
        decoders = {name: WaveNetDecoder(model).eval() for name in DOMAINS}
        classifier = DomainClassifier(model.latent_dim, len(DOMAINS), config.confusion).eval()
    values = {
        "data": [Path("/data") / name for name in FOLDERS],
        "kernel_size": 2,
        "encoder_func": "relu",
        "d_layers": 3,
        "blocks": model.decoder_blocks,
        "layers": model.decoder_layers,
        "encoder_blocks": model.encoder_blocks,
        "encoder_layers": model.encoder_layers,
        "lr": 1e-3,
    } | options
    namespace = argparse.Namespace(**{k: v for k, v in values.items() if v is not None})
    torch.save([namespace, 73], folder / "args.pth", _use_new_zipfile_serialization=not is_legacy)
    for rank, name in enumerate(DOMAINS):
        content = {
            "encoder_state": _theirs(encoder, ENCODER, prefix),
            "decoder_state": _theirs(decoders[name], DECODER, prefix),
            "discriminator_state": _theirs(classifier, CLASSIFIER, prefix),
            "model_optimizer_state": {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
            "d_optimizer_state": {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}},
            "dataset": rank,
        }
        if change is not None:
            change(rank, content)
        path = folder / f"{kind}_{rank}.pth"
        with patch("torch.serialization.location_tag", lambda _: "cuda:3" if is_cuda else "cpu"):
            torch.save(content, path, _use_new_zipfile_serialization=not is_legacy)
    return Published(folder, config, encoder, decoders, classifier)


def _theirs(network: torch.nn.Module, names: dict[str, str], prefix: str) -> dict[str, Any]:
    state = {}
    for name, value in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        for ours, theirs in names.items():
            if re.fullmatch(ours, layer):
                layer = re.sub(ours, theirs, layer)
                break
        state[f"{prefix}{layer}.{kind}"] = value
    return state
