"""Whether a translation sounds like its target: what an independent classifier hears.

The classifier is small, reads features of audio (`core.metrics.timbre_features`) and never saw the
translating model: it is trained on the same prepared recordings (`core.metrics.timbre_training`),
not on the model's latents, and no model is trained against it.

`target_probability`: probability of the target domain, mean over windows of two seconds; 0 to 1,
    higher is better. `source_probability`: the same of the domain that the source is in, lower is
    better. Chance is one over the number of domains.
`frechet_distance`: of the windows' embedding (16 values in [-1, 1]) to that of the target domain's
    training audio, each taken as a Gaussian. Fréchet 1957; Heusel et al. 2017; Kilgour et al. 2019,
    "Fréchet audio distance". From 0, lower is better. Few windows look further away than many of
    the same sound: compare only figures from equally long audio.
`kernel_distance`: unbiased squared maximum mean discrepancy of the same embeddings, Gaussian kernel
    with the reference's median distance as its width. Gretton et al. 2012, "A kernel two-sample
    test"; Chung et al. 2025. About 0 (at times a little below) to 2, lower is better; its mean does
    not depend on the number of windows.

How well each figure tells the target from the source is in `docs/evaluation.md`, and that smeared
sound is still heard as its instrument half of the time: whether sound is clean is for
`core.metrics.quality` to say.

What a classifier hears is its training audio: on rendered data a sound from a SoundFont that it
never met may be called by another name. Every figure needs yardsticks next to it: the true target's
and the untranslated copy's.

Silence and less than 0.25 s have no windows: every value is None. The two distances need at least 8
windows, 9 s of sound, else they are None.
"""

from __future__ import annotations

import torch

from core.metrics.timbre_classifier import (
    DomainReference,
    TimbreClassifier,
    gaussian_kernel,
    mean_off_diagonal,
)

__all__ = ["DomainReference", "TimbreClassifier", "frechet_distance", "kernel_distance"]

MIN_WINDOWS = 8


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


def _symmetric_root(matrix: torch.Tensor) -> torch.Tensor:
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    root: torch.Tensor = (vectors * eigenvalues.clamp_min(0).sqrt()) @ vectors.T
    return root


def kernel_distance(embeddings: torch.Tensor, reference: DomainReference) -> float | None:
    """Return the squared maximum mean discrepancy of embeddings [N, 16] to a domain."""
    if min(len(embeddings), len(reference.samples)) < MIN_WINDOWS:
        return None
    values, samples = embeddings.double(), reference.samples.double()
    width = reference.kernel_width
    within = mean_off_diagonal(gaussian_kernel(values, values, width)) + reference.likeness_within
    return within - 2 * float(gaussian_kernel(values, samples, width).mean())
