"""Random numbers of training, drawn item by item: the part of the seam that goes unseen.

Within `noise_of_items` the framework fixes each item's numbers by a key, so they do not depend on
how a batch is divided among processes; families draw through `uniform_like` and `normal_like`.
Outside of it torch's own generator is used. A context variable instead of an argument, so that
networks that draw nothing need not pass it on.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_generators: ContextVar[list[torch.Generator] | None] = ContextVar("generators", default=None)


@contextmanager
def noise_of_items(keys: Sequence[Sequence[int]], device: torch.device) -> Iterator[None]:
    """Draw the noise of each item of a batch from a generator of its own.

    Args:
        keys: Numbers of 0 and up that name an item's noise, one key an item.
        device: Where the batch is.
    """
    seeds = [int(np.random.SeedSequence(key).generate_state(1)[0]) for key in keys]
    token = _generators.set([torch.Generator(device).manual_seed(seed) for seed in seeds])
    try:
        yield
    finally:
        _generators.reset(token)


@contextmanager
def noise_of_some(is_chosen: Tensor) -> Iterator[None]:
    """Draw for some items of the batch only; the others' generators stay where they are.

    Args:
        is_chosen: Which items the batch within has, bool [B].
    """
    generators = _generators.get()
    if generators is not None:
        kept = zip(generators, is_chosen.tolist(), strict=True)
        generators = [generator for generator, is_kept in kept if is_kept]
    token = _generators.set(generators)
    try:
        yield
    finally:
        _generators.reset(token)


def uniform_like(tensor: Tensor) -> Tensor:
    """Return numbers from 0 to 1 in the shape of a batch, float [B, ...]."""
    return _draw(torch.rand, tensor)


def normal_like(tensor: Tensor) -> Tensor:
    """Return standard normal numbers in the shape of a batch, float [B, ...]."""
    return _draw(torch.randn, tensor)


def _draw(draw: Callable[..., Tensor], like: Tensor) -> Tensor:
    generators = _generators.get()
    if generators is None:
        return draw(like.shape, dtype=like.dtype, device=like.device)
    assert len(generators) == len(like), "noise_of_items was given another batch"
    return torch.stack(
        [
            draw(like.shape[1:], generator=generator, dtype=like.dtype, device=like.device)
            for generator in generators
        ]
    )
