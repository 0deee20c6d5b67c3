"""A batch of streams that advance together by matrix products, on one thread.

A layer's product with its past inputs does not wait for the present sample: it is computed
for up to `BLOCK` samples ahead, as one larger product. Only the present input's is left for
the step itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from core.families.wavenet import mulaw
from core.families.wavenet.sampling.draws import choose

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from core.families.wavenet.sampling.weights import LayerWeights, Weights

BLOCK = 4  # samples; more do not fit the cache beside the weights


class _Layer:
    """A layer's weights, its past inputs and its gates, for N streams."""

    def __init__(self, weights: LayerWeights, n_streams: int, hop_length: int) -> None:
        channels = len(weights.offset)
        self.weights = weights
        self.dilation = weights.dilation
        # A power of two, as dilations are, that no end of a frame cuts.
        self.block = math.gcd(min(BLOCK, self.dilation), hop_length)
        self.ring = weights.past.new_empty(self.dilation, n_streams, channels)
        self.gates = weights.past.new_empty(self.block, n_streams, 2 * channels)
        self.flat_gates = self.gates.view(-1, 2 * channels)
        # Views made once: to make one takes as long as to fill it.
        self.halves = [
            (gates, gates[:, :channels], gates[:, channels:]) for gates in self.gates.unbind()
        ]

    def look_ahead(self, slot: int, condition: Tensor) -> None:
        """Begin the gates of the next `block` samples, whose past inputs are known."""
        known = self.ring[slot : slot + self.block].flatten(0, 1)
        torch.mm(known, self.weights.past, out=self.flat_gates)
        self.gates += condition


class Batch:
    """N streams; see `Engine` for what `restart` and `advance` mean.

    Args:
        weights: The prepared weights, which batches may share.
        temperature: See `WaveNetOptions`.
        n_streams: N.
        hop_length: Samples per latent frame.
        is_stopped: Asked before each sample; when true, `advance` gives up.
    """

    @torch.inference_mode()
    def __init__(
        self,
        weights: Weights,
        *,
        temperature: float,
        n_streams: int,
        hop_length: int,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.weights = weights
        self.temperature = temperature
        self.is_stopped = is_stopped
        self.hop_length = hop_length
        self.n_samples = 0
        self.layers = [_Layer(layer, n_streams, hop_length) for layer in weights.layers]
        channels = len(weights.layers[0].offset)
        new = weights.mix.new_empty
        self.rows = new(n_streams, weights.newest.shape[1])
        self.residual, self.skip = self.rows[:, :channels], self.rows[:, channels:]
        self.negative_output = new(n_streams, channels)
        self.mixed = new(n_streams, len(weights.mix))
        self.logits = new(n_streams, mulaw.N_CLASSES)
        # The two newest codes of each stream; codes are drawn into the older one's place.
        self.newest = torch.empty(n_streams, dtype=torch.int64, device=self.rows.device)
        self.second = torch.empty_like(self.newest)
        for stream in range(n_streams):
            self.restart(stream)

    @torch.inference_mode()
    def restart(self, stream: int) -> None:
        """See `Engine.restart`."""
        for layer in self.layers:
            # Padding is zero on the whole residual path, and this one lacks the offset.
            layer.ring[:, stream] = -layer.weights.offset
        self.newest[stream] = self.second[stream] = mulaw.SILENCE

    @torch.inference_mode()
    def advance(self, frames: Tensor, uniforms: Tensor) -> Tensor:
        """See `Engine.advance`; here the draws are on the network's device, as the codes are."""
        weights = self.weights
        added = torch.addmm(weights.condition_bias, frames, weights.condition)
        *conditions, mix_condition = (
            part.contiguous() for part in torch.split(added, weights.condition_widths, dim=1)
        )
        codes = torch.empty_like(uniforms, dtype=torch.int64).T.contiguous()
        for uniform, drawn in zip(uniforms.T.contiguous(), codes, strict=True):
            if self.is_stopped():
                break
            self._step(conditions, mix_condition)
            drawn.copy_(choose(self.logits, uniform, self.temperature))
            self.newest, self.second = drawn, self.newest
        self.newest, self.second = self.newest.clone(), self.second.clone()
        return codes.T

    def _step(self, conditions: list[Tensor], mix_condition: Tensor) -> None:
        """Advance all layers by one sample; leaves the logits, float [N, Q]."""
        weights, time = self.weights, self.n_samples
        torch.index_select(weights.newest, 0, self.newest, out=self.rows)
        self.rows += weights.second.index_select(0, self.second)
        for layer, condition in zip(self.layers, conditions, strict=True):
            slot = time % layer.dilation
            if slot % layer.block == 0:
                layer.look_ahead(slot, condition)
            layer.ring[slot].copy_(self.residual)
            gates, gate, filtered = layer.halves[slot % layer.block]
            gates.addmm_(self.residual, layer.weights.present).sigmoid_()
            torch.addcmul(gate, gate, filtered, value=-2, out=self.negative_output)
            self.rows.addmm_(self.negative_output, layer.weights.outgoing)
        torch.addmm(mix_condition, self.skip.relu_(), weights.mix, out=self.mixed)
        torch.addmm(weights.output_bias, self.mixed.relu_(), weights.output, out=self.logits)
        self.n_samples = time + 1
