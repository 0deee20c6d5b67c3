"""The reference engine, against which the others are tested: each stream alone, in plain steps.

A stream keeps, for each layer, a ring of that layer's past inputs, so that a new sample
costs one step and not a receptive field (Le Paine et al. 2016, arXiv 1611.09482).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from core.families.wavenet import mulaw
from core.families.wavenet.sampling.engine import Engine, choose

if TYPE_CHECKING:
    from core.families.wavenet.decoder import WaveNetDecoder
    from core.families.wavenet.layers import GatedLayer


class ReferenceEngine(Engine):
    """Streams that advance one after the other.

    Args:
        network: The network whose distribution is drawn from; not changed.
        temperature: See `WaveNetOptions`.
        n_streams: How many streams.
    """

    def __init__(self, network: WaveNetDecoder, *, temperature: float, n_streams: int) -> None:
        self.network = network
        self.temperature = temperature
        self.n_streams = n_streams
        self.streams = [_Stream(network) for _ in range(n_streams)]

    def restart(self, stream: int) -> None:
        """See `Engine.restart`."""
        self.streams[stream] = _Stream(self.network)

    def advance(self, frames: Tensor, uniforms: Tensor) -> Tensor:
        """See `Engine.advance`."""
        codes = [
            stream.advance(frame, numbers, self.temperature)
            for stream, frame, numbers in zip(self.streams, frames, uniforms, strict=True)
        ]
        return torch.stack(codes)


class _Pointwise:
    """A convolution of kernel size 1 as a matrix and a bias."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        assert convolution.bias is not None
        self.weight = convolution.weight[:, :, 0]
        self.bias = convolution.bias

    def __call__(self, x: Tensor) -> Tensor:
        """Map float [C] to float [C']."""
        return torch.addmv(self.bias, self.weight, x)


class _LayerState:
    """A layer's weights in the form a single step needs, and its past inputs."""

    def __init__(self, layer: GatedLayer) -> None:
        weight = layer.dilated.weight
        assert layer.dilated.bias is not None
        # Past and present input side by side: one product instead of two.
        self.dilated = torch.cat([weight[:, :, 0], weight[:, :, 1]], dim=1)
        self.bias = layer.dilated.bias
        self.condition = _Pointwise(layer.condition)
        self.residual = _Pointwise(layer.residual)
        self.skip = _Pointwise(layer.skip)
        self.dilation = layer.dilation
        # Zeros, because the layers are padded with zeros in training.
        self.ring = weight.new_zeros(layer.dilation, weight.shape[1])

    def advance(self, x: Tensor, condition: Tensor, n_samples: int) -> tuple[Tensor, Tensor]:
        """Return the next layer's input and this layer's share of the skip sum."""
        slot = n_samples % self.dilation
        both = torch.cat([self.ring[slot], x])
        self.ring[slot] = x
        gate, filtered = torch.addmv(condition, self.dilated, both).chunk(2)
        y = gate.sigmoid() * filtered.tanh()
        return x + self.residual(y), self.skip(y)


class _Stream:
    """The state of one stream of audio being generated."""

    @torch.no_grad()
    def __init__(self, network: WaveNetDecoder) -> None:
        layers = cast("list[GatedLayer]", list(network.layers))
        self.n_samples = 0
        assert network.input.bias is not None
        self.input, self.input_bias = network.input.weight[:, 0], network.input.bias
        self.input_skip = _Pointwise(network.input_skip)
        self.layers = [_LayerState(layer) for layer in layers]
        self.mix = _Pointwise(network.mix)
        self.mix_condition = _Pointwise(network.mix_condition)
        self.output = _Pointwise(network.output)
        self.history = torch.full((2,), network.mu_law.silence, device=self.input.device)

    @torch.no_grad()
    def advance(self, frame: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """Generate samples of one latent frame.

        Args:
            frame: float [D].
            uniforms: float64 [t].
            temperature: See `WaveNetOptions`.

        Returns:
            Codes, int64 [t], on the CPU.
        """
        conditions = [layer.condition(frame) + layer.bias for layer in self.layers]
        mix_condition = self.mix_condition(frame)
        codes = torch.empty(len(uniforms), dtype=torch.int64)
        for index, uniform in enumerate(uniforms.to(frame.device)):
            code = choose(self.step(conditions, mix_condition), uniform, temperature)
            codes[index] = code
            self.history = torch.stack([self.history[1], code])
        return codes

    def step(self, conditions: list[Tensor], mix_condition: Tensor) -> Tensor:
        """Advance all layers by one sample.

        Args:
            conditions: The latent frame's projection for each layer, float [2C].
            mix_condition: Its projection before the last layer, float [S].

        Returns:
            Logits of the sample, float [Q].
        """
        past = mulaw.to_input(self.history).to(self.input.dtype)
        x = self.input @ past + self.input_bias
        skip_sum = self.input_skip(x)
        for layer, condition in zip(self.layers, conditions, strict=True):
            x, skip = layer.advance(x, condition, self.n_samples)
            skip_sum = skip_sum + skip
        self.n_samples += 1
        return self.output((self.mix(skip_sum.relu()) + mix_condition).relu())
