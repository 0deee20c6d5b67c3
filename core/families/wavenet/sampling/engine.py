"""What an engine is: something that advances several streams of audio side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        """Give a stream the past of a decoder that has heard only silence."""

    @abstractmethod
    def advance(self, frames: Tensor, uniforms: Tensor) -> Tensor:
        """Generate samples of one latent frame of every stream, all or an equal part of them.

        Args:
            frames: float [n_streams, D], on the network's device.
            uniforms: Draws, float64 [n_streams, t], in [0, 1), on the CPU; t always the same
                divisor of the hop length, and a multiple of 4 unless it is the hop length.

        Returns:
            Codes, int64 [n_streams, t], on the CPU.
        """

    def close(self) -> None:
        """Stop the engine's workers, if it has any."""
        return
