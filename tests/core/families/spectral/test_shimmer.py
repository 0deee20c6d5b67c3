"""How far the levels of partials sway: what is played, and how it is measured."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from core.families.spectral.shimmer import BAND_EDGES_HZ, Shimmer

RATE, N_FFT, FRAME = 44100, 2048, 512
N_PARTIALS = 464
N_BANDS = len(BAND_EDGES_HZ) + 1
SECONDS = 3


@pytest.fixture
def shimmer():
    return Shimmer(RATE, N_FFT, FRAME, N_PARTIALS).requires_grad_(False)


def of_depth(shimmer, depth):
    shimmer.power.fill_(depth**2)
    return shimmer


def note(shimmer, depth, *, decay=0.0, fundamental=220.0):
    """Return a note whose partials sway by so many nepers and die away, float [1, T]."""
    time = torch.arange(SECONDS * RATE) / RATE
    gains = of_depth(shimmer, depth)(shimmer.draw(1), 0, SECONDS * RATE // FRAME + 1)
    total = torch.zeros_like(time)
    for number in range(1, 13):
        own = gains[:, round(number * fundamental * N_FFT / RATE) - 1]
        own = F.interpolate(own.view(1, 1, -1), size=len(time), mode="linear").flatten()
        total += own * (2 * math.pi * number * fundamental * time).sin() / number
    return 0.1 * (total * torch.exp(-decay * time)).unsqueeze(0)


def test_levels_sway_by_the_depth_and_keep_their_power(shimmer):
    gains = of_depth(shimmer, 0.3)(shimmer.draw(0), 0, shimmer.n_period)
    assert gains.log().std(dim=0).mean().item() == pytest.approx(0.3, rel=0.05)
    assert gains.square().mean().item() == pytest.approx(1, rel=0.05)
    assert (of_depth(shimmer, 0.0)(shimmer.draw(0), 0, 50) == 1).all()


def test_each_band_has_a_depth_of_its_own(shimmer):
    shimmer.power[2] = 0.04
    spread = shimmer(shimmer.draw(0), 0, 500).std(dim=0)
    hertz = torch.arange(1, N_PARTIALS + 1) * RATE / N_FFT
    is_inside = (hertz >= BAND_EDGES_HZ[1]) & (hertz < BAND_EDGES_HZ[2])
    assert (spread[is_inside] > 0.1).all()
    assert (spread[~is_inside] == 0).all()


def test_gains_do_not_depend_on_blocks_and_follow_the_seed(shimmer):
    of_depth(shimmer, 0.3)
    whole = shimmer(shimmer.draw(5), 0, 40)
    parts = [shimmer(shimmer.draw(5), first, 10) for first in (0, 10, 20, 30)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(shimmer(shimmer.draw(5), shimmer.n_period, 40), whole)
    assert not torch.allclose(shimmer(shimmer.draw(6), 0, 40), whole, atol=0.1)
    assert not torch.allclose(shimmer.draw(2**63 + 5), shimmer.draw(2**63 + 6), atol=0.1)


def test_neighbours_sway_alike_and_distant_partials_do_not(shimmer):
    """A partial that glides passes from one oscillator to the next."""
    levels = of_depth(shimmer, 0.3)(shimmer.draw(0), 0, shimmer.n_period).log()
    alike = torch.corrcoef(levels[:, [100, 101, 120, 200, 300]].T)[0]
    assert alike[1] > 0.9
    assert alike[2:].abs().max() < 0.3


def test_what_is_measured_grows_with_the_depth(shimmer):
    found = [shimmer.measure(note(shimmer, depth))[0] for depth in (0.0, 0.15, 0.3)]
    steady, some, more = (own[:3].sqrt() for own in found)  # few partials lie in the last band
    assert steady.max() < 1e-3
    torch.testing.assert_close(more / some, torch.full((3,), 2.0), atol=0.5, rtol=0)


def test_a_note_that_dies_away_does_not_sway(shimmer):
    found = shimmer.measure(note(shimmer, 0.0, decay=4.0))[0]
    assert found[:3].sqrt().max() < 0.01


def test_silence_and_what_is_too_short_say_nothing(shimmer):
    assert shimmer.measure(torch.zeros(2, RATE)).isnan().all()
    assert shimmer.measure(torch.zeros(2, RATE // 10)).isnan().all()


@pytest.mark.parametrize(("own", "wanted", "sign"), [(0.3, 0.1, 1), (0.1, 0.3, -1), (0.0, 0.3, -1)])
def test_depths_move_towards_those_of_the_recording(shimmer, own, wanted, sign):
    output, recording = note(shimmer, own), note(shimmer, wanted)
    of_depth(shimmer, own).requires_grad_()
    shimmer.loss(output, recording).backward()
    assert (shimmer.power.grad[:3].sign() == sign).all()


def test_a_steady_partial_cannot_become_steadier(shimmer):
    output, recording = note(shimmer, 0.2), note(shimmer, 0.0)
    of_depth(shimmer, 0.0).requires_grad_()
    shimmer.loss(output, recording).backward()
    assert (shimmer.power.grad == 0).all()
