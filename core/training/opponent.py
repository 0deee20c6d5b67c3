"""A family's adversary in training: its own step, and its term in the decoders' loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from core.errors import UsageError
from core.families import get_family
from core.training.optimizers import adam, apply_gradients

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from accelerate import Accelerator

    from core.families.base import Adversary, Reconstruction
    from core.translator import Translator


class Opponent:
    """The adversary of a model's decoders with its optimizer.

    Attributes:
        adversary: The networks; no part of the model that is saved.
        optimizer: Theirs.
    """

    def __init__(self, model: Translator, adversary: Adversary, accelerator: Accelerator) -> None:
        self.training, self.accelerator = model.config.training, accelerator
        self.adversary = adversary.to(accelerator.device)
        self.optimizer = adam([self.adversary], self.training)

    @classmethod
    def of(cls, model: Translator, accelerator: Accelerator) -> Self | None:
        """Return the opponent of a model, None where the configuration wants none.

        Raises:
            UsageError: It wants one, and the family has none, or an update has several parts.
        """
        config = model.config
        if not config.training.adversarial_weight:
            return None
        build = get_family(config.model.family).adversary
        if build is None:
            raise UsageError(
                f"[training] adversarial_weight = {config.training.adversarial_weight:g}: expected "
                f"0, because the family {config.model.family} has no adversary"
            )
        if config.training.accumulate > 1:
            raise UsageError(
                f"[training] accumulate = {config.training.accumulate}: expected 1, because the "
                "adversary is trained once an update"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.training.seed)
            adversary = build(config.model, len(model.domains))
        return cls(model, adversary, accelerator)

    def train(
        self, made: Sequence[Reconstruction], original: Tensor, domain_ids: Sequence[int]
    ) -> dict[str, float]:
        """Do the adversary's step.

        Args:
            made: What the batch's decoders made; only their output counts, without gradient.
            original: Recordings, float [groups, items, T].
            domain_ids: One a group.

        Returns:
            Its loss, for the log.
        """
        losses = [
            self.adversary.loss(output.detach(), recorded, domain_id)
            for output, recorded, domain_id in _groups(made, original, domain_ids)
        ]
        loss = torch.stack(losses).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        apply_gradients(self.optimizer, self.accelerator, self.training)
        return {"adversary/loss": float(loss.detach())}

    def opposing_loss(
        self, made: Sequence[Reconstruction], original: Tensor, domain_ids: Sequence[int]
    ) -> Tensor:
        """Return the weighted term of the decoders' loss; arguments as for `train`."""
        self.adversary.requires_grad_(requires_grad=False)
        losses = [
            self.adversary.opposing_loss(output, recorded, domain_id)
            for output, recorded, domain_id in _groups(made, original, domain_ids)
        ]
        self.adversary.requires_grad_(requires_grad=True)
        return self.training.adversarial_weight * torch.stack(losses).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return networks and optimizer, for a checkpoint."""
        return {"adversary": self.adversary.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.adversary.load_state_dict(state["adversary"])
        self.optimizer.load_state_dict(state["optimizer"])


def _groups(
    made: Sequence[Reconstruction], original: Tensor, domain_ids: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor, int]]:
    for one, recorded, domain_id in zip(made, original, domain_ids, strict=True):
        assert one.output is not None, "a family with an adversary gives it output"
        yield one.output, recorded, domain_id
