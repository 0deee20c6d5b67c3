"""Which model a command uses, on which device, and the loading of it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from core.model_file import FoundModel, ModelHeader
    from core.translator import Translator
    from umtcli.console import Environment

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def choose_model(
    env: Environment, requested: str | None, domains: Sequence[str]
) -> tuple[FoundModel, ModelHeader]:
    """Find the model to use, check that it has the domains, and say which it is and why.

    Raises:
        UsageError: A domain that the model does not have; the message lists those it has.
        ModelError: No such model, or a damaged file.
    """
    from core.model_file import find_model, read_header

    found = find_model(requested, domains, cwd=Path.cwd())
    header = read_header(found.path)
    for domain in domains:
        if domain not in header.domains:
            known = ", ".join(header.domains)
            raise UsageError(f"unknown domain {domain!r}; {found.name} has {known}")
    env.notice(f"model {found.name} ({found.reason})")
    return found, header


def check_device(device: str) -> None:
    """Check how a device is written, without torch.

    Raises:
        UsageError: It is none of those that --device takes.
    """
    if not _DEVICE.fullmatch(device):
        raise UsageError(f"--device {device}: expected auto, cpu, cuda or cuda:N")


def load_translator(found: FoundModel, domains: Iterable[str], device: str) -> Translator:
    """Load a model's encoder and the decoders of some domains.

    Args:
        found: The model.
        domains: The decoders to load; none for the encoder alone.
        device: As --device takes it.

    Raises:
        ModelError: The file is damaged.
        UsageError: This machine has no such device.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own remarks on the machine's drivers
        from core.translator import Translator

        chosen = _resolve_device(device)
    return Translator.load(found.path, domains=domains, device=chosen)


def available_devices() -> list[str]:
    """Return the devices of this machine as --device takes them, the default one first.

    Apple's GPUs are none of them: they have no float64, which the phases of the spectral decoder
    and the draws of WaveNets need.
    """
    import torch

    return [*(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]


def _resolve_device(device: str) -> str:
    available = available_devices()
    if device == "auto":
        return available[0]
    if device not in available and not (device == "cuda" and "cuda:0" in available):
        raise UsageError(f"--device {device}: this machine has {', '.join(available)}")
    return device
