"""A run's log: means of the losses and the speed, in `log.jsonl` and for TensorBoard.

In: the figures of each update, and those of validations. Out: one record a line, with its
step; the same numbers, and sounds, as TensorBoard's events. Only the first process writes.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from torch.utils.tensorboard import SummaryWriter

from core.training.run_directory import LOG_FILE, cut_log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from core.data.dataset import Batch


class Meter:
    """The figures of the updates since the last record, and this call's speed since then.

    Attributes:
        values: Figures by name, one an update; a checkpoint keeps them.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.start(0)

    def start(self, step: int) -> None:
        """Begin to measure the speed, after so many updates."""
        self.since, self.began, self.waited = step, time.monotonic(), 0.0

    def add(self, figures: Mapping[str, float]) -> None:
        """Take in the figures of an update."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches on and measure how long each is waited for."""
        source = iter(batches)
        while True:
            asked = time.monotonic()
            batch = next(source, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def take(self, step: int, *, steps: int, batch_size: int) -> dict[str, float]:
        """Return the means and the speed since the last call, and begin anew.

        Args:
            step: Updates done.
            steps: Updates of the whole run.
            batch_size: Items of an update.
        """
        seconds, n_steps = time.monotonic() - self.began, step - self.since
        record = {
            **{name: sum(values) / len(values) for name, values in sorted(self.values.items())},
            "items_per_second": n_steps * batch_size / seconds,
            "seconds_left": (steps - step) * seconds / n_steps,
            "waiting_share": self.waited / seconds,
        }
        self.values = {}
        self.start(step)
        return record


class Log:
    """The log of a run, cut back to where the run continues.

    Args:
        run: The run's folder.
        step: Updates done; what was written after them will be written again.
    """

    def __init__(self, run: Path, step: int) -> None:
        cut_log(run, step)
        self.path = run / LOG_FILE
        self.events = SummaryWriter(run, purge_step=step + 1)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write a record: numbers by name, one of them `step`."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if name != "step":
                self.events.add_scalar(name, value, record["step"])

    def write_sounds(
        self, sounds: Iterable[tuple[str, Tensor]], *, step: int, sample_rate: int
    ) -> None:
        """Keep sounds to listen to: a name, and a waveform float32 [1, T]."""
        for name, waveform in sounds:
            self.events.add_audio(name, waveform, step, sample_rate)

    def flush(self) -> None:
        """Bring TensorBoard's events to the disk."""
        self.events.flush()

    def close(self) -> None:
        """Close TensorBoard's events."""
        self.events.close()
