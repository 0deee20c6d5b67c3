"""A WaveNet's weights, prepared once for batches of streams that advance step by step.

They are merged so that a step takes as few products as possible:

- Residual and skip convolution are one product, `-y @ outgoing`, added to a row that holds
  the residual path and the skip sum side by side.
- Residual biases are left out of the residual path. Their sum before a layer (`offset`) is
  part of that layer's gate bias instead.
- tanh(f) = 2 sigmoid(2 f) - 1, so one sigmoid serves gate and filter: the filter's weights
  are doubled, and -y = s(gate) - 2 s(gate) s(2 filter).
- The first convolution and its share of the skip sum become two tables of rows, one for the
  newest code and one for the code before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from core.families.wavenet import mulaw

if TYPE_CHECKING:
    from core.families.wavenet.decoder import WaveNetDecoder
    from core.families.wavenet.layers import GatedLayer


@dataclass(frozen=True)
class LayerWeights:
    """One layer; rows are inputs and columns outputs, C residual and S skip channels.

    Attributes:
        dilation: Samples between the two inputs.
        past: Gates from the input `dilation` samples ago, float [C, 2C].
        present: Gates from the present input, float [C, 2C].
        outgoing: Residual path and skip sum from the output, float [C, C + S].
        offset: Sum of the residual biases before this layer, float [C].
    """

    dilation: int
    past: Tensor
    present: Tensor
    outgoing: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Weights:
    """All layers, and the convolutions before and after them.

    Attributes:
        layers: The gated layers.
        newest: Residual path and skip sum from the newest code, float [Q, C + S].
        second: The same from the code before that, float [Q, C + S].
        condition: Projections of a latent frame for all gates and before the last layer,
            float [D, n_layers * 2C + S].
        condition_bias: float [n_layers * 2C + S].
        mix: float [S, S].
        output: float [S, Q].
        output_bias: float [Q].
        silence: The code that a stream's past consists of when it starts.
    """

    layers: list[LayerWeights]
    newest: Tensor
    second: Tensor
    condition: Tensor
    condition_bias: Tensor
    mix: Tensor
    output: Tensor
    output_bias: Tensor
    silence: int

    @property
    def condition_widths(self) -> list[int]:
        """Columns of `condition` that belong to each layer, then those before the last one."""
        gates = [layer.past.shape[1] for layer in self.layers]
        return [*gates, len(self.mix)]


@torch.no_grad()
def prepare_weights(network: WaveNetDecoder) -> Weights:
    """Return a network's weights in the form above, as copies."""
    layers, conditions, biases = [], [], []
    skip_matrix, skip_bias = _matrix(network.input_skip)
    offset = skip_matrix.new_zeros(len(skip_matrix))
    for layer in cast("list[GatedLayer]", list(network.layers)):
        merged, bias = _merge(layer, offset)
        layers.append(merged)
        condition, condition_bias = _matrix(layer.condition)
        conditions.append(_double_filter(condition))
        biases.append(bias + _double_filter(condition_bias))
        offset = offset + _bias(layer.residual)
        skip_bias = skip_bias + _bias(layer.skip)
    mix_condition, mix_condition_bias = _matrix(network.mix_condition)
    mix, mix_bias = _matrix(network.mix)
    output, output_bias = _matrix(network.output)

    taps = network.input.weight[:, 0]  # [C, 2]
    codes = torch.arange(mulaw.N_CLASSES, device=taps.device)
    value = mulaw.to_input(codes).to(taps.dtype).unsqueeze(1)
    newest = value * taps[:, 1] + _bias(network.input)
    second = value * taps[:, 0]
    return Weights(
        layers=layers,
        newest=torch.cat([newest, newest @ skip_matrix + skip_bias], dim=1),
        second=torch.cat([second, second @ skip_matrix], dim=1),
        condition=torch.cat([*conditions, mix_condition], dim=1),
        condition_bias=torch.cat([*biases, mix_condition_bias + mix_bias]),
        mix=mix,
        output=output,
        output_bias=output_bias,
        silence=network.mu_law.silence,
    )


def _merge(layer: GatedLayer, offset: Tensor) -> tuple[LayerWeights, Tensor]:
    """Return a layer's weights and the bias of its gates, float [2C]."""
    weight = layer.dilated.weight
    past, present = (_double_filter(weight[:, :, tap].T).contiguous() for tap in (0, 1))
    residual, _ = _matrix(layer.residual)
    skip, _ = _matrix(layer.skip)
    outgoing = -torch.cat([residual, skip], dim=1)
    bias = _double_filter(_bias(layer.dilated)) + offset @ present + offset @ past
    return LayerWeights(layer.dilation, past, present, outgoing, offset), bias


def _double_filter(values: Tensor) -> Tensor:
    """Double the second half of the last dimension, which belongs to the filter."""
    gate, filtered = values.chunk(2, dim=-1)
    return torch.cat([gate, 2 * filtered], dim=-1)


def _matrix(convolution: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Return a convolution of kernel size 1 as a matrix [C, C'] and a bias [C']."""
    return convolution.weight[:, :, 0].T.contiguous(), _bias(convolution)


def _bias(convolution: nn.Conv1d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias
