"""The devices that models run on, by the names that users type."""

from __future__ import annotations

import os

import torch

from core.errors import UsageError
from core.parsing import did_you_mean, shortened


def available_devices() -> list[str]:
    """Return the devices of this machine as `Translator.load` takes them, the default one first.

    Apple's GPUs are none of them: they have no float64, which the phases of the spectral decoder
    and the draws of WaveNets need.

    Example:
        >>> available_devices()[-1]
        'cpu'
    """
    return [*(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]


def resolve_device(device: str) -> str:
    """Return the device that a name stands for.

    Raises:
        UsageError: This machine has no such device.
    """
    available = available_devices()
    gpus = available[:-1]
    if gpus and device in ("auto", "cuda"):
        # Of several processes that a launcher has started on this machine, each has its own.
        return gpus[int(os.environ.get("LOCAL_RANK", "0")) % len(gpus)]
    if device == "auto":
        return available[0]
    if device not in available:
        raise UsageError(
            f"device {shortened(device)}: this machine has {', '.join(available)}"
            f"{did_you_mean(device, available)}"
        )
    return device
