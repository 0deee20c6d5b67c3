"""What a machine could do at best, and how much an update asks of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 5  # the best counts, so that other programs matter little


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write.

    Each operation is taken to read its operands from memory and to write its result there,
    as it is where tensors are larger than the caches. Views cost nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it moves."""
        result = func(*args, **(kwargs or {}))
        returned = func._schema.returns
        is_view = any(one.alias_info and not one.alias_info.is_write for one in returned)
        if not is_view:
            moved = tree_leaves((args, kwargs, result))
            self.n_bytes += sum(
                min(one.nbytes, one.untyped_storage().nbytes())
                for one in moved
                if isinstance(one, Tensor)
            )
        return result


def demands(work: Callable[[], object]) -> tuple[int, int]:
    """Run something; return its floating-point operations, and the bytes that it moves."""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        work()
    return flops.get_total_flops(), traffic.n_bytes


def product_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Return the floating-point operations a second of a large matrix product."""
    n = 1024 if device.type == "cpu" else 8192
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / _best_seconds(lambda: a @ b)


def copy_rate(device: torch.device) -> float:
    """Return the bytes a second, read and written, of copying what no cache can hold."""
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best_seconds(lambda: target.copy_(source))


def _best_seconds(work: Callable[[], Tensor]) -> float:
    best = float("inf")
    for _ in range(TRIES):
        began = time.perf_counter()
        float(work().flatten()[0])  # waits for a GPU
        best = min(best, time.perf_counter() - began)
    return best
