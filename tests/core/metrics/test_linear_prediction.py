from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from core.metrics.linear_prediction import ORDER, autoregressive_bits, cross_entropy_bits, fit

Q = 256


def random_codes(seed: int, n_classes: int = Q, shape: tuple[int, int] = (4, 4000)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(n_classes, shape, generator=generator)


def wave(seed: int) -> torch.Tensor:
    """Return four tones, the same for every seed but for their phases."""
    phases = np.random.default_rng(seed).uniform(0, 6, 4)
    time = np.arange(4000)
    rows = [
        np.sin(2 * np.pi * f * time + phase) * 80 + 128
        for f, phase in zip((0.013, 0.029, 0.041, 0.067), phases, strict=True)
    ]
    return torch.from_numpy(np.round(rows)).long()


def test_noise_costs_what_it_must():
    # Sixteen equally likely codes in the middle: four bits, plus what the table does not know.
    training, heldout = (random_codes(seed, 16) + 120 for seed in (0, 1))
    assert 4 <= autoregressive_bits(training, heldout, Q) < 4.3


def test_what_can_be_predicted_costs_little():
    assert autoregressive_bits(wave(0), wave(1), Q) < 2.5


def test_constant_codes_cost_next_to_nothing():
    silence = torch.full((2, 2000), 128)
    assert autoregressive_bits(silence, silence, Q) < 0.1


def test_codes_never_seen_in_training_are_possible():
    bits = autoregressive_bits(torch.full((1, 500), 128), random_codes(0), Q)
    assert math.isfinite(bits)
    assert bits > 6


def test_probabilities_of_all_codes_sum_to_one():
    coder = fit(wave(0), Q)
    past = wave(2)[:1, : ORDER + 20]
    total = 0.0
    for code in range(Q):
        last = torch.cat([past, torch.tensor([[code]])], dim=1)
        # The mean over the row, times its length, less the same without the last code.
        whole = cross_entropy_bits(coder, last) * (last.shape[1] - ORDER - 16)
        before = cross_entropy_bits(coder, past) * (past.shape[1] - ORDER - 16)
        total += 2 ** -(whole - before)
    assert total == pytest.approx(1, abs=1e-6)


def test_too_few_codes_have_no_figure():
    assert autoregressive_bits(wave(0)[:, :48], wave(1), Q) is None
