"""Bits per sample of a small autoregressive model: a baseline for large ones.

Definition: the next code is predicted from the 32 before it, linearly, with weights that minimise
the squared error (Makhoul 1975, "Linear prediction: a tutorial review"). The distribution of the
prediction error is estimated as a table of counts: one row for each of eight levels of the last 16
errors and four regions of the prediction. Everything is fitted to training codes; the figure is the
cross entropy of held-out codes.

Unit: bits per sample. Range: 0 to a little above log2 of the number of classes; lower is better.
A WaveNet that is not below it predicts no better than a linear filter.

Conventions: both inputs need more than 48 codes a row; fewer give None.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

ORDER = 32  # codes that the prediction is made from
MEMORY = 16  # errors whose mean size selects the row of the table
N_LEVELS, N_REGIONS = 8, 4
SMOOTHING = 0.05  # counts that every error has from the start
RIDGE = 1e-6  # of the codes' variance


@dataclass(frozen=True)
class LinearCoder:
    """A fitted predictor with its table of errors.

    Attributes:
        weights: float64 [ORDER + 1], of the codes before, the last one last, and of 1.
        level_edges: float64 [N_LEVELS - 1], between levels of recent errors.
        counts: float64 [N_LEVELS * N_REGIONS, 2 Q - 1], of each error from 1 - Q to Q - 1.
        n_classes: Q.
    """

    weights: torch.Tensor
    level_edges: torch.Tensor
    counts: torch.Tensor
    n_classes: int


def autoregressive_bits(
    training: torch.Tensor, heldout: torch.Tensor, n_classes: int
) -> float | None:
    """Return the bits a sample that a small autoregressive model needs for held-out codes.

    Args:
        training: int64 [N, T], values 0..Q - 1.
        heldout: int64 [M, T'].
        n_classes: Q.
    """
    if min(training.shape[1], heldout.shape[1]) <= ORDER + MEMORY:
        return None
    return cross_entropy_bits(fit(training, n_classes), heldout)


def fit(codes: torch.Tensor, n_classes: int) -> LinearCoder:
    """Fit a coder to codes int64 [N, T]."""
    weights = _least_squares(codes.double() - n_classes / 2)
    predicted, errors = _errors(codes, weights, n_classes)
    sizes = _recent_sizes(errors)
    # Evenly spread quantiles: every level then has enough errors to count.
    places = torch.linspace(0, 1, N_LEVELS + 1, dtype=torch.float64)[1:-1]
    edges = torch.quantile(sizes.flatten()[:: max(1, sizes.numel() // 100_000)], places)
    n_errors = 2 * n_classes - 1
    cells = _contexts(sizes, predicted, edges, n_classes) * n_errors
    cells = cells + errors[:, MEMORY:] + n_classes - 1
    size = N_LEVELS * N_REGIONS * n_errors
    counts = cells.flatten().bincount(minlength=size).double() + SMOOTHING
    return LinearCoder(weights, edges, counts.view(N_LEVELS * N_REGIONS, n_errors), n_classes)


def cross_entropy_bits(coder: LinearCoder, codes: torch.Tensor) -> float:
    """Return the bits a sample of codes int64 [N, T], without the first ones of each row."""
    n_classes = coder.n_classes
    predicted, errors = _errors(codes, coder.weights, n_classes)
    contexts = _contexts(_recent_sizes(errors), predicted, coder.level_edges, n_classes)
    # Only errors that lead to one of the Q codes are possible: those from -p to Q - 1 - p.
    sums = F.pad(coder.counts.cumsum(dim=1), (1, 0))
    lowest = n_classes - 1 - predicted[:, MEMORY:]
    possible = sums[contexts, lowest + n_classes] - sums[contexts, lowest]
    found = coder.counts[contexts, errors[:, MEMORY:] + n_classes - 1]
    return float((possible.log2() - found.log2()).mean())


def _least_squares(values: torch.Tensor) -> torch.Tensor:
    products = torch.zeros(ORDER + 1, ORDER + 1, dtype=torch.float64)
    targets = torch.zeros(ORDER + 1, dtype=torch.float64)
    for row in values:  # one at a time: the pasts of all together are gigabytes
        past = F.pad(row.unfold(0, ORDER, 1)[:-1], (0, 1), value=1.0)
        products += past.T @ past
        targets += past.T @ row[ORDER:]
    ridge = RIDGE * products.diagonal().mean().clamp_min(1e-9)
    eye = torch.eye(ORDER + 1, dtype=torch.float64)
    weights: torch.Tensor = torch.linalg.solve(products + ridge * eye, targets)
    return weights


def _errors(
    codes: torch.Tensor, weights: torch.Tensor, n_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return predicted codes and by how much the true ones differ, int64 [N, T - ORDER] each."""
    values = codes.double() - n_classes / 2
    found = F.conv1d(values[:, None, :-1], weights[None, None, :-1], weights[-1:])[:, 0]
    predicted = (found + n_classes / 2).round().long().clamp(0, n_classes - 1)
    return predicted, codes[:, ORDER:] - predicted


def _recent_sizes(errors: torch.Tensor) -> torch.Tensor:
    """Return the mean size of the errors before each one, float64 [N, T - ORDER - MEMORY]."""
    return F.avg_pool1d(errors[:, :-1].abs().double(), MEMORY, stride=1)


def _contexts(
    sizes: torch.Tensor, predicted: torch.Tensor, edges: torch.Tensor, n_classes: int
) -> torch.Tensor:
    """Return the row of the table that applies to each error."""
    regions = predicted[:, MEMORY:] * N_REGIONS // n_classes
    return torch.bucketize(sizes, edges) * N_REGIONS + regions
