"""Where a run can be watched: TensorBoard, or a service that accelerate has a tracker for.

In: records and sounds of a run. Out: TensorBoard's events in the run's folder, or whatever the
service makes of them. A run that continues goes on in the same place.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from torch.utils.tensorboard import SummaryWriter

from core.errors import TrainingError, UsageError
from core.parsing import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

    from core.training.run_directory import RunDirectory

TENSORBOARD = "tensorboard"
TRACKERS = (TENSORBOARD, "wandb", "trackio")
PROJECT = "umt"  # that services file runs under


class Tracker(Protocol):
    """Takes what there is to watch."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Take numbers by name."""

    def log_sounds(
        self, sounds: Iterable[tuple[str, Tensor]], *, step: int, sample_rate: int
    ) -> None:
        """Take sounds: a name, and a waveform float32 [1, T]."""

    def flush(self) -> None:
        """Bring it to the disk."""

    def close(self) -> None:
        """End; the run may continue later."""


class TensorBoard:
    """Events in the run's folder.

    Args:
        run: The folder.
        step: Updates done; TensorBoard hides what an earlier call wrote of later ones.
    """

    def __init__(self, run: Path, step: int) -> None:
        self._events = SummaryWriter(run, purge_step=step + 1)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Take numbers by name."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def log_sounds(
        self, sounds: Iterable[tuple[str, Tensor]], *, step: int, sample_rate: int
    ) -> None:
        """Take sounds: a name, and a waveform float32 [1, T]."""
        for name, waveform in sounds:
            self._events.add_audio(name, waveform, step, sample_rate)

    def flush(self) -> None:
        """Bring it to the disk."""
        self._events.flush()

    def close(self) -> None:
        """End; the run may continue later."""
        self._events.close()


class Service:
    """An experiment of a service.

    Args:
        name: `wandb` or `trackio`; its package is installed.
        directory: The run's folder.
        facts: About the run, JSON types.

    Raises:
        TrainingError: The service refuses it, as without a login.
    """

    def __init__(self, name: str, directory: RunDirectory, facts: dict[str, Any]) -> None:
        run, run_id = directory.path.absolute(), directory.id
        options: dict[str, dict[str, Any]] = {
            "wandb": {"name": run.name, "id": run_id or None, "resume": "allow", "dir": str(run)},
            "trackio": {"name": f"{run.name}-{run_id}".rstrip("-"), "resume": "allow"},
        }
        self._package: Any = import_module(name)
        self._tracker = LOGGER_TYPE_TO_CLASS[name](PROJECT, **options[name])
        try:
            with redirect_stdout(sys.stderr):  # where umt's results go, trackio greets
                self._tracker.start()
                self._tracker.store_init_configuration(facts)
        except Exception as error:  # of many kinds, and the service's own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise TrainingError(
                f"--log-with {name}: {reason}; log in, or leave it out: TensorBoard needs no login"
            ) from error

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Take numbers by name."""
        self._tracker.log(dict(values), step=step)

    def log_sounds(
        self, sounds: Iterable[tuple[str, Tensor]], *, step: int, sample_rate: int
    ) -> None:
        """Take sounds: a name, and a waveform float32 [1, T]."""
        clips = {
            name: self._package.Audio(waveform[0].numpy(force=True), sample_rate=sample_rate)
            for name, waveform in sounds
        }
        self._tracker.log(clips, step=step)

    def flush(self) -> None:
        """Bring it to the disk: services do so by themselves."""

    def close(self) -> None:
        """End; the run may continue later."""
        with redirect_stdout(sys.stderr):
            self._tracker.finish()


def check_tracker(name: str) -> None:
    """Check that a tracker can be used.

    Raises:
        UsageError: There is none of that name, or its package is not installed.
    """
    if name not in TRACKERS:
        raise UsageError(
            f"--log-with {name}: expected {', '.join(TRACKERS[:-1])} or {TRACKERS[-1]}"
            f"{did_you_mean(name, TRACKERS)}"
        )
    try:
        version(name)
    except PackageNotFoundError as error:
        raise UsageError(
            f"--log-with {name}: the package {name} is not installed; pip install {name}"
        ) from error


def open_tracker(
    name: str, directory: RunDirectory, facts: dict[str, Any], *, step: int
) -> Tracker:
    """Return a tracker that goes on after so many updates.

    Raises:
        TrainingError: A service refuses the run.
    """
    if name == TENSORBOARD:
        return TensorBoard(directory.path, step)
    return Service(name, directory, facts)
