"""Sampling from a WaveNet decoder, one sample at a time.

The sampler keeps, for each layer, a ring of that layer's past inputs, so that a new
sample costs one step and not a receptive field (Le Paine et al. 2016, arXiv 1611.09482).
The draws are counter-based: number n of a stream is a function of (seed, stream, n), and
of nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import UsageError
from core.families.wavenet import mulaw

if TYPE_CHECKING:
    from core.families.wavenet.decoder import GatedLayer, WaveNetDecoder


@dataclass(frozen=True)
class WaveNetOptions:
    """Generation options of the WaveNet family.

    Attributes:
        temperature: Divides the logits before the softmax: 1 draws from the model's own
            distribution, less is safer and duller, 0 always takes the likeliest code.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature={self.temperature}: expected a number from 0 up")


def draws(seed: int, stream: int, start: int, count: int) -> np.ndarray:
    """Return uniform numbers `start` to `start + count - 1` of a stream.

    Args:
        seed: The user's seed.
        stream: Which independent sequence.
        start: First number wanted.
        count: How many.

    Returns:
        float64 [count], in [0, 1).
    """
    # As an array: a list with a number from 2**63 up would become floats.
    key = np.array([seed % 2**64, stream], dtype=np.uint64)
    skipped = start % 4  # Philox makes four numbers at a time
    bits = np.random.Philox(key=key).advance(start // 4)
    return np.random.Generator(bits).random(skipped + count)[skipped:]


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
        self.dilation = layer.dilation
        # Zeros: before its first sample a stream sees the padding that training saw.
        self.ring = weight.new_zeros(layer.dilation, weight.shape[1])

    def advance(self, x: Tensor, condition: Tensor, n_samples: int) -> tuple[Tensor, Tensor]:
        """Return the next layer's input and this layer's output, float [C] each."""
        slot = n_samples % self.dilation
        both = torch.cat([self.ring[slot], x])
        self.ring[slot] = x
        gate, filtered = torch.addmv(condition, self.dilated, both).chunk(2)
        y = gate.sigmoid() * filtered.tanh()
        return x + self.residual(y), y


class Sampler:
    """The state of one stream of audio being generated.

    Args:
        decoder: The decoder whose distribution is drawn from; not changed.
        seed: Seed of the draws.
        temperature: See `WaveNetOptions`.
        stream: Which of the seed's independent sequences of draws.
    """

    @torch.no_grad()
    def __init__(
        self, decoder: WaveNetDecoder, *, seed: int, temperature: float = 1.0, stream: int = 0
    ) -> None:
        layers = cast("list[GatedLayer]", list(decoder.layers))
        self.hop_length = decoder.hop_length
        self.temperature = temperature
        self.key = (seed, stream)
        self.n_samples = 0
        assert decoder.input.bias is not None
        self.input, self.input_bias = decoder.input.weight[:, 0], decoder.input.bias
        self.input_skip = _Pointwise(decoder.input_skip)
        self.layers = [_LayerState(layer) for layer in layers]
        # The skip sum of all layers as one product over their outputs side by side.
        skips = [_Pointwise(layer.skip) for layer in layers]
        self.skip = torch.cat([skip.weight for skip in skips], dim=1)
        self.skip_bias = torch.stack([skip.bias for skip in skips]).sum(0)
        self.mix, self.mix_condition = (
            _Pointwise(decoder.mix),
            _Pointwise(decoder.mix_condition),
        )
        self.output = _Pointwise(decoder.output)
        self.history = torch.full((2,), mulaw.SILENCE, device=self.skip.device)

    @torch.no_grad()
    def advance(self, frame: Tensor) -> Tensor:
        """Generate the samples of one latent frame.

        Args:
            frame: float [D].

        Returns:
            Waveform, float32 [hop_length].
        """
        conditions = [layer.condition(frame) + layer.bias for layer in self.layers]
        mix_condition = self.mix_condition(frame)
        uniform = draws(*self.key, self.n_samples, self.hop_length)
        codes = torch.empty(self.hop_length, dtype=torch.int64)
        for index, number in enumerate(uniform):
            logits = self.step(conditions, mix_condition)
            code = choose(logits, float(number), self.temperature)
            codes[index] = code
            self.history = torch.stack([self.history[1], code])
        return mulaw.decode(codes)

    def step(self, conditions: list[Tensor], mix_condition: Tensor) -> Tensor:
        """Advance all layers by one sample.

        Args:
            conditions: What the latent frame adds to each layer, float [2C].
            mix_condition: What it adds before the last layer, float [C].

        Returns:
            Logits of the sample, float [Q].
        """
        past = mulaw.to_input(self.history).to(self.skip.dtype)
        x = self.input @ past + self.input_bias
        skip_sum = self.input_skip(x) + self.skip_bias
        outputs = []
        for layer, condition in zip(self.layers, conditions, strict=True):
            x, y = layer.advance(x, condition, self.n_samples)
            outputs.append(y)
        self.n_samples += 1
        skip_sum = torch.addmv(skip_sum, self.skip, torch.cat(outputs))
        return self.output((self.mix(skip_sum.relu()) + mix_condition).relu())


def choose(logits: Tensor, uniform: float, temperature: float) -> Tensor:
    """Draw a code by inverting the cumulative distribution.

    Args:
        logits: float [Q].
        uniform: The draw, in [0, 1).
        temperature: See `WaveNetOptions`.

    Returns:
        The code, int64 [], values 0..255.
    """
    if temperature == 0:
        return logits.argmax()
    cumulative = (logits.double() / temperature).softmax(0).cumsum(0)
    # From the right: a draw of 0 must not take a first code whose probability is 0.
    code = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
    return code.clamp(max=len(logits) - 1)
