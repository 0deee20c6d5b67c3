"""A running average of weights, which is what a run's model is saved and validated with.

The last weights of a run wander around their goal with each batch; their mean over the last
updates lies nearer to it (Polyak & Juditsky 1992; exponential, as is usual since Tarvainen &
Valpola 2017).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FIRST_UPDATES = 10  # the average is short at first, so that it forgets the initial weights


class Average:
    """An exponential moving average of a module's parameters.

    Args:
        module: Whose parameters; those that are frozen are left out.
        decay: Share of the old average that an update keeps; 0 averages nothing.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad} if decay else {}
        self.parameters = trained
        self.values = {name: p.detach().clone() for name, p in trained.items()}
        self.n_updates = dict.fromkeys(trained, 0)

    @torch.no_grad()
    def update(self, moved: Sequence[nn.Parameter]) -> None:
        """Take in the parameters that an update moved; the average of others stays."""
        ids = {id(parameter) for parameter in moved}
        groups: dict[float, tuple[list[Tensor], list[Tensor]]] = {}
        for name, parameter in self.parameters.items():
            if id(parameter) in ids:
                n = self.n_updates[name] = self.n_updates[name] + 1
                keep = min(self.decay, n / (n + FIRST_UPDATES))
                averages, current = groups.setdefault(1 - keep, ([], []))
                averages.append(self.values[name])
                current.append(parameter)
        for weight, (averages, current) in groups.items():
            torch._foreach_lerp_(averages, current, weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the module have the average as its parameters within the block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data

    def state_dict(self) -> dict[str, dict[str, Tensor] | dict[str, int]]:
        """Return the average, for a checkpoint."""
        return {"values": self.values, "n_updates": self.n_updates}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor | int]]) -> None:
        """Restore what `state_dict` returned."""
        for name, value in state["values"].items():
            self.values[name].copy_(value)  # type: ignore[arg-type]
        self.n_updates = dict(state["n_updates"])  # type: ignore[arg-type]
