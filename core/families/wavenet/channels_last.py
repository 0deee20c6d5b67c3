"""The layers of both networks as matrix products, for training on a GPU.

The same mathematics and the same weights as `encoder` and `decoder`, laid out as [B, T, C]: a
dilated convolution is one product of the taps side by side with their weights, and `torch.compile`
fuses the pointwise operations between two products. A layer is one compiled function that all
layers of its kind share, whatever their dilation, so compiling takes seconds; compiling whole
networks takes minutes. Without a C compiler the functions run uncompiled.

It ran on a GPU, an H200 with torch 2.11, in bfloat16 (`benchmarks/README.md`). That it gives the
convolutions' numbers and gradients was tested on the CPU alone: the test marked `gpu` has not
been run to its end.
"""

from __future__ import annotations

import shutil
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F

from core.families.wavenet import mulaw

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from core.families.wavenet.decoder import WaveNetDecoder
    from core.families.wavenet.encoder import WaveNetEncoder
    from core.families.wavenet.layers import GatedLayer, ResidualLayer

COMPILERS = ("cc", "gcc", "clang")  # Triton builds its launchers with one


def is_wanted(tensor: Tensor) -> bool:
    """Return whether to compute by this module: on a GPU, where gradients are needed."""
    return tensor.is_cuda and torch.is_grad_enabled()


def encode(encoder: WaveNetEncoder, inputs: Tensor) -> Tensor:
    """Do what `WaveNetEncoder.forward` does after it has coded the waveform.

    Args:
        encoder: The weights.
        inputs: float [B, T], -0.5..0.5.

    Returns:
        Latents, float [B, L, D].
    """
    layer_function = _compiled(residual_layer)
    x = encoder.input(inputs.unsqueeze(1)).transpose(1, 2).contiguous()
    for layer in cast("list[ResidualLayer]", list(encoder.layers)):
        x = layer_function(
            x,
            taps=layer.dilated.weight,
            taps_bias=layer.dilated.bias,
            mix=layer.mix.weight,
            mix_bias=layer.mix.bias,
            dilation=layer.dilated.dilation[0],
            leading_relu=layer.leading_relu,
        )
    pooled = x.view(len(x), -1, encoder.hop_length, x.shape[2]).mean(2)
    return _pointwise(encoder.output, pooled)


def predict(network: WaveNetDecoder, inputs: Tensor, latents: Tensor) -> Tensor:
    """Do what `WaveNetDecoder.forward` does after it has shifted the codes.

    Args:
        network: The weights.
        inputs: float [B, 1, 1 + T], the codes before each sample, and one more before those.
        latents: float [B, L, D].

    Returns:
        Logits, float [B, Q, T], a view of [B, T, Q].
    """
    layer_function = _compiled(gated_layer)
    x = network.input(inputs).transpose(1, 2).contiguous()
    skip_sum = _pointwise(network.input_skip, x)
    layers = cast("list[GatedLayer]", list(network.layers))
    # One product for all layers: each alone is so small that launching it takes longer.
    condition = F.linear(
        latents,
        torch.cat([layer.condition.weight.flatten(1) for layer in layers]),
        torch.cat([cast("Tensor", layer.condition.bias) for layer in layers]),
    )
    for layer, own_condition in zip(layers, condition.chunk(len(layers), 2), strict=True):
        x, skip_sum = layer_function(
            x,
            skip_sum,
            own_condition,
            taps=layer.dilated.weight,
            taps_bias=layer.dilated.bias,
            outgoing=(layer.residual.weight, layer.skip.weight),
            outgoing_bias=(layer.residual.bias, layer.skip.bias),
            dilation=layer.dilation,
        )
    mixed = _pointwise(network.mix, F.relu(skip_sum))
    mixed = _add_condition(mixed, _pointwise(network.mix_condition, latents))
    logits: Tensor = _pointwise(network.output, F.relu(mixed))
    assert logits.shape[2] == mulaw.N_CLASSES
    return logits.transpose(1, 2)


def residual_layer(
    x: Tensor,
    *,
    taps: Tensor,
    taps_bias: Tensor,
    mix: Tensor,
    mix_bias: Tensor,
    dilation: int,
    leading_relu: bool,
) -> Tensor:
    """Advance one layer of the encoder; see `layers.ResidualLayer`.

    Args:
        x: float [B, T, C].
        taps: Of the dilated convolution, float [C, C, 3].
        taps_bias: float [C].
        mix: float [C, C, 1].
        mix_bias: float [C].
        dilation: Samples between the taps.
        leading_relu: Whether the layer begins with a ReLU.

    Returns:
        float [B, T, C].
    """
    activated = F.relu(x) if leading_relu else x
    before, after = (F.pad(activated, (0, 0, shift, -shift)) for shift in (dilation, -dilation))
    y = F.linear(torch.cat((before, activated, after), 2), _side_by_side(taps), taps_bias)
    return x + F.linear(F.relu(y), mix.flatten(1), mix_bias)


def gated_layer(
    x: Tensor,
    skip_sum: Tensor,
    condition: Tensor,
    *,
    taps: Tensor,
    taps_bias: Tensor,
    outgoing: tuple[Tensor, Tensor],
    outgoing_bias: tuple[Tensor, Tensor],
    dilation: int,
) -> tuple[Tensor, Tensor]:
    """Advance one layer of a decoder; see `layers.GatedLayer`.

    Args:
        x: float [B, T, C].
        skip_sum: float [B, T, S].
        condition: What the latents add to gates and filters, float [B, L, 2C].
        taps: Of the dilated convolution, float [2C, C, 2].
        taps_bias: float [2C].
        outgoing: Of the residual path and the skip sum, float [C, C, 1] and [S, C, 1].
        outgoing_bias: float [C] and [S].
        dilation: Samples between the taps.

    Returns:
        `x` and `skip_sum` after the layer.
    """
    past = F.pad(x, (0, 0, dilation, -dilation))
    both = F.linear(torch.cat((past, x), 2), _side_by_side(taps), taps_bias)
    gate, filtered = _add_condition(both, condition).chunk(2, dim=2)
    y = F.linear(
        gate.sigmoid() * filtered.tanh(), torch.cat(outgoing).flatten(1), torch.cat(outgoing_bias)
    )
    return x + y[..., : x.shape[2]], skip_sum + y[..., x.shape[2] :]


def _side_by_side(taps: Tensor) -> Tensor:
    """Return a convolution's weights [C_out, C_in, K] as those of a product, [C_out, K C_in]."""
    return taps.transpose(1, 2).flatten(1)


def _pointwise(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a convolution of one tap to float [B, T, C]."""
    return F.linear(x, layer.weight.flatten(1), layer.bias)


def _add_condition(x: Tensor, condition: Tensor) -> Tensor:
    """Add frame-rate values [B, L, C] to sample-rate ones [B, T, C]."""
    batch, n_frames, channels = condition.shape
    framed = x.view(batch, n_frames, -1, channels) + condition.unsqueeze(2)
    return framed.flatten(1, 2)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function compiled, where that is possible."""
    if not any(map(shutil.which, COMPILERS)):
        warnings.warn("no C compiler found: training runs uncompiled", stacklevel=2)
        return function
    return torch.compile(function)
