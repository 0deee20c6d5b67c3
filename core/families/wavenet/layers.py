"""The two residual layers of Mor et al. 2019, sec. 3.1: the encoder's and the decoder's.

Both map float [B, C, T] to float [B, C, T] and keep the number of samples. `ResidualLayer` is
non-causal and belongs to the encoder; `GatedLayer` is causal, sees the latents, and also gives a
share of the decoder's skip sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from core.config import WaveNetConfig

TILE = 2048  # samples; larger ones and their products do not stay in a core's cache


class ResidualLayer(nn.Module):
    """ReLU, dilated convolution, ReLU, 1x1 convolution, plus the layer's input.

    Args:
        channels: C.
        dilation: Samples between the taps of the dilated convolution, whose kernel is 3.
        leading_relu: Whether the first ReLU is there; see `WaveNetConfig.encoder_leading_relu`.
    """

    def __init__(self, channels: int, dilation: int, *, leading_relu: bool) -> None:
        super().__init__()
        self.leading_relu = leading_relu
        self.dilated = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [B, C, T] to float [B, C, T]."""
        y = self.dilated(F.relu(x) if self.leading_relu else x)
        # In place, here and below: autograd keeps neither convolution's output for itself.
        mixed: Tensor = self.mix(F.relu_(y))
        return mixed.add_(x)

    def run_in_tiles(self, x: Tensor, space: Tensor) -> None:
        """Compute `forward` without gradients by matrix products, which is faster on the CPU.

        Args:
            x: float [T, C], one item; overwritten with the result.
            space: float, at least [T + 2 dilations, C], scratch memory. It is passed in because
                the first touch of new memory takes as long as a product.
        """
        assert self.dilated.bias is not None
        assert self.mix.bias is not None
        dilation = self.dilated.dilation[0]
        first, *others = (tap.T.contiguous() for tap in self.dilated.weight.unbind(2))
        mix = self.mix.weight[:, :, 0].T.contiguous()
        padded = space[: len(x) + 2 * dilation]
        padded[:dilation] = padded[-dilation:] = 0
        inner = padded[dilation:-dilation]
        if self.leading_relu:
            torch.clamp(x, min=0, out=inner)
        else:
            inner.copy_(x)
        x += self.mix.bias
        for start in range(0, len(x), TILE):
            tile = x[start : start + TILE]
            y = torch.addmm(self.dilated.bias, padded[start : start + len(tile)], first)
            for number, tap in enumerate(others, start=1):
                begin = start + number * dilation
                y.addmm_(padded[begin : begin + len(tile)], tap)
            tile.addmm_(y.relu_(), mix)


class GatedLayer(nn.Module):
    """A causal dilated convolution with gated output and its own projection of the latents.

    Args:
        config: Channels of the residual path, the skip sum and the latents.
        dilation: Samples between the two taps of the dilated convolution.
    """

    def __init__(self, config: WaveNetConfig, dilation: int) -> None:
        super().__init__()
        residual, skip = config.residual_channels, config.skip_channels
        self.dilation = dilation
        self.dilated = nn.Conv1d(residual, 2 * residual, 2, dilation=dilation)
        self.condition = nn.Conv1d(config.latent_dim, 2 * residual, 1)
        self.residual = nn.Conv1d(residual, residual, 1)
        self.skip = nn.Conv1d(residual, skip, 1)

    def forward(self, x: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Advance one layer.

        Args:
            x: float [B, C, T].
            latents: float [B, D, L].

        Returns:
            The next layer's input, float [B, C, T], and this layer's share of the skip sum,
            float [B, S, T].
        """
        # The first half of the channels is the gate, as in the authors' code; the paper leaves
        # the order open, and published weights depend on it.
        gate, filtered = add_condition(
            self.dilated(F.pad(x, (self.dilation, 0))), self.condition(latents)
        ).chunk(2, dim=1)
        y = gate.sigmoid() * filtered.tanh()
        return x + self.residual(y), self.skip(y)


def add_condition(x: Tensor, condition: Tensor) -> Tensor:
    """Add frame-rate values to sample-rate ones, each frame repeated over its samples.

    Args:
        x: float [B, C, T].
        condition: float [B, C, L], T a multiple of L.

    Returns:
        float [B, C, T].
    """
    batch, channels, n_frames = condition.shape
    # By broadcasting: the paper's nearest-neighbour upsampling without its copy in memory.
    framed = x.view(batch, channels, n_frames, -1) + condition.unsqueeze(3)
    return framed.view_as(x)
