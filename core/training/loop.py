"""The training loop: a run from its start, or its newest checkpoint, to its end.

In: prepared domains and a configuration. Out: a run's folder with checkpoints, a log and
`model.safetensors`. One update is in `core.training.step`, the folder in
`core.training.run_directory`.

A request to stop is looked for where nothing is half done: after an update, between the parts of
an accumulated update (which is then dropped), and between the segments of a validation (which is
then made when the run goes on). What is saved is always the last finished update.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from core.data.dataset import Batches, Segments
from core.data.domain import SPLITS
from core.data.loader import load_batches
from core.data.samples import reading
from core.devices import resolve_device
from core.errors import UsageError
from core.training.logging import (
    Meter,
    Reporter,
    RunLog,
    describe_warm_start,
    warn_of_duration,
    warn_of_minutes,
    warn_of_updates,
)
from core.training.model_card import CARD_FILE
from core.training.optimizers import diverged, learning_rate
from core.training.ranges import heard_ranges, score_range
from core.training.run_directory import RunDirectory, RunProgress
from core.training.step import Updater
from core.training.trackers import TENSORBOARD, check_tracker, open_tracker
from core.training.validation import Validator
from core.training.warm_start import inherited_updates, initial_model, lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from core.config import Config
    from core.data.domain import Domain
    from core.key_range import KeyRange
    from core.training.warm_start import WarmStart

LOG_STEPS = 10
OUT_OF_STEPS = "steps"  # reasons to stop of the loop's own
OUT_OF_TIME = "minutes"


@dataclass(frozen=True)
class TrainingResult:
    """How a call of `train` ended.

    Attributes:
        step: Updates done since the run began.
        model: The model file; there is none yet where training stopped in the first update.
        stopped_by: `steps`, `minutes`, or what `should_stop` returned.
        is_main: Whether this is the first of the processes, the one that reports.
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
    warm_start: WarmStart | None = None,
    log_with: str = TENSORBOARD,
) -> TrainingResult:
    """Train, or continue, a run.

    Args:
        config: The configuration.
        domains: Prepared domains; where the warm start adds a domain, that one alone.
        run: The run's folder.
        reporter: Shows notices, progress and validations.
        max_minutes: Stop, validate and save before so long is over.
        should_stop: Called often; returns a reason to save and stop, or None.
        device: "auto" for what `accelerate` finds, or "cpu".
        warm_start: A trained model that the run begins with; None for random weights.
        log_with: One of `core.training.trackers.TRACKERS`.

    Raises:
        UsageError: The run was started with another configuration or other data, or the tracker
            is not installed.
        DataError: The data does not fit the configuration.
        TrainingError: The loss or a gradient is not finite, or a file cannot be written.
    """
    check_tracker(log_with)
    # Said outright also where there is no GPU: accelerate would not join the processes otherwise,
    # and would take Apple's GPUs, which have no float64.
    accelerator = Accelerator(cpu=resolve_device(device) == "cpu")
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise UsageError(
            f"mixed precision {accelerator.mixed_precision} would need loss scaling; training "
            "takes no or bf16 (accelerate launch --mixed_precision)"
        )
    is_main = accelerator.is_main_process
    reporter = reporter if is_main else Reporter()
    directory = RunDirectory(run)
    with directory.locked() if is_main else nullcontext(), reading(domains):
        trainer = Trainer(
            *(config, domains, directory),
            accelerator=accelerator,
            reporter=reporter,
            should_stop=should_stop,
            warm_start=warm_start,
        )
        if is_main:
            # Only now that the data fits: a failed start must not bind the run to its options.
            directory.check(config, domains, trainer.lineage)
        if directory.restore(trainer.load_state_dict, reporter.notice):
            reporter.notice(f"continuing {run} at step {trainer.progress.step}")
        with ExitStack() as stack:
            log = None
            if is_main:
                facts = {**config.to_dict(), "minutes": trainer.minutes, **trainer.lineage}
                step = trainer.progress.step
                tracker = open_tracker(log_with, directory, facts, step=step)
                log = stack.enter_context(closing(RunLog(run, step, tracker)))
            stopped_by = trainer.train(log, max_minutes)
    return TrainingResult(trainer.progress.step, directory.model, stopped_by, is_main)


class _Stopped(Exception):  # noqa: N818 - not an error
    """Training is to stop; the argument is the reason."""


class Trainer:
    """A run in this process: model, data and optimizers, and how far it has come."""

    def __init__(
        self,
        config: Config,
        domains: Sequence[Domain],
        directory: RunDirectory,
        *,
        accelerator: Accelerator,
        reporter: Reporter,
        should_stop: Callable[[], str | None] = lambda: None,
        warm_start: WarmStart | None = None,
    ) -> None:
        self.config, self.directory = config, directory
        self.accelerator, self.reporter, self.should_stop = accelerator, reporter, should_stop
        domains = sorted(domains, key=lambda domain: domain.name)  # as the model's ids are
        self.model = initial_model(config, domains, warm_start).to(accelerator.device)
        self.lineage = lineage(warm_start)
        self.inherited_updates = inherited_updates(warm_start)
        # A frozen encoder must be trained with on the level that it will be used with.
        level_db = self.level_db = self.model.level_db if "added" in self.lineage else None
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
            domain.name: {split: round(domain.minutes(split), 2) for split in SPLITS}
            for domain in domains
        }
        self.recordings = {
            domain.name: {split: domain.n_tracks(split) for split in SPLITS} for domain in domains
        }
        self.unscored: list[Domain] = []  # whose ranges the encoder has to find
        self.progress = RunProgress(ranges=self._score_ranges(domains))
        self.saved_step = 0
        self.is_page_edited = False
        self.meter = Meter()
        self.update_seconds: float | None = None  # of the last update
        self.validation_seconds: float | None = None  # of the last one, with what goes with it

    def train(self, log: RunLog | None, max_minutes: float | None = None) -> str:
        """Make the updates that are left until there is a reason to stop; return it.

        Args:
            log: The first process's log; None on the others, which do not save.
            max_minutes: As for `train`.
        """
        progress, steps = self.progress, self.config.training.steps
        first, began = progress.step, time.monotonic() - progress.seconds
        deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
        on_gpu = self.accelerator.device.type == "cuda"
        stopped_by = OUT_OF_STEPS
        self._notice(self._start_notices())
        with load_batches(self.batches, range(first, steps), on_gpu=on_gpu) as batches:
            try:
                self._validate_if_due(log)  # what was put off when the run was stopped
                self.meter.start(first)
                for batch in self.meter.timed(batches):
                    started = time.monotonic()
                    losses = self.updater.update(batch, progress.step, self._check_stop)
                    seconds = time.monotonic() - started
                    progress.step += 1
                    progress.seconds = time.monotonic() - began
                    time_left = deadline - time.monotonic()
                    # A GPU's first update compiles, and predicts nothing.
                    if not on_gpu or progress.step > first + 1:
                        self._note_speed(seconds, time_left)
                    self._log_losses(log, losses, time_left)
                    reason = self._reason_to_stop(time_left)
                    progress.is_due = (
                        reason == OUT_OF_TIME
                        or progress.step == steps
                        or progress.step % self.config.training.validate_steps == 0
                    )
                    if reason in (None, OUT_OF_TIME):
                        self._validate_if_due(log)
                    if reason is not None:
                        stopped_by = reason
                        break
            except _Stopped as stop:
                stopped_by = str(stop)
            if log is not None and progress.step != self.saved_step:
                self._save()
        if stopped_by != OUT_OF_STEPS:  # else it was known at the start
            self._notice(self._warn_of_updates("stopped after {step} steps", progress.step))
        return stopped_by

    def _check_stop(self) -> None:
        """Raise `_Stopped` in all processes if there is a reason to stop in one."""
        if (reason := self._agreed(self.should_stop())) is not None:
            raise _Stopped(reason)

    def _reason_to_stop(self, time_left: float) -> str | None:
        """Return why training ends after this update, the same in all processes, or None."""
        needed = self.update_seconds or 0.0
        needed += self._validation_estimate(needed)
        is_over = time_left < needed and self.progress.step < self.config.training.steps
        return self._agreed(self.should_stop() or (OUT_OF_TIME if is_over else None))

    def _agreed(self, reason: str | None) -> str | None:
        """Return the first reason to stop of all processes, on each of them."""
        if self.accelerator.num_processes == 1:
            return reason
        reasons = [found for found in gather_object([reason]) if found]
        return reasons[0] if reasons else None

    def _validate_if_due(self, log: RunLog | None) -> None:
        """Validate and save in the first process; a request to stop puts it off."""
        if not self.progress.is_due:
            return
        if log is None:
            self.progress.is_due = False
        else:
            self._validate(log)
        self._check_stop()  # the request may have reached the first process alone

    def _validate(self, log: RunLog) -> None:
        """Measure, save and show the model; a request to stop puts it off."""

        def check_stop() -> None:
            if (reason := self.should_stop()) is not None:
                raise _Stopped(reason)

        progress, began = self.progress, time.monotonic()
        self._check_weights()
        try:
            figures = self.validator.figures(check_stop)
        except _Stopped:
            return
        progress.figures, progress.is_due = figures, False
        self._find_ranges()
        record = {"step": progress.step, **figures}
        log.write(record)
        self._save(is_best=progress.is_best())
        self.reporter.validated(record, self.validator.baselines)
        self._notice(self.validator.warnings(figures))
        sounds = self.validator.examples(progress.step)
        log.write_sounds(sounds, step=progress.step, sample_rate=self.model.sample_rate)
        log.flush()
        self.validation_seconds = time.monotonic() - began

    def _score_ranges(self, domains: Iterable[Domain]) -> dict[str, KeyRange]:
        """Return the ranges that follow from scores, and remember the other domains."""
        if self.model.family_description.notes is None:
            return {}
        found = {domain.name: score_range(domain) for domain in domains}
        self.unscored = [domain for domain in domains if found[domain.name] is None]
        return {name: keys for name, keys in found.items() if keys is not None}

    def _find_ranges(self) -> None:
        """Let the encoder find the other ranges: once, and again when it is trained."""
        ranges = self.progress.ranges
        is_last = self.progress.step == self.config.training.steps
        lacking = [own for own in self.unscored if is_last or own.name not in ranges]
        ranges |= heard_ranges(self.model, lacking, self.level_db)

    def _validation_estimate(self, update_seconds: float) -> float:
        """Return how long a validation will take: as the last one, or as training does."""
        if self.validation_seconds is not None:
            return self.validation_seconds
        training = self.config.training
        n_items = len(self.validator.batches) * training.validation_items
        one_process: float = update_seconds * self.accelerator.num_processes
        return one_process * n_items / training.batch_size

    def _save(self, *, is_best: bool = False) -> None:
        progress = self.progress
        self._check_weights()
        progress.losses = self.meter.values
        self.model.training_record = self.training_record()
        self.model.ranges = {**self.model.ranges, **progress.ranges}
        is_described = self.directory.save(self.model, progress, self.state_dict(), is_best=is_best)
        self.saved_step = progress.step
        if not is_described and not self.is_page_edited:
            self.is_page_edited = True
            self.reporter.notice(
                f"{self.directory.path / CARD_FILE} was edited, and stays as it is: its figures "
                "may be of an earlier step"
            )

    def _check_weights(self) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in self.model.parameters()):
            raise diverged(f"weights are not finite after step {self.progress.step}")

    def training_record(self) -> dict[str, Any]:
        """Return where the weights come from; `core.model_file` describes it."""
        progress = self.progress
        return {
            "steps": progress.step,
            "seconds": round(progress.seconds),
            "updates": self._decoder_updates(progress.step),
            "figures": progress.figures,
            "baselines": self.validator.baselines,
            "best": progress.best,
            "minutes": self.minutes,
            "recordings": self.recordings,
            **self.lineage,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return weights and optimizers, for a checkpoint."""
        return {"model": self.model.state_dict(), **self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint: what `state_dict` returned, and the progress.

        Raises:
            Exception: Of many kinds, where it is not of this run.
        """
        progress = RunProgress.from_checkpoint(state)
        self.model.load_state_dict(state["model"])
        self.updater.load_state_dict(state)
        # Earlier versions stored no ranges; those of scores are known already.
        progress.ranges = self.progress.ranges | progress.ranges
        self.progress, self.saved_step = progress, progress.step
        self.meter.values = progress.losses

    def _note_speed(self, update_seconds: float, time_left: float) -> None:
        """Remember how long an update takes, and say what follows from the first one's time."""
        is_first, self.update_seconds = self.update_seconds is None, update_seconds
        if is_first:
            self._notice(self._speed_notices(update_seconds, time_left))

    def _log_losses(
        self, log: RunLog | None, losses: Mapping[str, float], time_left: float
    ) -> None:
        """Collect an update's losses, and log and show their means every few updates."""
        step, training = self.progress.step, self.config.training
        self.meter.add(losses)
        if step % LOG_STEPS and step != training.steps:
            return
        means = self.meter.take(
            step, steps=training.steps, batch_size=training.batch_size, time_limit=time_left
        )
        if log is not None:
            record = {
                "step": step,
                **means,
                "learning_rate": learning_rate(training, step - 1),
                "seconds": self.progress.seconds,
            }
            log.write(record)
            self.reporter.progress(record)

    def _decoder_updates(self, step: int) -> dict[str, int]:
        """Return how many updates each decoder has had after a step, in all its runs."""
        own = self.batches.n_updates(step)
        inherited = self.inherited_updates
        known = [name for name in inherited if name in self.model.domains]
        return {
            name: inherited.get(name, 0) + own.get(name, 0)
            for name in dict.fromkeys([*known, *own])
        }

    def _notice(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.reporter.notice(line)

    def _start_notices(self) -> Iterator[str]:
        if self.lineage:
            yield describe_warm_start(self.lineage, self.model.domains)
        if "added" not in self.lineage and not self.updater.has_confusion:
            yield f"only one domain ({self.model.domains[0]}): training without the confusion term"
        for name in self.validator.without_validation:
            yield f"{name} has no validation audio: no held-out figure for it"
        yield from warn_of_minutes({name: own["train"] for name, own in self.minutes.items()})
        yield from self._warn_of_updates("{step} steps", self.config.training.steps)

    def _speed_notices(self, update_seconds: float, time_left: float) -> Iterator[str]:
        progress, steps = self.progress, self.config.training.steps
        seconds_left = (steps - progress.step) * update_seconds
        yield from warn_of_duration(self.config, seconds_left, is_free=not self.lineage)
        if time_left < seconds_left:
            fitting = progress.step + max(0, int(time_left / max(update_seconds, 1e-9)))
            yield from self._warn_of_updates("--max-minutes allows about {step} steps", fitting)

    def _warn_of_updates(self, what: str, step: int) -> Iterator[str]:
        updates = self._decoder_updates(step)
        trained = {name: updates[name] for name in self.minutes}
        return warn_of_updates(what.format(step=step), trained)
