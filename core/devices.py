"""The devices that models run on, by the names that users type."""

from __future__ import annotations

import torch

from core.errors import UsageError
from core.parsing import did_you_mean, shortened


def available_devices() -> list[str]:
    """Return the devices of this machine as `Translator.load` takes them, the default one first.

    Apple's GPUs are none of them: they have no float64, which the phases of the spectral decoder
    and the draws of WaveNets need.
    """
    return [*(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]


def resolve_device(device: str) -> str:
    """Return the device that a name stands for.

    Raises:
        UsageError: This machine has no such device.
    """
    available = available_devices()
    if device == "auto":
        return available[0]
    if device not in available and not (device == "cuda" and "cuda:0" in available):
        raise UsageError(
            f"device {shortened(device)}: this machine has {', '.join(available)}"
            f"{did_you_mean(device, available)}"
        )
    return device
