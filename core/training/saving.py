"""What a run saves: its models and checkpoints, by one thread at a time.

In: a model and the state of a finished update. Out: `model.safetensors`, `best.safetensors` and
a checkpoint in the run's folder. For a stop in the middle of an update there may be a spare: a
copy of the model and state of the update before.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from core.errors import TrainingError
from core.model_file import MODEL_FILE
from core.training.checkpoint import save_checkpoint
from core.training.run_directory import BEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from core.translator import Translator


class Saver:
    """Saves a run's finished updates.

    Args:
        run: The run's folder.
        facts: Of the whole run, for the training record of its models.

    Attributes:
        lock: Held while something is saved or copied; by `seize`, until the process ends.
        step: The last update that was saved, or that a run continues from.
        spare: Model and state of the last update, where they were copied.
    """

    def __init__(self, run: Path, facts: Mapping[str, Any]) -> None:
        self.run, self.facts = run, facts
        self.lock = threading.Lock()
        self.step = 0
        self.spare: tuple[Translator, dict[str, Any]] | None = None

    def save(self, model: Translator, state: dict[str, Any], *, is_best: bool = False) -> None:
        """Write the model file and a checkpoint; the caller holds the lock.

        Args:
            model: Of the state.
            state: Of the run, for the checkpoint; see `save_checkpoint`.
            is_best: Whether the model is the best yet.

        Raises:
            TrainingError: A file cannot be written.
        """
        model.training_record = {
            "steps": state["step"],
            "seconds": round(state["seconds"]),
            "figures": state["figures"],
            "best": state["best"],
            **self.facts,
        }
        try:
            model.save(self.run / MODEL_FILE)
            if is_best:
                model.save(self.run / BEST_FILE)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{self.run}: cannot save the model: {error}") from error
        save_checkpoint(self.run / "checkpoints", state["step"], state)
        self.step, self.spare = state["step"], None

    def copy(self, last: tuple[Translator, dict[str, Any]] | None) -> None:
        """Make the spare, or drop it: an update moves the classifier long before its end.

        Args:
            last: Model and state of the last update; None for no spare.
        """
        with self.lock:
            self.spare = copy.deepcopy(last)

    def seize(self, step: int) -> bool:
        """Take the lock for good if all up to the last update, or a spare, can be kept.

        Args:
            step: The last update.
        """
        self.lock.acquire()
        can_keep = self.spare is not None or self.step == step
        if not can_keep:
            self.lock.release()
        return can_keep

    def save_spare(self) -> None:
        """Save the spare, if there is one; the caller holds the lock.

        Raises:
            TrainingError: A file cannot be written.
        """
        if self.spare is not None:
            self.save(*self.spare)
