"""Random draws from a distribution over codes.

Counter-based: number n of a chunk is a function of (seed, chunk, n), and of nothing else.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def draws(seed: int, chunk: int, start: int, count: int) -> np.ndarray:
    """Return uniform numbers `start` to `start + count - 1` of a chunk, one for each sample.

    Args:
        seed: The user's seed.
        chunk: Which independent sequence of numbers: that of the chunk with this index.
        start: First number wanted.
        count: How many.

    Returns:
        float64 [count], in [0, 1).
    """
    # As an array: a list with a number from 2**63 up would become floats.
    key = np.array([seed % 2**64, chunk], dtype=np.uint64)
    skipped = start % 4  # Philox makes four numbers at a time
    bits = np.random.Philox(key=key).advance(start // 4)
    return np.random.Generator(bits).random(skipped + count)[skipped:]


def choose(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Draw codes by inverting the cumulative distribution.

    Args:
        logits: float [..., Q].
        uniform: The draws, float64 [...], in [0, 1).
        temperature: See `WaveNetOptions`.

    Returns:
        Codes, int64 [...], values 0..255.
    """
    if temperature == 0:
        return logits.argmax(-1)
    # A sum of 256 numbers in float32 would move the borders between codes, the draws not.
    cumulative = (logits / temperature).softmax(-1).cumsum(-1, dtype=torch.float64)
    wanted = uniform.unsqueeze(-1) * cumulative[..., -1:]
    # From the right: a draw of 0 must not take a first code whose probability is 0.
    codes = torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)
    return codes.clamp_(max=logits.shape[-1] - 1)
