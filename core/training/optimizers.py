"""Optimizers, and one step of them over all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from core.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accelerate import Accelerator

    from core.config import TrainingConfig


def adam(modules: Iterable[nn.Module], training: TrainingConfig) -> torch.optim.AdamW:
    """Return Adam, with decoupled weight decay, over what is not frozen of some modules."""
    parameters = [
        parameter
        for module in modules
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    return torch.optim.AdamW(
        parameters,
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
        fused=True,  # four times faster than tensor by tensor, on a CPU too
    )


def apply_gradients(
    optimizer: torch.optim.Optimizer, accelerator: Accelerator, training: TrainingConfig
) -> None:
    """Average gradients over processes, limit them, and step.

    Only parameters with a gradient take part: a decoder whose turn it is not keeps None,
    which Adam skips, so that it does not drift by its momentum.

    Raises:
        TrainingError: A gradient is not finite; no weight was moved.
    """
    with_gradient = [
        parameter
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    if accelerator.num_processes > 1:
        flat = torch.cat([parameter.grad.flatten() for parameter in with_gradient])
        flat = accelerator.reduce(flat, "mean")
        sizes = [parameter.numel() for parameter in with_gradient]
        for parameter, mean in zip(with_gradient, flat.split(sizes), strict=True):
            parameter.grad = mean.view_as(parameter)
    # Adam would carry it into every later step, and the checkpoints with it.
    if not nn.utils.get_total_norm([parameter.grad for parameter in with_gradient]).isfinite():
        raise diverged("gradients are not finite")
    if training.clip_value:
        nn.utils.clip_grad_value_(with_gradient, training.clip_value)
    if training.clip_norm:
        nn.utils.clip_grad_norm_(with_gradient, training.clip_norm)
    optimizer.step()


def diverged(what: str) -> TrainingError:
    """Return the error of a run whose numbers are no longer finite."""
    return TrainingError(
        f"{what}; the last checkpoint is unharmed: lower training.learning_rate and start "
        "a new --run"
    )
