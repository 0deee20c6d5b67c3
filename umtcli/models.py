"""Which model a command uses, on which device, and the loading of it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UsageError
from core.parsing import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from core.hub import HubModel
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
    from core.model_file import find_domain, read_header

    found = find(env, requested, domains)
    header = read_header(found.path)
    for domain in domains:
        find_domain(domain, header.domains, model=found.name)
    env.notice(f"model {found.name} ({found.reason})")
    if found.warning:
        env.notice(f"warning: {found.name} {found.warning}: expect noise; name another with -m")
    return found, header


def find(env: Environment, requested: str | None, domains: Sequence[str] = ()) -> FoundModel:
    """Find the model to use, as `core.model_file.find_model` does; downloads are announced."""
    from core.hub import cached_model, download_model
    from core.model_file import find_model

    def download(model: HubModel) -> Path:
        if cached_model(model) is None:
            env.notice(f"downloading {model}")
        return download_model(model, is_quiet=env.is_quiet)

    return find_model(requested, domains, cwd=Path.cwd(), download=download)


def check_device(device: str) -> None:
    """Check how a device is written, without torch.

    Raises:
        UsageError: It is none of those that --device takes.
    """
    if not _DEVICE.fullmatch(device):
        meant = "cuda" if device.lower().startswith("gpu") else device
        suggestion = did_you_mean(meant, ("auto", "cpu", "cuda"))
        raise UsageError(f"--device {device}: expected auto, cpu, cuda or cuda:N{suggestion}")


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
        from core.devices import resolve_device
        from core.translator import Translator

        chosen = resolve_device(device)
    return Translator.load(found.path, domains=domains, device=chosen)
