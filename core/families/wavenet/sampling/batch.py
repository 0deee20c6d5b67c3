"""A batch of streams that advance together by matrix products, on one thread.

This is the common part of the CPU and the CUDA engine. A layer's product with its past inputs
does not depend on the present sample, so it is computed for up to `BLOCK` samples ahead, as one
larger product; only the product with the present input is left for the step itself.

The loop over a frame's samples is compiled by TorchScript. It makes some 200 calls of torch a
sample, and in Python each of them would compete with the other workers for the global lock.
"""

# No `from __future__ import annotations`: TorchScript reads the annotations of this file.

import math
import warnings
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from core.families.wavenet import mulaw
from core.families.wavenet.sampling.engine import choose

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.families.wavenet.decoder import WaveNetDecoder
    from core.families.wavenet.sampling.weights import LayerWeights, Weights

BLOCK = 4  # samples; more do not fit the cache beside the weights


class Layer(NamedTuple):
    """A layer's weights (see `LayerWeights`), and its state for N streams.

    Attributes:
        dilation: Samples between the two inputs.
        block: Samples whose gates are begun together.
        past: float [C, 2C].
        present: float [C, 2C].
        outgoing: float [C, C + S].
        ring: Past inputs, float [dilation, N, C].
        gates: float [block, N, 2C].
    """

    dilation: int
    block: int
    past: Tensor
    present: Tensor
    outgoing: Tensor
    ring: Tensor
    gates: Tensor


class Ends(NamedTuple):
    """Weights before and after the layers (see `Weights`), and scratch memory for N streams.

    Attributes:
        newest: float [Q, C + S].
        second: float [Q, C + S].
        mix: float [S, S].
        output: float [S, Q].
        output_bias: float [Q].
        rows: Residual path and skip sum side by side, float [N, C + S].
        negative_output: Of a layer, float [N, C].
        mixed: float [N, S].
        logits: float [N, Q].
    """

    newest: Tensor
    second: Tensor
    mix: Tensor
    output: Tensor
    output_bias: Tensor
    rows: Tensor
    negative_output: Tensor
    mixed: Tensor
    logits: Tensor


def advance(
    layers: list[Layer],
    ends: Ends,
    conditions: list[Tensor],
    *,
    newest: Tensor,
    second: Tensor,
    time: int,
    uniforms: Tensor,
    temperature: float,
    stopping: Tensor,
) -> Tensor:
    """Generate samples of one latent frame.

    Args:
        layers: The layers; their rings and gates are changed.
        ends: Weights before and after them.
        conditions: The latent frame's projections for each layer's gates, float [N, 2C], then
            the one before the last layer, float [N, S].
        newest: The newest code of each stream, int64 [N].
        second: The code before it, int64 [N].
        time: Samples generated so far.
        uniforms: Random numbers, float64 [t, N].
        temperature: See `WaveNetOptions`.
        stopping: bool []; once true, the remaining samples are left zero.

    Returns:
        Codes, int64 [t, N].
    """
    channels = ends.negative_output.shape[1]
    residual, skip = ends.rows[:, :channels], ends.rows[:, channels:]
    codes = torch.zeros_like(uniforms, dtype=torch.int64)
    for index in range(len(uniforms)):
        if bool(stopping):
            break
        torch.index_select(ends.newest, 0, newest, out=ends.rows)
        ends.rows.add_(ends.second.index_select(0, second))
        for number, layer in enumerate(layers):
            slot = (time + index) % layer.dilation
            if slot % layer.block == 0:
                # Begin the gates of the samples whose past inputs are known.
                known = layer.ring[slot : slot + layer.block].flatten(0, 1)
                torch.mm(known, layer.past, out=layer.gates.flatten(0, 1))
                layer.gates.add_(conditions[number])
            layer.ring[slot].copy_(residual)
            gates = layer.gates[slot % layer.block]
            gates.addmm_(residual, layer.present).sigmoid_()
            gate, filtered = gates[:, :channels], gates[:, channels:]
            torch.addcmul(gate, gate, filtered, value=-2.0, out=ends.negative_output)
            ends.rows.addmm_(ends.negative_output, layer.outgoing)
        torch.addmm(conditions[-1], skip.relu_(), ends.mix, out=ends.mixed)
        torch.addmm(ends.output_bias, ends.mixed.relu_(), ends.output, out=ends.logits)
        codes[index] = choose(ends.logits, uniforms[index], temperature)
        newest, second = codes[index], newest
    return codes


@cache
def compiled() -> "Callable[..., Tensor]":
    """Return `advance`, compiled once."""
    with warnings.catch_warnings():
        # Deprecated in favour of torch.compile, which needs a C++ compiler where it runs.
        warnings.simplefilter("ignore", DeprecationWarning)
        function: Callable[..., Tensor] = torch.jit.script(advance)
    return function


class StreamBatch:
    """N streams; see `Engine` for what `restart` and `advance` mean.

    Args:
        weights: The prepared weights, which several batches may share.
        temperature: See `WaveNetOptions`.
        n_streams: N.
        hop_length: Samples per latent frame.
        stopping: bool [], read before each sample; once true, `advance` returns early.
    """

    @torch.inference_mode()
    def __init__(
        self,
        weights: "Weights",
        *,
        temperature: float,
        n_streams: int,
        hop_length: int,
        stopping: Tensor,
    ) -> None:
        self.weights = weights
        self.temperature = temperature
        self.stopping = stopping
        self.n_samples = 0
        self.layers = [_layer(layer, n_streams, hop_length) for layer in weights.layers]
        new = weights.mix.new_empty
        self.ends = Ends(
            newest=weights.newest,
            second=weights.second,
            mix=weights.mix,
            output=weights.output,
            output_bias=weights.output_bias,
            rows=new(n_streams, weights.newest.shape[1]),
            negative_output=new(n_streams, len(weights.layers[0].offset)),
            mixed=new(n_streams, len(weights.mix)),
            logits=new(n_streams, mulaw.N_CLASSES),
        )
        # The two newest codes of each stream, int64 [2, N].
        self.history = weights.mix.new_empty(2, n_streams, dtype=torch.int64)
        for stream in range(n_streams):
            self.restart(stream)

    @torch.inference_mode()
    def restart(self, stream: int) -> None:
        """See `Engine.restart`."""
        for layer, weights in zip(self.layers, self.weights.layers, strict=True):
            # The network pads with zeros; on this path, which lacks the offset, that is its
            # negative.
            layer.ring[:, stream] = -weights.offset
        self.history[:, stream] = self.weights.silence

    @torch.inference_mode()
    def advance(self, frames: Tensor, uniforms: Tensor) -> Tensor:
        """See `Engine.advance`; here random numbers and codes are on the network's device."""
        weights = self.weights
        added = torch.addmm(weights.condition_bias, frames, weights.condition)
        parts = torch.split(added, weights.condition_widths, dim=1)
        codes = self._advance([part.contiguous() for part in parts], uniforms.T.contiguous())
        self.n_samples += len(codes)
        return codes.T

    def _advance(self, conditions: list[Tensor], uniforms: Tensor) -> Tensor:
        """Generate samples from a frame's projections, see `advance`; keep the newest two."""
        codes = compiled()(
            self.layers,
            self.ends,
            conditions,
            newest=self.history[1],
            second=self.history[0],
            time=self.n_samples,
            uniforms=uniforms,
            temperature=self.temperature,
            stopping=self.stopping,
        )
        self.history.copy_(torch.cat([self.history, codes])[-2:])
        return codes


def bytes_per_stream(network: "WaveNetDecoder") -> int:
    """Return the memory of a stream's past inputs, in bytes."""
    past: int = network.receptive_field - 1
    return 4 * past * network.input.out_channels


def _layer(weights: "LayerWeights", n_streams: int, hop_length: int) -> Layer:
    channels = len(weights.offset)
    # A power of two, so that it divides the dilations, and a divisor of the frame.
    block = math.gcd(min(BLOCK, weights.dilation), hop_length)
    return Layer(
        dilation=weights.dilation,
        block=block,
        past=weights.past,
        present=weights.present,
        outgoing=weights.outgoing,
        ring=weights.past.new_empty(weights.dilation, n_streams, channels),
        gates=weights.past.new_empty(block, n_streams, 2 * channels),
    )
