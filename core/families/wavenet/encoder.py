"""The WaveNet family's encoder (Mor et al. 2019, sec. 3.1): waveform to latents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.base import Encoder
from core.families.wavenet import channels_last, mulaw

if TYPE_CHECKING:
    from core.config import WaveNetConfig


TILE = 2048  # samples; larger ones and their products do not stay in a core's cache


class ResidualLayer(nn.Module):
    """ReLU, dilated convolution, ReLU, 1x1 convolution, plus the layer's input."""

    def __init__(self, channels: int, dilation: int, *, leading_relu: bool) -> None:
        super().__init__()
        self.leading_relu = leading_relu
        self.dilated = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [B, C, T] to float [B, C, T]."""
        y = self.dilated(F.relu(x) if self.leading_relu else x)
        # In place, as below: the convolutions' outputs are needed by nobody else.
        mixed: Tensor = self.mix(F.relu_(y))
        return mixed.add_(x)

    def run_in_tiles(self, x: Tensor, space: Tensor) -> None:
        """Do the same without gradients, by matrix products: faster on the CPU.

        Args:
            x: float [T, C], of one item; changed to the result.
            space: float, at least [T + 2 dilations, C]; new memory takes as long as a product.
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


class WaveNetEncoder(Encoder):
    """Non-causal dilated convolutions over mu-law audio, then average pooling."""

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        channels = config.encoder_channels
        self.hop_length = config.hop_length
        self.input = nn.Conv1d(1, channels, 3, padding=1)
        self.layers = nn.ModuleList(
            ResidualLayer(channels, 2**i, leading_relu=config.encoder_leading_relu)
            for _ in range(config.encoder_blocks)
            for i in range(config.encoder_layers)
        )
        self.output = nn.Conv1d(channels, config.latent_dim, 1)
        dilations = config.encoder_blocks * (2**config.encoder_layers - 1)
        self.receptive_field = 1 + 2 * (1 + dilations)  # samples, before the pooling
        self.frames_before = math.ceil(self.receptive_field // 2 / config.hop_length)
        self.frames_after = self.frames_before

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode float [B, T] to latents float [B, L, D]; see `Encoder.forward`."""
        x = mulaw.to_input(mulaw.encode(waveform)).to(self.input.weight.dtype)
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            return torch.stack([self._encode_in_tiles(item) for item in x])
        if channels_last.is_wanted(x):
            return channels_last.encode(self, x)
        x = self.input(x.unsqueeze(1))
        for layer in self.layers:
            x = layer(x)
        # The paper pools the 1x1 convolution's output. Both are linear, so pooling first is
        # the same and computes the convolution once a frame instead of once a sample.
        latents: Tensor = self.output(F.avg_pool1d(x, self.hop_length))
        return latents.transpose(1, 2)

    def _encode_in_tiles(self, x: Tensor) -> Tensor:
        """Map an item's float [T] to latents float [L, D]."""
        y: Tensor = self.input(x.view(1, 1, -1))[0].T.contiguous()
        layers = cast("list[ResidualLayer]", list(self.layers))
        widest = max(layer.dilated.dilation[0] for layer in layers)
        space = y.new_empty(len(y) + 2 * widest, y.shape[1])
        for layer in layers:
            layer.run_in_tiles(y, space)
        pooled = y.view(-1, self.hop_length, y.shape[1]).mean(1)
        return F.linear(pooled, self.output.weight[:, :, 0], self.output.bias)
