"""How far the timbre of some audio is from a domain's training audio, in embedding space.

Definition: the windows of the audio and of the domain are embedded by the timbre classifier (16
values in [-1, 1] each), and the two sets of embeddings are compared as distributions.

`frechet_distance`: between the two Gaussians with the sets' means and covariances. Fréchet 1957;
    Heusel et al. 2017; Kilgour et al. 2019, "Fréchet audio distance". From 0, lower is better. It
    is biased: few windows look further away than many of the same sound, so compare only figures
    from equally long audio.
`kernel_distance`: unbiased squared maximum mean discrepancy, with a Gaussian kernel whose width is
    the median distance within the domain. Gretton et al. 2012, "A kernel two-sample test"; Chung et
    al. 2025. About 0 (at times slightly below) to 2, lower is better; its mean does not depend on
    the number of windows.

Conventions: fewer than 8 windows (9 s of sound) give None.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_WINDOWS = 8

QualityRange = tuple[float, float, float]  # 5th, 50th and 95th percentile


@dataclass(frozen=True)
class DomainReference:
    """Statistics of a domain's training audio.

    Attributes:
        mean: float32 [16], of the embeddings of its windows.
        covariance: float32 [16, 16], of the same.
        samples: float32 [N, 16], some of these embeddings.
        rolloff_hz: Frequency below which 99 % of its energy lies.
        quality: The 5th, 50th and 95th percentile of each figure of `core.metrics.quality` over
            excerpts of 10 s; a figure that no excerpt has is missing.
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    samples: torch.Tensor
    rolloff_hz: float
    quality: Mapping[str, QualityRange]

    @cached_property
    def kernel_width(self) -> float:
        """Median distance between two of its samples."""
        return float(torch.pdist(self.samples.double()).median().clamp_min(1e-6))

    @cached_property
    def kernel_mean(self) -> float:
        """Mean kernel value of two different samples."""
        samples = self.samples.double()
        return _mean_off_diagonal(_gaussian_kernel(samples, samples, self.kernel_width))


def frechet_distance(embeddings: torch.Tensor, reference: DomainReference) -> float | None:
    """Return the Fréchet distance of embeddings [N, 16] to a domain; None for N < 8."""
    if len(embeddings) < MIN_WINDOWS:
        return None
    values = embeddings.double()
    mean, covariance = values.mean(dim=0), values.T.cov()
    shift = (mean - reference.mean.double()).square().sum()
    # The trace of the root of a product of covariances is the sum of the roots of the
    # eigenvalues of the same product written symmetrically.
    root = _symmetric_root(reference.covariance.double())
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp_min(0).sqrt().sum()
    traces = covariance.trace() + reference.covariance.double().trace()
    return max(0.0, float(shift + traces - 2 * cross))


def kernel_distance(embeddings: torch.Tensor, reference: DomainReference) -> float | None:
    """Return the squared maximum mean discrepancy of embeddings [N, 16] to a domain."""
    if min(len(embeddings), len(reference.samples)) < MIN_WINDOWS:
        return None
    values, samples = embeddings.double(), reference.samples.double()
    width = reference.kernel_width
    within = _mean_off_diagonal(_gaussian_kernel(values, values, width)) + reference.kernel_mean
    return within - 2 * float(_gaussian_kernel(values, samples, width).mean())


def _symmetric_root(matrix: torch.Tensor) -> torch.Tensor:
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    root: torch.Tensor = (vectors * eigenvalues.clamp_min(0).sqrt()) @ vectors.T
    return root


def _gaussian_kernel(first: torch.Tensor, second: torch.Tensor, width: float) -> torch.Tensor:
    """Return the kernel values [N, M] of embeddings [N, 16] and [M, 16]."""
    return torch.exp(-0.5 * (torch.cdist(first, second) / width).square())


def _mean_off_diagonal(matrix: torch.Tensor) -> float:
    """Return the mean of a matrix [N, N] without its diagonal."""
    n = len(matrix)
    return float(matrix.sum() - matrix.diagonal().sum()) / (n * (n - 1))
