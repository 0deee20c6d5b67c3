"""The tensors of a model file; its header is `core.model_file`'s."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from core.errors import ModelError
from core.model_file import part_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Set
    from pathlib import Path

    from torch import Tensor

    from core.model_file import ModelHeader


def read_weights(path: Path, header: ModelHeader, needed: Set[str]) -> dict[str, Tensor]:
    """Read some tensors and check them against the file's checksums.

    Args:
        path: The model file.
        header: Its header.
        needed: Names of tensors: all those of some parts.

    Returns:
        Tensors by name, float32.

    Raises:
        ModelError: The file is damaged, or has no tensor of such a name.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            missing = sorted(needed - names)
            if missing:
                raise ModelError(f"{path}: damaged: no tensor {missing[0]!r}")
            stored = {name: file.get_tensor(name) for name in sorted(needed)}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged model file: {error}") from error
    for part, checksum in checksums_of(stored).items():
        if header.checksums.get(part) != checksum:
            raise ModelError(
                f"{path}: damaged: the weights of {part} changed since they were saved"
            )
    return {name: tensor.float() for name, tensor in stored.items()}


def checksums_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the CRC-32 of each part's tensors in the order of their names."""
    checksums: dict[str, int] = {}
    for name in sorted(tensors):
        values = tensors[name].view(torch.uint8) if tensors[name].ndim else tensors[name]
        part = part_of(name)
        checksums[part] = zlib.crc32(values.numpy().tobytes(), checksums.get(part, 0))
    return checksums
