from __future__ import annotations

import numpy as np
import pytest

from core.metrics.alignment import warping_paths


@pytest.mark.parametrize(("n", "radius"), [(1, 2), (2, 1), (9, 2), (12, 3), (5, 8)])
def test_warping_path_is_the_cheapest_of_all(n, radius):
    rng = np.random.default_rng(n)
    square = rng.random((n, n))
    band = np.full((n, 2 * radius + 1), np.inf)
    total = np.full((n, n), np.inf)
    for i in range(n):
        for j in range(max(0, i - radius), min(n, i + radius + 1)):
            band[i, radius + j - i] = square[i, j]
            before = [total[i - 1, j - 1] + 2 * square[i, j]] if i and j else []
            before += [total[i - 1, j] + square[i, j]] if i else []
            before += [total[i, j - 1] + square[i, j]] if j else []
            total[i, j] = min(before, default=2 * square[i, j])
    decoy = np.where(np.isfinite(band), 0.5, np.inf)
    _, (first, second, weights) = warping_paths(np.stack([decoy, band]))
    assert weights.sum() == 2 * n
    assert (weights * square[first, second]).sum() == pytest.approx(total[-1, -1])
    assert (np.diff(first) + np.diff(second) == weights[1:]).all()
