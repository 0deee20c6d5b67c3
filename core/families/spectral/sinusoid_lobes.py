"""Windowed sinusoids in the frequency domain, for the spectral family's synthesizer.

The transform of a sinusoid under a Gaussian window is a Gaussian lobe around its frequency, so
a few bins make a sinusoid. Apart from `synthesizer`, because its gradient is written by hand.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator

REACH = 5  # bins to either side that a sinusoid's lobe extends to
LARGEST_DEVIATION = 2.0  # bins; a lobe's edge is then below 2 % of its middle


def sum_lobes(phasors: Tensor, deviation: Tensor, width_bins: float) -> Tensor:
    """Return the spectrum of a bank of sinusoids: the sum of their lobes.

    Args:
        phasors: Real and imaginary parts of the oscillators, float [2, ..., S].
        deviation: Of each from its bin, in bins, float [..., S], -2..2.
        width_bins: Standard deviation of a lobe.

    Returns:
        float [2, ..., S + 2 * REACH]: the lobe of oscillator i is centred on i + REACH. Its
        sign alternates from bin to bin, which puts the window's middle into the middle of the
        inverse FFT's output.
    """
    deviation = deviation.to(phasors.dtype)
    if not (phasors.requires_grad or deviation.requires_grad):
        return _sum(phasors, deviation, width_bins)
    spectrum: Tensor = _Lobes.apply(  # type: ignore[no-untyped-call]
        phasors, deviation, width_bins
    )
    return spectrum


def _sum(phasors: Tensor, deviation: Tensor, width_bins: float) -> Tensor:
    n_partials = phasors.shape[-1]
    total = phasors.new_zeros(*phasors.shape[:-1], n_partials + 2 * REACH)
    for offset, weights, factor in _weights(deviation, width_bins):
        place = REACH + offset
        total[..., place : place + n_partials].addcmul_(phasors, weights, value=factor)
    return total


class _Lobes(torch.autograd.Function):
    """The sum of eleven shifted products, which autograd would keep one by one."""

    @staticmethod
    def forward(ctx: Any, phasors: Tensor, deviation: Tensor, width_bins: float) -> Tensor:
        """Return the spectrum; see `sum_lobes`."""
        ctx.save_for_backward(phasors, deviation)
        ctx.width_bins = width_bins
        return _sum(phasors, deviation, width_bins)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of phasors and deviation."""
        phasors, deviation = ctx.saved_tensors
        (gradient,) = gradients
        n_partials = phasors.shape[-1]
        of_phasors, moment = torch.zeros_like(phasors), torch.zeros_like(phasors)
        for offset, weights, factor in _weights(deviation, ctx.width_bins):
            place = REACH + offset
            weighted = gradient[..., place : place + n_partials] * weights
            of_phasors.add_(weighted, alpha=factor)
            moment.add_(weighted, alpha=offset * factor)
        # A lobe's weight at an offset grows by (offset - deviation) / width^2 of itself.
        pull = phasors * moment.addcmul_(of_phasors, deviation, value=-1)
        return of_phasors, pull.sum(0) / ctx.width_bins**2, None


def _weights(deviation: Tensor, width_bins: float) -> Iterator[tuple[int, Tensor, float]]:
    """Yield the bins that a lobe extends to, and its signed values there.

    exp(-(j - d)^2 / 2w^2) is a product of powers: two exponentials serve all bins j.

    Yields:
        j, and two factors of the value: float [..., S], overwritten by the next, and a number.
    """
    variance = width_bins**2
    step = torch.exp(deviation / variance)
    power = torch.exp(-deviation * (deviation / 2 + REACH) / variance)
    for offset in range(-REACH, REACH + 1):
        yield offset, power, (-1) ** offset * math.exp(-(offset**2) / (2 * variance))
        power.mul_(step)
