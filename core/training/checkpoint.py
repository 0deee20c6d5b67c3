"""Checkpoints of a run: complete or absent, and enough to continue exactly.

A checkpoint holds the weights, the optimizers' states, the step and the seconds spent.
Everything else (items, distortions, noise) is a function of seed and step.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import torch

from core.errors import TrainingError
from core.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEPT = 2


def save_checkpoint(directory: Path, step: int, state: dict[str, Any]) -> None:
    """Write the checkpoint of a step and remove all but the newest few.

    Args:
        directory: The run's folder for checkpoints; made if it is missing.
        step: Updates done.
        state: Tensors, numbers, strings, and dicts and lists of those.

    Raises:
        TrainingError: It cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with atomic_write(directory / f"step-{step:09d}.pt") as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise TrainingError(
            f"{directory}: cannot save the checkpoint of step {step}: {error}; free some space "
            "and run the same command again, it continues from the one before"
        ) from error
    for old in list_checkpoints(directory)[KEPT:]:
        old.unlink()


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    return sorted(directory.glob("step-*.pt"), reverse=True)


def load_newest(directory: Path, notice: Callable[[str], None]) -> dict[str, Any] | None:
    """Load the newest checkpoint that is whole.

    Args:
        directory: The run's folder for checkpoints.
        notice: Told of each checkpoint that is damaged.

    Returns:
        The state that was saved, None if there is no checkpoint.

    Raises:
        TrainingError: There are checkpoints, and all are damaged.
    """
    paths = list_checkpoints(directory)
    for path in paths:
        try:
            _check_sums(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a damaged file makes torch raise
            notice(f"{path} is damaged ({type(error).__name__}); trying the one before")
            continue
        return state
    if paths:
        raise TrainingError(f"{directory}: all checkpoints are damaged; delete the run to restart")
    return None


def _check_sums(path: Path) -> None:
    """Raise unless the file's parts are as they were written; torch stores CRCs unread."""
    with zipfile.ZipFile(path) as parts:
        damaged = parts.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)
