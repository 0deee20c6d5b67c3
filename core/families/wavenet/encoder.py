"""The WaveNet family's encoder (Mor et al. 2019, sec. 3.1): waveform to latents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from core.families.base import Encoder
from core.families.wavenet import mulaw

if TYPE_CHECKING:
    from core.config import WaveNetConfig


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
        self.context_frames = math.ceil(self.receptive_field // 2 / config.hop_length)

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode float [B, T] to latents float [B, L, D]; see `Encoder.forward`."""
        x = mulaw.to_input(mulaw.encode(waveform)).to(self.input.weight.dtype)
        x = self.input(x.unsqueeze(1))
        for layer in self.layers:
            x = layer(x)
        # The paper pools the 1x1 convolution's output. Both are linear, so pooling first is
        # the same and computes the convolution once a frame instead of once a sample.
        latents: Tensor = self.output(F.avg_pool1d(x, self.hop_length))
        return latents.transpose(1, 2)
