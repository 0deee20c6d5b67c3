"""The training loop: a run from its start, or its newest checkpoint, to its end.

In: prepared domains and a configuration. Out: a run's folder with checkpoints, a log and
`model.safetensors`. What one update does is in `core.training.update`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from core.data.dataset import Batch, Batches, Segments
from core.errors import DataError, TrainingError
from core.model import Translator
from core.modelfile import MODEL_FILE
from core.training.adding import check_addition, extended_model, lineage
from core.training.checkpoint import load_newest, save_checkpoint
from core.training.run import LOG_FILE, check_same_run, cut_log, locked
from core.training.schedule import learning_rate
from core.training.update import Updater, diverged
from core.training.validation import Validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from core.config import Config
    from core.data.domain import Domain
    from core.training.adding import Addition

LOG_STEPS = 10
LONG_RUN_SECONDS = 7 * 86400
OUT_OF_TIME = "minutes"  # the reason to stop that leaves time for a validation


class Reporter(Protocol):
    """What a user is told while training goes on; only the first process speaks."""

    def notice(self, text: str) -> None:
        """Tell one line."""

    def progress(self, record: dict[str, Any]) -> None:
        """Show a record of the log: step, losses, accuracy, items a second, seconds left."""

    def validated(self, record: dict[str, Any]) -> None:
        """Show a validation's figures."""


@dataclass(frozen=True)
class TrainingResult:
    """How a call of `train` ended.

    Attributes:
        step: Updates done since the run began.
        model: The model file.
        stopped_by: `steps`, `minutes`, or what `should_stop` returned.
        is_main: Whether this is the first of the processes, the one that speaks.
    """

    step: int
    model: Path
    stopped_by: str
    is_main: bool


def train(
    config: Config,
    domains: Sequence[Domain],
    run: Path,
    *,
    reporter: Reporter,
    max_minutes: float | None = None,
    should_stop: Callable[[], str | None] = lambda: None,
    device: str = "auto",
    addition: Addition | None = None,
) -> TrainingResult:
    """Train, or continue, a run.

    Args:
        config: The configuration.
        domains: Prepared domains.
        run: The run's folder.
        reporter: Told of progress.
        max_minutes: Stop, and save, after so long.
        should_stop: Asked after each update; a reason to stop, or None.
        device: "auto" for what `accelerate` finds, or "cpu".
        addition: A domain to be added to a trained model; `domains` is then this one. None
            trains all of a new model.

    Raises:
        UsageError: The run was started with another configuration or other data.
        DataError: The data does not fit the configuration.
        TrainingError: The loss is not finite, or a file cannot be written.
    """
    _share_threads()
    accelerator = Accelerator(cpu=device == "cpu")
    if not accelerator.is_main_process:
        loop = _Loop(config, domains, run, accelerator, reporter=_Silent(), addition=addition)
        return loop.train(max_minutes, should_stop)
    with locked(run):
        loop = _Loop(config, domains, run, accelerator, reporter=reporter, addition=addition)
        # Only now that the data fits: a failed start must not bind the run to its options.
        check_same_run(run, config, domains, loop.lineage)
        return loop.train(max_minutes, should_stop)


class _Silent:
    """The reporter of every process but the first."""

    def notice(self, text: str) -> None:
        pass

    def progress(self, record: dict[str, Any]) -> None:
        pass

    def validated(self, record: dict[str, Any]) -> None:
        pass


class _Loop:
    """One call's state: the model, its optimizers and where it stands."""

    def __init__(
        self,
        config: Config,
        domains: Sequence[Domain],
        run: Path,
        accelerator: Accelerator,
        *,
        reporter: Reporter,
        addition: Addition | None = None,
    ) -> None:
        self.config, self.run, self.reporter = config, run, reporter
        self.accelerator = accelerator
        domains = sorted(domains, key=lambda domain: domain.name)  # as the model's ids are
        self.model = _build_model(config, domains, addition).to(accelerator.device)
        self.lineage = lineage(addition) if addition else {}
        # An encoder that no longer adapts must hear what it will hear when it is used.
        level_db = self.model.level_db if addition else None
        segment_length = _segment_length(config)
        segments = [
            Segments(
                domain,
                "train",
                sample_rate=config.model.sample_rate,
                length=segment_length,
                level_db=level_db,
            )
            for domain in domains
        ]
        self.batches = Batches(
            segments,
            config,
            rank=accelerator.process_index,
            n_processes=accelerator.num_processes,
        )
        self.updater = Updater(self.model, accelerator)
        self.validator = Validator(self.model, domains, segment_length, level_db)
        self.minutes = {
            domain.name: {
                split: round(domain.minutes(split), 2) for split in ("train", "validation", "test")
            }
            for domain in domains
        }
        self.step = 0
        self.seconds = 0.0
        self.figures: dict[str, float] = {}
        self.meter = _Meter()

    def train(
        self, max_minutes: float | None, should_stop: Callable[[], str | None]
    ) -> TrainingResult:
        """Continue from the newest checkpoint until there is a reason to stop."""
        self._restore()
        self._say_what_is_missing()
        stopped_by = "steps"
        is_main = self.accelerator.is_main_process
        writer = SummaryWriter(self.run, purge_step=self.step + 1) if is_main else None
        began = time.monotonic() - self.seconds
        called, first = time.monotonic(), self.step
        self.meter.start(self.step)
        try:
            for batch in self._loader():
                losses = self.updater.update(batch, self.step)
                self.step += 1
                self.seconds = time.monotonic() - began
                self.meter.add(losses)
                if self.step == first + 1:
                    self._warn_of_a_long_run(time.monotonic() - called)
                if self.step % LOG_STEPS == 0 or self.step == self.config.training.steps:
                    self._log(writer)
                reason = self._reason_to_stop(should_stop, called, max_minutes)
                self._keep(writer, reason)
                if reason is not None:
                    stopped_by = reason
                    break
        finally:
            if writer is not None:
                writer.close()
        return TrainingResult(self.step, self.run / MODEL_FILE, stopped_by, is_main)

    def _loader(self) -> Iterable[Batch]:
        return DataLoader(
            self.batches,
            sampler=range(self.step, self.config.training.steps),
            batch_size=None,
            num_workers=1,
            worker_init_fn=_leave_signals_to_the_loop,
        )

    def _reason_to_stop(
        self, should_stop: Callable[[], str | None], called: float, max_minutes: float | None
    ) -> str | None:
        """Return why to stop after this step; all processes get the first one's answer."""
        reason = should_stop()
        if max_minutes is not None and time.monotonic() - called > max_minutes * 60:
            reason = reason or OUT_OF_TIME
        if self.accelerator.num_processes == 1:
            return reason
        from accelerate.utils import gather_object

        reasons = [found for found in gather_object([reason]) if found]
        return reasons[0] if reasons else None

    def _log(self, writer: SummaryWriter | None) -> None:
        meter = self.meter
        if writer is None:
            meter.reset(self.step)
            return
        n_steps = self.step - meter.since
        training = self.config.training
        seconds = time.monotonic() - meter.began
        record = {
            "step": self.step,
            **meter.means(),
            "learning_rate": learning_rate(training, self.step - 1),
            "items_per_second": n_steps * training.batch_size / seconds,
            "seconds_left": (training.steps - self.step) * seconds / n_steps,
            "seconds": self.seconds,
        }
        self._write(record, writer)
        self.reporter.progress(record)
        meter.reset(self.step)

    def _warn_of_a_long_run(self, step_seconds: float) -> None:
        """Say, after a first update of so many seconds, if the run would take weeks."""
        training = self.config.training
        seconds = (training.steps - self.step) * step_seconds
        if seconds > LONG_RUN_SECONDS:
            self.reporter.notice(
                f"at the speed of the first update the {training.steps} steps of preset "
                f"{self.config.preset} take about {seconds / 86400:.0f} days on this machine; "
                "--preset fast learns within hours on a CPU, and --max-minutes stops in time "
                "(the run can be continued)"
            )

    def _keep(self, writer: SummaryWriter | None, reason: str | None) -> None:
        """Save where a validation is due or training stops.

        Somebody who asks to stop waits for the checkpoint only, not for a validation that
        is not due, nor for examples.
        """
        training = self.config.training
        is_due = reason == OUT_OF_TIME or self.step == training.steps
        is_due = is_due or self.step % training.validate_steps == 0
        if writer is None or not (is_due or reason):
            return
        if not all(bool(tensor.isfinite().all()) for tensor in self.model.parameters()):
            raise diverged(f"weights are not finite after step {self.step}")
        if is_due:
            self.figures = self.validator.figures()
            record = {"step": self.step, **self.figures}
            self._write(record, writer)
        self._save()
        if is_due:
            self.reporter.validated(record)
        if is_due and reason in (None, OUT_OF_TIME):
            for name, waveform in self.validator.examples(self.step):
                writer.add_audio(name, waveform, self.step, self.model.sample_rate)
        writer.flush()

    def _save(self) -> None:
        """Write the model file and the checkpoint."""
        self.model.training_record = {
            "steps": self.step,
            "seconds": round(self.seconds),
            "minutes": self.minutes,
            "figures": self.figures,
            **self.lineage,
        }
        try:
            self.model.save(self.run / MODEL_FILE)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{self.run}: cannot save the model: {error}") from error
        save_checkpoint(self.run / "checkpoints", self.step, self._state())

    def _write(self, record: dict[str, Any], writer: SummaryWriter) -> None:
        with (self.run / LOG_FILE).open("a") as log:
            log.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if name != "step":
                writer.add_scalar(name, value, self.step)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "figures": self.figures,
            "losses": self.meter.values,
            "model": self.model.state_dict(),
            **self.updater.state_dict(),
        }

    def _restore(self) -> None:
        state = load_newest(self.run / "checkpoints", self.reporter.notice)
        if state is not None:
            self.step, self.seconds = state["step"], state["seconds"]
            self.figures, self.meter.values = state["figures"], state["losses"]
            self.model.load_state_dict(state["model"])
            self.updater.load_state_dict(state)
            self.reporter.notice(f"continuing {self.run} at step {self.step}")
        if self.accelerator.is_main_process:
            cut_log(self.run, self.step)

    def _say_what_is_missing(self) -> None:
        if self.lineage:
            others = ", ".join(self.model.domains[:-1])
            like = f", from the one of {self.lineage['like']}" if self.lineage["like"] else ""
            self.reporter.notice(
                f"training a decoder for {self.lineage['added']}{like}; the encoder and the "
                f"decoders of {others} stay as they are"
            )
        elif not self.updater.has_confusion:
            self.reporter.notice(
                f"only one domain ({self.model.domains[0]}): training without the confusion term"
            )
        for name in self.validator.without_validation:
            self.reporter.notice(f"{name} has no validation audio: no held-out figure for it")


class _Meter:
    """Losses since the last record, also those of an earlier call, and this call's speed."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.start(0)

    def start(self, step: int) -> None:
        self.since, self.began = step, time.monotonic()

    def reset(self, step: int) -> None:
        self.values = {}
        self.start(step)

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in sorted(self.values.items())}


def _build_model(
    config: Config, domains: Sequence[Domain], addition: Addition | None
) -> Translator:
    if addition is not None:
        check_addition(addition, config)
        return extended_model(addition, config)
    names = [domain.name for domain in domains]
    model = Translator.create(config, names, seed=config.training.seed)
    model.level_db = _mean_level_db(domains)
    return model


def _segment_length(config: Config) -> int:
    """Return the length of an item in samples: whole latent frames, at least one."""
    hop_length = config.model.hop_length
    wanted = config.training.segment_seconds * config.model.sample_rate
    return max(1, round(wanted / hop_length)) * hop_length


def _mean_level_db(domains: Sequence[Domain]) -> float:
    levels = [track.level_db for domain in domains for track in domain.tracks]
    if not levels:
        raise DataError("no prepared recordings")
    return sum(levels) / len(levels)


def _share_threads() -> None:
    """Use this process's share of the cores; `accelerate launch` would leave it one."""
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(max(1, (cores or 1) // local_processes))


def _leave_signals_to_the_loop(worker: int) -> None:
    """Live on when Ctrl-C or a cluster's SIGTERM reaches the whole process group."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
