"""The WaveNet family's encoder (Mor et al. 2019, sec. 3.1): waveform to latents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.base import Encoder
from core.families.wavenet import channels_last, mulaw
from core.families.wavenet.layers import ResidualLayer
from core.families.wavenet.mulaw import MuLaw

if TYPE_CHECKING:
    from core.config import WaveNetConfig


class WaveNetEncoder(Encoder):
    """Non-causal dilated convolutions over mu-law audio, then average pooling.

    Args:
        config: Channels, blocks, layers and the hop length.

    Attributes:
        receptive_field: Samples that one sample before the pooling sees (6,141 in the paper).
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        channels = config.encoder_channels
        self.hop_length = config.hop_length
        self.mu_law = MuLaw(config.mu_law)
        self.input = nn.Conv1d(1, channels, 3, padding=1)
        self.layers = nn.ModuleList(
            ResidualLayer(channels, 2**i, leading_relu=config.encoder_leading_relu)
            for _ in range(config.encoder_blocks)
            for i in range(config.encoder_layers)
        )
        self.output = nn.Conv1d(channels, config.latent_dim, 1)
        dilations = config.encoder_blocks * (2**config.encoder_layers - 1)
        self.receptive_field = 1 + 2 * (1 + dilations)
        self.frames_before = math.ceil(self.receptive_field // 2 / config.hop_length)
        self.frames_after = self.frames_before

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode float [B, T] to latents float [B, L, D]; see `Encoder.forward`."""
        x = mulaw.to_input(self.mu_law.encode(waveform)).to(self.input.weight.dtype)
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
