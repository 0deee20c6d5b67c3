"""What all sampling engines share: their interface, the random numbers, and the draw of a code.

An engine advances several streams of audio side by side. Random numbers are counter-based, so
that engines agree: number n of a chunk is a function of (seed, chunk, n) and of nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor


class Engine(ABC):
    """A WaveNet and the past of several streams of audio.

    All streams advance together, through a latent frame or an equal part of it at a time. The
    samples of one depend on its own past, latents and draws alone, not on its place nor on its
    neighbours.

    Attributes:
        n_streams: How many.
    """

    n_streams: int

    @abstractmethod
    def restart(self, stream: int) -> None:
        """Reset a stream to the state before its first sample, with silence as its past.

        Args:
            stream: Its number, 0 to n_streams - 1.
        """

    @abstractmethod
    def advance(self, frames: Tensor, uniforms: Tensor) -> Tensor:
        """Generate samples of one latent frame of every stream, all or an equal part of them.

        Args:
            frames: float [n_streams, D], on the network's device.
            uniforms: Random numbers, float64 [n_streams, t], in [0, 1), on the CPU; t always the
                same divisor of the hop length, and a multiple of 4 unless it is the hop length.

        Returns:
            Codes, int64 [n_streams, t], on the CPU.
        """

    def close(self) -> None:
        """Stop the engine's workers, if it has any."""
        return


def draw_uniforms(seed: int, chunk: int, start: int, count: int) -> np.ndarray:
    """Return uniform numbers `start` to `start + count - 1` of a chunk, one for each sample.

    Args:
        seed: The user's seed.
        chunk: Index of the chunk; each has an independent sequence of numbers.
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
        uniform: Random numbers, float64 [...], in [0, 1).
        temperature: See `WaveNetOptions`.

    Returns:
        Codes, int64 [...], values 0..255.
    """
    if temperature == 0:
        return logits.argmax(-1)
    # In float64: rounding a sum of 256 numbers in float32 would move the borders between codes,
    # and engines that sum in another order would draw other codes with the same number.
    cumulative = (logits / temperature).softmax(-1).cumsum(-1, dtype=torch.float64)
    wanted = uniform.unsqueeze(-1) * cumulative[..., -1:]
    # From the right: a draw of 0 must not take a first code whose probability is 0.
    codes = torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)
    return codes.clamp_(max=logits.shape[-1] - 1)
