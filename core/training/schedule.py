"""The learning rate as a function of the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.config import TrainingConfig


def learning_rate(training: TrainingConfig, step: int) -> float:
    """Return the rate of an update.

    Args:
        training: Schedule and its constants.
        step: Updates done before.
    """
    rate = training.learning_rate
    if training.schedule == "exponential":
        # The paper's "0.98 every 10,000 samples" counts batches in the authors' code.
        return rate * training.decay ** (step // training.decay_steps)
    return rate * max(0.0, 1 - step / training.steps)
