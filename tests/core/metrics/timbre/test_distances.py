from __future__ import annotations

import pytest
import torch

from core.metrics import timbre


def test_distances_of_known_gaussians():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(4_000, 16, generator=generator) * 0.1
    reference = timbre.DomainReference(
        samples.mean(dim=0), samples.T.cov(), samples[:256], 4_000.0, {}
    )
    shifted = torch.randn(4_000, 16, generator=generator) * 0.2 + 0.3
    # Equal axes: sum over 16 of (difference of means)^2 + (difference of deviations)^2.
    expected = 16 * (0.3**2 + 0.1**2)
    assert timbre.frechet_distance(shifted, reference) == pytest.approx(expected, rel=0.02)
    assert timbre.frechet_distance(samples, reference) == pytest.approx(0, abs=1e-3)
    near, far = (timbre.kernel_distance(x[:500], reference) for x in (samples[999:], shifted))
    assert near == pytest.approx(0, abs=0.01)
    assert far > 0.5
