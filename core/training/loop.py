"""The training loop: a run from its start, or its newest checkpoint, to its end.

In: prepared domains and a configuration. Out: a run's folder with checkpoints, a log and
`model.safetensors`. What one update does is in `core.training.update`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from core.data.dataset import Batches, Segments
from core.errors import DataError, TrainingError, UsageError
from core.model import Translator
from core.modelfile import MODEL_FILE
from core.training import expectations
from core.training.adding import check_addition, extended_model, lineage
from core.training.checkpoint import load_newest, save_checkpoint
from core.training.loading import load_batches, own_cores
from core.training.log import Log, Meter
from core.training.optimizers import diverged
from core.training.parent import ancestry, descendant
from core.training.reporter import Reporter
from core.training.run import BEST_FILE, check_same_run, locked
from core.training.schedule import learning_rate
from core.training.update import Updater
from core.training.validation import Validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from core.config import Config
    from core.data.domain import Domain
    from core.training.adding import Addition

LOG_STEPS = 10
OUT_OF_TIME = "minutes"  # the reason to stop that leaves time for a validation


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
    parent: Path | None = None,
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
        parent: A trained model that the new one begins with; None for random weights.

    Raises:
        UsageError: The run was started with another configuration or other data.
        DataError: The data does not fit the configuration.
        TrainingError: The loss or a gradient is not finite, or a file cannot be written.
    """
    _share_threads()
    accelerator = Accelerator(cpu=device == "cpu")
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise UsageError(
            f"mixed precision {accelerator.mixed_precision} would need loss scaling; training "
            "takes no or bf16 (accelerate launch --mixed_precision)"
        )
    if not accelerator.is_main_process:
        loop = _Loop(config, domains, run, accelerator, addition=addition, parent=parent)
        return loop.train(max_minutes, should_stop)
    with locked(run):
        loop = _Loop(config, domains, run, accelerator, reporter, addition=addition, parent=parent)
        # Only now that the data fits: a failed start must not bind the run to its options.
        check_same_run(run, config, domains, loop.lineage)
        return loop.train(max_minutes, should_stop)


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
        self.model = _build_model(config, domains, addition, parent).to(accelerator.device)
        self.lineage = lineage(addition) if addition else ancestry(parent) if parent else {}
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
        self.meter = Meter()

    def train(
        self, max_minutes: float | None, should_stop: Callable[[], str | None]
    ) -> TrainingResult:
        """Continue from the newest checkpoint until there is a reason to stop."""
        self._restore()
        self._notice(self._expectations())
        stopped_by = "steps"
        is_main = self.accelerator.is_main_process
        log = Log(self.run, self.step) if is_main else None
        began = time.monotonic() - self.seconds
        called, first = time.monotonic(), self.step
        steps = range(self.step, self.config.training.steps)
        on_gpu = self.accelerator.device.type == "cuda"
        batches = load_batches(self.batches, steps, on_gpu=on_gpu)
        self.meter.start(self.step)
        try:
            for batch in self.meter.timed(batches):
                losses = self.updater.update(batch, self.step)
                self.step += 1
                self.seconds = time.monotonic() - began
                self.meter.add(losses)
                if self.step == first + 1:
                    self._notice(self._expected_duration(time.monotonic() - called))
                if self.step % LOG_STEPS == 0 or self.step == self.config.training.steps:
                    self._log_losses(log)
                reason = self._reason_to_stop(should_stop, called, max_minutes)
                self._keep(log, reason)
                if reason is not None:
                    stopped_by = reason
                    break
        finally:
            # Now, and not when nobody refers to it any more: this process could not end before
            # its workers, which heed no signal.
            batches.close()
            if log is not None:
                log.close()
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

    def _keep(self, log: Log | None, reason: str | None) -> None:
        """Save where a validation is due or training stops.

        Somebody who asks to stop waits for the checkpoint only, not for a validation that
        is not due, nor for examples.
        """
        training = self.config.training
        is_due = reason == OUT_OF_TIME or self.step == training.steps
        is_due = is_due or self.step % training.validate_steps == 0
        if log is None or not (is_due or reason):
            return
        if not all(bool(tensor.isfinite().all()) for tensor in self.model.parameters()):
            raise diverged(f"weights are not finite after step {self.step}")
        if is_due:
            self.figures = self.validator.figures()
            record = {"step": self.step, **self.figures}
            log.write(record)
        is_best = is_due and self._is_best()
        self._save_model(MODEL_FILE)
        if is_best:
            self._save_model(BEST_FILE)
        save_checkpoint(self.run / "checkpoints", self.step, self._state())
        if is_due:
            self.reporter.validated(record, self.validator.yardsticks)
            self._notice(self.validator.advice(self.figures))
        if is_due and reason in (None, OUT_OF_TIME):
            sounds = self.validator.examples(self.step)
            log.write_sounds(sounds, step=self.step, sample_rate=self.model.sample_rate)
        log.flush()

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

    def _save_model(self, name: str) -> None:
        self.model.training_record = {
            "steps": self.step,
            "seconds": round(self.seconds),
            "minutes": self.minutes,
            "figures": self.figures,
            "best": self.best,
            **self.lineage,
        }
        try:
            self.model.save(self.run / name)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{self.run}: cannot save the model: {error}") from error

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "figures": self.figures,
            "best": self.best,
            "losses": self.meter.values,
            "model": self.model.state_dict(),
            **self.updater.state_dict(),
        }

    def _restore(self) -> None:
        state = load_newest(self.run / "checkpoints", self.reporter.notice)
        if state is not None:
            self.step, self.seconds = state["step"], state["seconds"]
            self.figures, self.best = state["figures"], state["best"]
            self.meter.values = state["losses"]
            self.model.load_state_dict(state["model"])
            self.updater.load_state_dict(state)
            self.reporter.notice(f"continuing {self.run} at step {self.step}")


def _build_model(
    config: Config, domains: Sequence[Domain], addition: Addition | None, parent: Path | None
) -> Translator:
    if addition is not None:
        check_addition(addition, config)
        return extended_model(addition, config)
    names = [domain.name for domain in domains]
    if parent is not None:
        model = descendant(parent, config, names)
    else:
        model = Translator.create(config, names, seed=config.training.seed)
    model.level_db = _mean_level_db(domains)
    return model


def _mean_level_db(domains: Sequence[Domain]) -> float:
    levels = [track.level_db for domain in domains for track in domain.tracks]
    if not levels:
        raise DataError("no prepared recordings")
    return sum(levels) / len(levels)


def _share_threads() -> None:
    """Use this process's share of the cores; `accelerate launch` would leave it one."""
    torch.set_num_threads(own_cores())
