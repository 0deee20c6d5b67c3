"""What a run logs and shows: records, progress and warnings.

In: the figures of each update, and those of validations. Out: `log.jsonl`, one record a line with
its step; the same numbers, and sounds, for a tracker; lines for the user. Only the first process
logs.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from core.files import atomic_write
from core.model_file import FEWEST_UPDATES
from core.presets import DEFAULT_PRESET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from core.config import Config
    from core.data.dataset import Batch
    from core.training.trackers import Tracker

LOG_FILE = "log.jsonl"
FEWEST_MINUTES = 5.0  # of training audio for each domain, below which a user is warned
LONG_RUN_SECONDS = 7 * 86400


class Reporter:
    """Shows a run to its user. This one shows nothing; it is used on every rank but 0."""

    def notice(self, text: str) -> None:
        """Show one line."""

    def progress(self, record: dict[str, Any]) -> None:
        """Show a record of the log: step, losses, accuracy, items a second, seconds left."""

    def validated(self, record: dict[str, Any], baselines: dict[str, dict[str, float]]) -> None:
        """Show a validation's figures and, for each domain, those that need no training."""


class Meter:
    """Collects the figures of updates and the speed between two records of the log.

    Attributes:
        values: Figures by name, one for each update; a checkpoint keeps them.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.start(0)

    def start(self, step: int) -> None:
        """Begin to measure the speed, after so many updates."""
        self.since, self.began, self.waited = step, time.monotonic(), 0.0

    def add(self, figures: Mapping[str, float]) -> None:
        """Collect the figures of an update."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches on and measure how long each is waited for."""
        source = iter(batches)
        while True:
            began = time.monotonic()
            batch = next(source, None)
            self.waited += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def take(
        self, step: int, *, steps: int, batch_size: int, time_limit: float = float("inf")
    ) -> dict[str, float]:
        """Return the means and the speed since the last call, and begin anew.

        Args:
            step: Updates done.
            steps: Updates of the whole run.
            batch_size: Items of an update.
            time_limit: Seconds until training stops at the latest.
        """
        seconds, n_steps = time.monotonic() - self.began, step - self.since
        record = {
            **{name: sum(values) / len(values) for name, values in sorted(self.values.items())},
            "items_per_second": n_steps * batch_size / seconds,
            "seconds_left": min((steps - step) * seconds / n_steps, max(0.0, time_limit)),
            "waiting_share": self.waited / seconds,
        }
        self.values = {}  # a new one: a checkpoint may hold the old
        self.start(step)
        return record


class RunLog:
    """The log of a run, cut back to where the run continues.

    Args:
        run: The run's folder.
        step: Updates done; what was logged after them will be logged again.
        tracker: Gets the same.
    """

    def __init__(self, run: Path, step: int, tracker: Tracker) -> None:
        self.path = run / LOG_FILE
        cut_log(self.path, step)
        self.tracker = tracker

    def write(self, record: Mapping[str, Any]) -> None:
        """Write a record: numbers by name, one of them `step`."""
        # Opened for each record: readers see it, and a killed run loses half a line at most.
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        values = {name: value for name, value in record.items() if name != "step"}
        self.tracker.log(values, step=record["step"])

    def write_sounds(
        self, sounds: Iterable[tuple[str, Tensor]], *, step: int, sample_rate: int
    ) -> None:
        """Keep sounds to listen to: a name, and a waveform float32 [1, T]."""
        self.tracker.log_sounds(sounds, step=step, sample_rate=sample_rate)

    def flush(self) -> None:
        """Bring what the tracker has to the disk."""
        self.tracker.flush()

    def close(self) -> None:
        """Close the tracker."""
        self.tracker.close()


def cut_log(path: Path, step: int) -> None:
    """Drop a log's records of later steps, and what is no record."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, LookupError, TypeError, RecursionError):
            continue  # the last line of a killed run may be half a line
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def describe_warm_start(lineage: Mapping[str, Any], domains: Iterable[str]) -> str:
    """Return what is trained, and from where; see `core.training.warm_start.lineage`."""
    known = lineage["parent"]["domains"]
    if "added" in lineage:
        like = f", from the one of {lineage['like']}" if lineage["like"] else ""
        return (
            f"training a decoder for {lineage['added']}{like}; the encoder and the decoders of "
            f"{', '.join(known)} stay as they are"
        )
    common = [name for name in domains if name in known]
    decoders = f"the decoders of {', '.join(common)}" if common else "no decoder"
    return f"beginning with the encoder and {decoders} of model {lineage['parent']['id']}"


def warn_of_minutes(minutes: Mapping[str, float]) -> Iterator[str]:
    """Warn of domains with too little training audio to learn an instrument from."""
    few = [f"{name} {value:.1f}" for name, value in minutes.items() if value < FEWEST_MINUTES]
    if few:
        yield (
            f"minutes of training audio: {', '.join(few)}; with less than {FEWEST_MINUTES:g} "
            "expect noise, or what was recorded over and over: add recordings"
        )


def warn_of_updates(what: str, updates: Mapping[str, int]) -> Iterator[str]:
    """Warn where training ends before each decoder can be more than noise.

    Args:
        what: How long training is, for the line.
        updates: How many updates each decoder will have had then.
    """
    name = min(updates, key=lambda name: updates[name])
    if updates[name] < FEWEST_UPDATES:
        yield (
            f"{what}: {updates[name]} updates of the decoder for {name}; with less than "
            f"{FEWEST_UPDATES} expect noise"
        )


def warn_of_duration(config: Config, seconds_left: float, *, is_free: bool) -> Iterator[str]:
    """Warn of a run that would take more than a week.

    Args:
        config: The run's configuration.
        seconds_left: At the speed of the first update.
        is_free: Whether another preset could be chosen; a warm start is built like its model.
    """
    if seconds_left > LONG_RUN_SECONDS:
        is_fast = not is_free or config.preset == DEFAULT_PRESET
        faster = "" if is_fast else f"--preset {DEFAULT_PRESET} learns within hours on a CPU, and "
        yield (
            f"at the speed of the first update the {config.training.steps} steps of preset "
            f"{config.preset} take about {seconds_left / 86400:.0f} days on this machine; "
            f"{faster}--max-minutes stops in time (the run can be continued)"
        )
