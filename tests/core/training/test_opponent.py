"""The adversary of the decoders: whom each phase moves, and what a checkpoint keeps of it."""

from __future__ import annotations

import copy

import pytest
import torch

from core.errors import UsageError
from core.families.spectral.discriminators import SpectrogramDiscriminators

from .conftest import make_loop, spectral_config, store_music, tiny_config


@pytest.fixture
def duel(tmp_path):
    """Make loops, all of the same seed, whose adversary begins at step 1."""
    domains = store_music(tmp_path / "data", bass=2.0, reed=2.0, sample_rate=44100)

    def make(**training):
        config = spectral_config(**({"adversarial_weight": 1.0, "adversarial_start": 1} | training))
        return make_loop(config, domains, tmp_path / "run")

    return make


def weights(module):
    return torch.cat([tensor.flatten().clone() for tensor in module.state_dict().values()])


def test_adversary_sleeps_until_its_step_and_then_learns(duel):
    loop = duel()
    adversary = loop.updater.opponent.adversary
    before = weights(adversary)
    figures = loop.updater.update(loop.batches[0], 0)
    assert torch.equal(weights(adversary), before)
    assert "adversary/loss" not in figures
    figures = loop.updater.update(loop.batches[1], 1)
    assert not torch.equal(weights(adversary), before)
    assert 0 < figures["adversary/loss"] < 10


def test_decoders_phase_does_not_move_the_adversary(duel):
    loop = duel()
    opponent = loop.updater.opponent
    moments = []
    step = opponent.optimizer.step

    def remember():
        step()
        moments.append(weights(opponent.adversary))

    opponent.optimizer.step = remember
    loop.updater.update(loop.batches[1], 1)
    assert torch.equal(weights(opponent.adversary), moments[0])


def test_its_term_reaches_decoder_and_encoder_with_its_weight(duel):
    found = []
    for weight in (0.0, 1.0, 2.0):
        loop = duel(adversarial_weight=weight, clip_norm=0.0)
        optimizers = [loop.updater.optimizer, loop.updater.classifier_optimizer]
        optimizers += [loop.updater.opponent.optimizer] if weight else []
        for optimizer in optimizers:
            optimizer.step = lambda: None
        loop.updater.update(loop.batches[1], 1)
        parts = (loop.model.encoder, loop.model.decoders)
        found.append([torch.cat([p.grad.flatten() for p in part.parameters()]) for part in parts])
    for without, once, twice in zip(*found, strict=True):
        assert (once - without).norm() > 0.01 * without.norm()
        torch.testing.assert_close(twice - once, once - without, rtol=1e-2, atol=1e-4)


def test_domains_are_judged_apart(tiny_spectral, generator):
    adversary = SpectrogramDiscriminators(tiny_spectral.model, 2)
    output, waveform = torch.randn(2, 2, 6000) / 10
    first, second = (adversary.loss(output, waveform, domain_id) for domain_id in (0, 1))
    assert first != second


def test_adversary_learns_to_tell_noise_from_tones(tiny_spectral, generator):
    adversary = SpectrogramDiscriminators(tiny_spectral.model, 1)
    optimizer = torch.optim.Adam(adversary.parameters(), lr=3e-3)
    time = torch.arange(6000) / 8000
    tones = torch.stack([(2 * torch.pi * hz * time).sin() / 10 for hz in (220, 330, 500, 700)])
    for _ in range(40):
        optimizer.zero_grad()
        loss = adversary.loss(torch.randn(4, 6000) / 14, tones, 0)
        loss.backward()
        optimizer.step()
    assert loss < 0.1  # 0.5 is guessing
    noise, tone = torch.randn(4, 6000) / 14, tones.flip(0)
    assert adversary.opposing_loss(noise, tones, 0) > 2 * adversary.opposing_loss(tone, tones, 0)


def test_a_family_without_adversary_refuses_the_weight_by_name(tmp_path):
    domains = store_music(tmp_path / "data", bass=4.0, reed=4.0)
    with pytest.raises(UsageError, match=r"adversarial_weight = 0\.1: expected 0, because the fam"):
        make_loop(tiny_config(adversarial_weight=0.1), domains, tmp_path / "run")


def test_checkpoint_keeps_networks_and_optimizer(duel):
    loop, resumed = duel(), duel()
    loop.updater.update(loop.batches[1], 1)
    state = copy.deepcopy(loop.updater.state_dict())
    resumed.model.load_state_dict(loop.model.state_dict())
    resumed.updater.load_state_dict(state)
    for one in (loop, resumed):
        one.updater.update(one.batches[2], 2)
    adversaries = (loop.updater.opponent.adversary, resumed.updater.opponent.adversary)
    assert torch.equal(*map(weights, adversaries))
