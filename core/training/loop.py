"""The training loop: a run from its start, or its newest checkpoint, to its end.

In: prepared domains and a configuration. Out: a run's folder with checkpoints, a log and
`model.safetensors`. What one update does is in `core.training.step`.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from core.data.dataset import Batches, Segments
from core.data.domain import reading
from core.errors import UsageError
from core.model_file import MODEL_FILE
from core.training import expectations
from core.training.beginning import first_model, lineage_of
from core.training.checkpoint import load_newest
from core.training.loading import load_batches, own_cores
from core.training.logging import Log, Meter
from core.training.optimizers import diverged
from core.training.reporter import Reporter
from core.training.run_directory import check_same_run, locked
from core.training.saving import Saver
from core.training.schedule import learning_rate
from core.training.step import Updater
from core.training.validation import Validator
from core.training.watch import OTHERS_PATIENCE_SECONDS, PATIENCE_SECONDS, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from core.config import Config
    from core.data.domain import Domain
    from core.training.adding import Addition

LOG_STEPS = 10
OUT_OF_TIME = "minutes"  # the reason to stop that leaves time for a validation
SLOW_SECONDS = PATIENCE_SECONDS / 2  # of an update; the next may be too long to wait for


@dataclass(frozen=True)
class TrainingResult:
    """How a call of `train` ended.

    Attributes:
        step: Updates done since the run began.
        model: The model file; there is none yet where training stopped in the first update.
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
    leave: Callable[[Callable[[], TrainingResult]], None] | None = None,
    device: str = "auto",
    addition: Addition | None = None,
    parent: Path | None = None,
) -> TrainingResult:
    """Train, or continue, a run.

    Args:
        config: The configuration.
        domains: Prepared domains.
        run: The run's folder.
        reporter: Told of progress.
        max_minutes: Stop, validate and save before so long is over.
        should_stop: Asked after each update; a reason to stop, or None. With `leave`, another
            thread asks too.
        leave: Ends the process, from another thread, where an update or a validation takes too
            long to be waited for after a request to stop. What it is given saves the last
            finished update. None waits.
        device: "auto" for what `accelerate` finds, or "cpu".
        addition: A domain to be added to a trained model; `domains` is then this one. None
            trains all of a new model.
        parent: A trained model that the new one begins with; None for random weights.

    Raises:
        UsageError: The run was started with another configuration or other data.
        DataError: The data does not fit the configuration.
        TrainingError: The loss or a gradient is not finite, or a file cannot be written.
    """
    _share_threads()
    # Apple's GPUs, which accelerate would take, have no float64: neither family runs on them.
    accelerator = Accelerator(cpu=device == "cpu" or torch.backends.mps.is_available())
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise UsageError(
            f"mixed precision {accelerator.mixed_precision} would need loss scaling; training "
            "takes no or bf16 (accelerate launch --mixed_precision)"
        )
    if not accelerator.is_main_process:
        loop = _Loop(config, domains, run, accelerator, addition=addition, parent=parent)
        return loop.train(max_minutes, should_stop, leave)
    with locked(run), reading(domains):
        loop = _Loop(config, domains, run, accelerator, reporter, addition=addition, parent=parent)
        # Only now that the data fits: a failed start must not bind the run to its options.
        check_same_run(run, config, domains, loop.lineage)
        return loop.train(max_minutes, should_stop, leave)


class _Loop:
    """One call's state: the model, its optimizers and where it stands."""

    def __init__(
        self,
        config: Config,
        domains: Sequence[Domain],
        run: Path,
        accelerator: Accelerator,
        reporter: Reporter | None = None,
        *,
        addition: Addition | None = None,
        parent: Path | None = None,
    ) -> None:
        self.config, self.run, self.reporter = config, run, reporter or Reporter()
        self.accelerator = accelerator
        domains = sorted(domains, key=lambda domain: domain.name)  # as the model's ids are
        self.model = first_model(config, domains, addition, parent).to(accelerator.device)
        self.lineage = lineage_of(addition, parent)
        self.is_addition = addition is not None
        # An encoder that no longer adapts must hear what it will hear when it is used.
        level_db = self.model.level_db if addition else None
        segments = [
            Segments(
                domain,
                "train",
                sample_rate=config.model.sample_rate,
                length=config.segment_length,
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
        self.validator = Validator(self.model, domains, level_db)
        self.minutes = {
            domain.name: {
                split: round(domain.minutes(split), 2) for split in ("train", "validation", "test")
            }
            for domain in domains
        }
        self.step = 0
        self.seconds = 0.0
        self.figures: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.is_due = False  # whether this step's validation is still to be made
        self.keeping_seconds: float | None = None  # of the last validation, with what follows it
        self.meter = Meter()
        self.saver = Saver(run, {"minutes": self.minutes, **self.lineage})

    def train(
        self,
        max_minutes: float | None,
        should_stop: Callable[[], str | None],
        leave: Callable[[Callable[[], TrainingResult]], None] | None,
    ) -> TrainingResult:
        """Continue from the newest checkpoint until there is a reason to stop."""
        self._restore()
        self._notice(self._expectations())
        log = Log(self.run, self.step) if self.accelerator.is_main_process else None
        watch = nullcontext() if leave is None else self._watched(should_stop, leave)
        try:
            with watch:
                stopped_by = self._train(log, max_minutes, should_stop)
        finally:
            if log is not None:
                log.close()
        return self._result(stopped_by)

    def _train(
        self, log: Log | None, max_minutes: float | None, should_stop: Callable[[], str | None]
    ) -> str:
        """Make the updates that are left, or some; return why they ended."""
        began = time.monotonic() - self.seconds
        called, first = time.monotonic(), self.step
        is_main = self.accelerator.is_main_process
        self._keep(log, None)  # what was stopped before its validation
        steps = range(self.step, self.config.training.steps)
        on_gpu = self.accelerator.device.type == "cuda"
        batches = load_batches(self.batches, steps, on_gpu=on_gpu)
        self.meter.start(self.step)
        try:
            for batch in self.meter.timed(batches):
                started = time.monotonic()
                losses = self.updater.update(batch, self.step)
                update_seconds = time.monotonic() - started
                self.step += 1
                self.seconds = time.monotonic() - began
                self.meter.add(losses)
                if self.step == first + 1:
                    self._notice(self._expected_duration(update_seconds))
                if self.step % LOG_STEPS == 0 or self.step == self.config.training.steps:
                    self._log_losses(log)
                reason = should_stop()
                if max_minutes is not None and is_main:
                    left = 60 * max_minutes - (time.monotonic() - called)
                    # A GPU's first one compiles, and tells nothing of those to come.
                    usual = 0.0 if on_gpu and self.step == first + 1 else update_seconds
                    if left < usual + self._seconds_to_keep(usual):
                        reason = reason or OUT_OF_TIME
                reason = self._agreed(reason)
                self.is_due = self._is_validated_here(reason)
                self._make_spare(is_slow=update_seconds > SLOW_SECONDS)
                self._keep(log, reason)
                if reason is not None:
                    return reason
        finally:
            # Now, and not when nobody refers to it any more: this process could not end before
            # its workers, which heed no signal.
            batches.close()
        return "steps"

    def _result(self, stopped_by: str) -> TrainingResult:
        is_main = self.accelerator.is_main_process
        return TrainingResult(self.step, self.run / MODEL_FILE, stopped_by, is_main)

    def _notice(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.reporter.notice(line)

    def _expectations(self) -> Iterator[str]:
        if self.is_addition:
            yield expectations.of_addition(self.lineage)
        elif self.lineage:
            yield expectations.of_parent(self.lineage, self.model.domains)
        if not self.is_addition and not self.updater.has_confusion:
            yield expectations.of_one_domain(self.model.domains[0])
        for name in self.validator.without_validation:
            yield f"{name} has no validation audio: no held-out figure for it"
        minutes = {name: held["train"] for name, held in self.minutes.items()}
        yield from expectations.of_minutes(minutes)
        if not self._has_trained_decoders():
            yield from expectations.of_steps(self.config.training.steps, self.batches)

    def _has_trained_decoders(self) -> bool:
        """Tell whether all decoders that learn sounded like something from the start."""
        if self.is_addition:
            return bool(self.lineage["like"])
        known = self.lineage["parent"]["domains"] if self.lineage else ()
        return set(self.model.domains) <= set(known)

    def _expected_duration(self, seconds_per_update: float) -> Iterator[str]:
        seconds_left = (self.config.training.steps - self.step) * seconds_per_update
        return expectations.of_duration(self.config, seconds_left, is_free=not self.lineage)

    def _seconds_to_keep(self, update_seconds: float) -> float:
        """Return how long a validation will take: as the last one, or as training does."""
        if self.keeping_seconds is not None:
            return self.keeping_seconds
        training = self.config.training
        n_items = len(self.validator.batches) * training.validation_items
        one_process: float = update_seconds * self.accelerator.num_processes
        return one_process * n_items / training.batch_size

    def _agreed(self, reason: str | None) -> str | None:
        """Return the first reason to stop of all processes."""
        if self.accelerator.num_processes == 1:
            return reason
        from accelerate.utils import gather_object

        reasons = [found for found in gather_object([reason]) if found]
        return reasons[0] if reasons else None

    def _log_losses(self, log: Log | None) -> None:
        training = self.config.training
        speed = self.meter.take(self.step, steps=training.steps, batch_size=training.batch_size)
        if log is not None:
            record = {
                "step": self.step,
                **speed,
                "learning_rate": learning_rate(training, self.step - 1),
                "seconds": self.seconds,
            }
            log.write(record)
            self.reporter.progress(record)

    def _is_validated_here(self, reason: str | None) -> bool:
        training = self.config.training
        is_last = reason == OUT_OF_TIME or self.step == training.steps
        return is_last or self.step % training.validate_steps == 0

    def _keep(self, log: Log | None, reason: str | None) -> None:
        """Save where a validation is due or training stops.

        Somebody who asks to stop waits for the checkpoint only: a validation that is due is
        made when the run goes on.
        """
        validates = self.is_due and reason in (None, OUT_OF_TIME)
        if log is None or not (validates or reason):
            return
        self._check_weights()
        began = time.monotonic()
        figures = self.validator.figures() if validates else self.figures
        record = {"step": self.step, **figures}
        with self.saver.lock:
            is_best = False
            if validates:
                self.figures, self.is_due = figures, False
                is_best = self._is_best()
                log.write(record)
            self.saver.save(self.model, self._state(), is_best=is_best)
        if validates:
            self.reporter.validated(record, self.validator.baselines)
            self._notice(self.validator.advice(self.figures))
            sounds = self.validator.examples(self.step)
            log.write_sounds(sounds, step=self.step, sample_rate=self.model.sample_rate)
            self.keeping_seconds = time.monotonic() - began
        log.flush()

    def _make_spare(self, *, is_slow: bool) -> None:
        """Copy the state before what may take longer than somebody who asks to stop should wait."""
        spare = None
        if self.accelerator.is_main_process and (is_slow or self.is_due):
            self._check_weights()
            spare = self.model, self._state()
        self.saver.copy(spare)

    def _check_weights(self) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in self.model.parameters()):
            raise diverged(f"weights are not finite after step {self.step}")

    def _is_best(self) -> bool:
        """Tell whether the figures are better than all before, and remember them if so."""
        heldout = [value for name, value in self.figures.items() if name.startswith("validation/")]
        if not heldout:
            return False
        figure = sum(heldout) / len(heldout)
        if self.best and figure >= self.best["figure"]:
            return False
        self.best = {"step": self.step, "figure": figure}
        return True

    def _watched(
        self,
        should_stop: Callable[[], str | None],
        leave: Callable[[Callable[[], TrainingResult]], None],
    ) -> AbstractContextManager[None]:
        """Give the loop some time to heed a request to stop, then leave it where it is."""
        is_main = self.accelerator.is_main_process

        def save(reason: str) -> TrainingResult:
            self.saver.save_spare()
            return replace(self._result(reason), step=self.saver.step)

        def save_and_leave(reason: str) -> None:
            # Without a spare updates are quick: the loop will stop by itself.
            if not is_main or self.saver.seize(self.step):
                leave(lambda: save(reason))

        seconds = PATIENCE_SECONDS if is_main else OTHERS_PATIENCE_SECONDS
        return watched(should_stop, save_and_leave, seconds=seconds)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "figures": self.figures,
            "best": self.best,
            "is_due": self.is_due,
            "losses": self.meter.values,
            "model": self.model.state_dict(),
            **self.updater.state_dict(),
        }

    def _restore(self) -> None:
        state = load_newest(self.run / "checkpoints", self.reporter.notice)
        if state is not None:
            self.step, self.seconds = state["step"], state["seconds"]
            self.saver.step = self.step
            self.is_due = state.get("is_due", False)  # earlier versions saved after it
            self.figures, self.best = state["figures"], state["best"]
            self.meter.values = state["losses"]
            self.model.load_state_dict(state["model"])
            self.updater.load_state_dict(state)
            self.reporter.notice(f"continuing {self.run} at step {self.step}")


def _share_threads() -> None:
    """Use this process's share of the cores; `accelerate launch` would leave it one."""
    torch.set_num_threads(own_cores())
