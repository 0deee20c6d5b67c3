"""The draws of the WaveNet family: numbers by counter, codes by inverting the distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from core.families.wavenet.sampling.engine import choose, draw_uniforms


@pytest.mark.parametrize("start", [0, 1, 4, 50, 798, 800, 10**12])
def test_draws_do_not_depend_on_where_reading_starts(start):
    assert np.array_equal(draw_uniforms(5, 0, start, 9)[2:], draw_uniforms(5, 0, start + 2, 7))


def test_draws_of_an_earlier_version_are_drawn_again():
    """A seed names a result for good; these numbers were drawn by the first version."""
    expected = [0.8720734548204873, 0.29536538151378355]
    assert draw_uniforms(7, 0, 0, 2) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**64 - 1])
@pytest.mark.filterwarnings("error")
def test_any_seed_can_be_used_and_gives_draws_of_its_own(seed):
    drawn = draw_uniforms(seed, 0, 0, 8)
    assert ((drawn >= 0) & (drawn < 1)).all()
    for other in [(seed + 1, 0), (seed - 1, 0), (seed, 1)]:
        assert not np.intersect1d(drawn, draw_uniforms(*other, 0, 8)).size


def test_draws_are_uniform():
    counts, _ = np.histogram(draw_uniforms(0, 0, 0, 64_000), bins=64, range=(0, 1))
    assert np.sum((counts - 1000) ** 2 / 1000) < 63 + 5 * math.sqrt(2 * 63)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_drawn_frequencies_follow_the_softmax(temperature):
    logits = torch.tensor([0.0, 2.0, -1.0, -math.inf, 1.0, 1.5, -4.0, 0.5])
    wanted = 4000 * (logits / temperature).softmax(0).numpy()
    uniform = torch.from_numpy(draw_uniforms(3, 0, 0, 4000))
    codes = choose(logits.expand(4000, 8), uniform, temperature)
    counts = np.bincount(codes, minlength=8)
    assert counts[3] == 0
    possible = wanted > 0
    chi_square = np.sum((counts - wanted)[possible] ** 2 / wanted[possible])
    assert chi_square < 6 + 5 * math.sqrt(2 * 6)


@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_extreme_draws_and_temperatures_give_a_possible_code(uniform, temperature):
    logits = torch.full((256,), -math.inf)
    logits[7:250] = 0.0
    drawn = choose(logits, torch.tensor(uniform, dtype=torch.float64), temperature)
    assert 7 <= int(drawn) < 250
