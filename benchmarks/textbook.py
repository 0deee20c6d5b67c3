"""The baseline of `sampling`: how a WaveNet is sampled in textbooks. Frozen: do not speed it up.

One stream, one first-in-first-out queue a layer, the network's own modules on one sample at
a time, the latents projected again for every sample, and a draw from the softmax.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.families.wavenet import mulaw

if TYPE_CHECKING:
    from core.families.wavenet.decoder import WaveNetDecoder
    from core.families.wavenet.layers import GatedLayer


class TextbookLoop:
    """One stream of audio being generated."""

    def __init__(self, network: WaveNetDecoder) -> None:
        self.network = network
        zeros = torch.zeros(1, network.input.out_channels, 1)
        self.queues = [deque([zeros] * layer.dilation) for layer in network.layers]
        self.codes = [network.mu_law.silence] * 2

    @torch.no_grad()
    def generate(self, frame: Tensor, count: int) -> list[int]:
        """Return the next samples, all within one latent frame, as codes.

        Args:
            frame: float [D].
            count: How many.
        """
        generated = []
        for _ in range(count):
            probabilities = self.logits(frame).softmax(0)
            code = int(torch.multinomial(probabilities, 1))
            self.codes = [self.codes[1], code]
            generated.append(code)
        return generated

    @torch.no_grad()
    def logits(self, frame: Tensor) -> Tensor:
        """Advance all layers by one sample; return its logits, float [Q]."""
        network = self.network
        latents = frame.view(1, -1, 1)
        x = network.input(mulaw.to_input(torch.tensor(self.codes)).view(1, 1, 2))
        skip_sum = network.input_skip(x)
        for layer, queue in zip(network.layers, self.queues, strict=True):
            past = queue.popleft()
            queue.append(x)
            x, skip = _advance(layer, past, x, latents)
            skip_sum = skip_sum + skip
        mixed = network.mix(torch.relu(skip_sum)) + network.mix_condition(latents)
        return network.output(torch.relu(mixed)).view(-1)


def _advance(
    layer: GatedLayer, past: Tensor, present: Tensor, latents: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a layer's output and its share of the skip sum, float [1, C, 1]."""
    both = torch.cat([past, present], dim=2)
    gates = torch.nn.functional.conv1d(both, layer.dilated.weight, layer.dilated.bias)
    gate, filtered = (gates + layer.condition(latents)).chunk(2, dim=1)
    y = torch.sigmoid(gate) * torch.tanh(filtered)
    return present + layer.residual(y), layer.skip(y)
