"""One update: first the domain classifier, then the encoder and the batch's decoders.

In: a batch and the number of its step. Out: moved weights, and the losses for the log. The
first phase trains the classifier on latents without gradient; the second trains encoder and
decoders against the classifier as it is after that (Mor et al. 2019, sec. 3.2). One encoder
pass serves both phases, unless the update is accumulated from several parts.

An update of several parts may take minutes, so training can be stopped between them. All that
has moved by then is the classifier, of which there is a copy: it is put back, and the weights are
those of the last finished update.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from core.confusion import classifier_loss, confusion_loss
from core.errors import TrainingError, is_out_of_memory
from core.families.noise import noise_of_items
from core.training.optimizers import adam, apply_gradients, diverged, restore_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from accelerate import Accelerator

    from core.config import TrainingConfig
    from core.data.dataset import Batch
    from core.translator import Translator

OF_ENCODER, OF_DECODER = 1, 2  # last numbers of the keys of an item's noise


class Updater:
    """A model's optimizers, and the update that they make together.

    Attributes:
        optimizer: Of the encoder and all decoders, except for what is frozen.
        classifier_optimizer: Of the domain classifier.
        has_confusion: Whether there is a confusion term: not for one domain, nor for a frozen
            encoder.
        has_scores: Whether the encoder learns from scores, where there are some.
    """

    def __init__(self, model: Translator, accelerator: Accelerator) -> None:
        self.model, self.accelerator = model, accelerator
        self.training = model.config.training
        learns = any(parameter.requires_grad for parameter in model.encoder.parameters())
        self.has_confusion = learns and len(model.domains) > 1
        self.has_scores = learns and model.encoder.score_weight > 0
        self.optimizer = adam([model.encoder, model.decoders], self.training)
        self.classifier_optimizer = adam([model.classifier], self.training)

    def update(
        self, batch: Batch, step: int, check_stop: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Do one update.

        Args:
            batch: This process's share.
            step: Updates done before.
            check_stop: Called between the parts of an accumulated update. If it raises, the
                update is dropped: weights and optimizers are as before.

        Returns:
            The losses, and the classifier's accuracy beside chance.

        Raises:
            TrainingError: A loss or a gradient is not finite, which moved no weight of the
                encoder and decoders, or there is too little memory.
        """
        parts = batch.to(self.accelerator.device).split(self.training.accumulate)
        can_drop = len(parts) > 1 and self.has_confusion
        before = copy.deepcopy(self._classifier_state()) if can_drop else None
        try:
            return self._update(parts, step, check_stop if len(parts) > 1 else lambda: None)
        except Exception as error:
            if before is not None:
                self._load_classifier_state(before)
            if not is_out_of_memory(error):
                raise
            raise _too_large(batch, self.training) from error

    def _update(
        self, parts: Sequence[Batch], step: int, check_stop: Callable[[], None]
    ) -> dict[str, float]:
        self.model.train()
        latents = self._encode(parts[0]) if len(parts) == 1 else None
        figures: dict[str, float] = {}
        if self.has_confusion:
            # Detached, or the first phase would go back through the encoder, for nothing.
            frozen = [] if latents is None else [latents.detach()]
            for part in parts if latents is None else ():
                check_stop()
                with torch.no_grad():
                    frozen.append(self._encode(part))
            figures = self._train_classifier(parts, torch.cat(frozen), step)
        # None, not zero: Adam then leaves the decoders of other domains alone.
        self.optimizer.zero_grad(set_to_none=True)
        for part in parts:
            check_stop()
            for name, value in self._add_gradients(part, latents, step).items():
                figures[name] = figures.get(name, 0.0) + value / len(parts)
        apply_gradients(self.optimizer, self.accelerator, self.training, step)
        return figures

    def _encode(self, batch: Batch) -> Tensor:
        """Return the latents of all items, float [B, L, D], group after group."""
        with self.accelerator.autocast(), self._noise(batch.items, OF_ENCODER):
            latents: Tensor = self.model.encoder(batch.source.flatten(0, 1))
        return latents

    def _noise(self, items: Tensor, purpose: int) -> AbstractContextManager[None]:
        # From each item's number, so that losses do not depend on how a batch is shared.
        keys = [[self.training.seed, item, purpose] for item in items.flatten().tolist()]
        return noise_of_items(keys, self.accelerator.device)

    def _ids(self, batch: Batch) -> Tensor:
        """Return the domain of each item, int64 [B]."""
        ids = torch.tensor([self.model.domains.index(name) for name in batch.domains])
        return ids.repeat_interleave(batch.source.shape[1]).to(self.accelerator.device)

    def _train_classifier(
        self, parts: Sequence[Batch], latents: Tensor, step: int
    ) -> dict[str, float]:
        """Do the first phase, on latents without gradient, float [B, L, D]."""
        ids = torch.cat([self._ids(part) for part in parts])
        with self.accelerator.autocast():
            logits = self.model.classifier(latents)
            loss = classifier_loss(logits, ids)
        self.classifier_optimizer.zero_grad(set_to_none=True)
        _backward(loss, step)
        apply_gradients(self.classifier_optimizer, self.accelerator, self.training, step)
        accuracy = (logits.argmax(1) == ids).float().mean()
        return {
            "confusion/loss": float(loss.detach()),
            "confusion/accuracy": float(accuracy),
            "confusion/chance": 1 / len(self.model.domains),
        }

    def _add_gradients(self, part: Batch, latents: Tensor | None, step: int) -> dict[str, float]:
        """Do the second phase of a part except for the step; return its domains' losses."""
        if latents is None:
            # Again, with gradient: to keep all parts' graphs would take the memory of one batch.
            latents = self._encode(part)
        with self.accelerator.autocast():
            losses = self._reconstruction_losses(latents, part)
            total = torch.stack(losses).mean()
            if self.has_confusion:
                total = total + self._confusion_loss(latents, self._ids(part))
            figures = {
                f"loss/{name}": float(loss.detach())
                for name, loss in zip(part.domains, losses, strict=True)
            }
            if self.has_scores:
                loss = self.model.encoder.score_loss(latents, part.score.flatten(0, 1))
                total = total + self.model.encoder.score_weight * loss
                figures["score/loss"] = float(loss.detach())
        _backward(total / self.training.accumulate, step)
        return figures

    def _reconstruction_losses(self, latents: Tensor, batch: Batch) -> list[Tensor]:
        """Return the losses of the batch's decoders, a scalar for each group."""
        losses = []
        target = batch.target
        groups = zip(batch.domains, latents.chunk(len(target)), target, batch.items, strict=True)
        for name, own, wanted, items in groups:
            with self._noise(items, OF_DECODER):
                losses.append(self.model.decoders[name].reconstruction_loss(own, wanted))
        return losses

    def _confusion_loss(self, latents: Tensor, ids: Tensor) -> Tensor:
        # Its gradient is not wanted here, and would take time.
        self.model.classifier.requires_grad_(requires_grad=False)
        loss = confusion_loss(self.model.classifier(latents), ids, self.model.config.confusion)
        self.model.classifier.requires_grad_(requires_grad=True)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizers' states, for a checkpoint."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "classifier_optimizer": self.classifier_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            Exception: Of many kinds, where it belongs to other parameters.
        """
        restore_optimizer(self.optimizer, state["optimizer"])
        restore_optimizer(self.classifier_optimizer, state["classifier_optimizer"])

    def _classifier_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.model.classifier.state_dict(), self.classifier_optimizer.state_dict()

    def _load_classifier_state(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
        self.model.classifier.load_state_dict(state[0])
        self.classifier_optimizer.load_state_dict(state[1])


def _too_large(batch: Batch, training: TrainingConfig) -> TrainingError:
    """Return the error of a batch for which there is not enough memory."""
    n_groups, n_items = batch.items.shape
    parts = training.accumulate
    more = [n for n in range(parts + 1, n_items + 1) if n_items % n == 0]
    if more:
        advice = f"[training] accumulate = {more[0]} in a file for --config works on fewer"
    elif n_items > 1:
        advice = "a smaller --batch-size needs less"
    else:
        advice = "a shorter training.segment_seconds or a smaller preset needs less"
    n_together = n_groups * n_items // parts
    return TrainingError(f"out of memory with {n_together} items at a time; {advice}")


def _backward(loss: Tensor, step: int) -> None:
    """Add a loss's gradients, if it is finite."""
    if not loss.isfinite():
        raise diverged(f"the loss is {float(loss.detach())} at step {step + 1}")
    loss.backward()  # type: ignore[no-untyped-call]
