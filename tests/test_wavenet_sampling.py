"""Sampling from the WaveNet family: the same weights step by step, and the draws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.config import get_preset
from core.errors import UsageError
from core.families.wavenet import mulaw, sampling
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.sampling import Sampler, WaveNetOptions, choose, draws


@pytest.fixture
def model(tiny):
    """The tiny configuration with 50 samples a frame: shorter than its memory of 64."""
    return replace(tiny.model, hop_length=50)


@pytest.fixture
def decoder(generator, model):
    return WaveNetDecoder(model)


def generate(decoder, *blocks, seed=0, temperature=1.0):
    options = WaveNetOptions(temperature)
    return torch.cat(list(decoder.generate(iter(blocks), seed=seed, options=options)))


def teacher_forced_and_stepped(decoder, latents, monkeypatch):
    """Return both modes' logits, float [T, Q], for the same random codes."""
    codes = torch.randint(256, (len(latents) * decoder.hop_length,))
    stepped = []

    def forced(logits, *_):
        stepped.append(logits.clone())
        return codes[len(stepped) - 1]

    monkeypatch.setattr(sampling, "choose", forced)
    half = len(latents) // 2
    assert torch.equal(generate(decoder, latents[:half], latents[half:]), mulaw.decode(codes))
    with torch.no_grad():
        whole = decoder(codes.unsqueeze(0), latents.unsqueeze(0))[0].T
    return whole, torch.stack(stepped)


def test_stepping_gives_the_teacher_forced_logits(decoder, model, monkeypatch):
    latents = torch.randn(8, model.latent_dim)
    whole, stepped = teacher_forced_and_stepped(decoder, latents, monkeypatch)
    torch.testing.assert_close(stepped, whole, atol=1e-4, rtol=0)
    assert whole.std() > 100 * 1e-4


def test_stepping_gives_the_teacher_forced_logits_at_the_papers_depth(generator, monkeypatch):
    paper = get_preset("paper").model
    narrow = {"residual_channels": 4, "skip_channels": 3, "latent_dim": 2, "hop_length": 270}
    decoder = WaveNetDecoder(replace(paper, **narrow))
    latents = torch.randn(4, 2)  # 1080 samples: every ring has gone round, the longest twice
    whole, stepped = teacher_forced_and_stepped(decoder, latents, monkeypatch)
    torch.testing.assert_close(stepped, whole, atol=1e-4, rtol=0)
    assert whole.std() > 100 * 1e-4


def test_samples_do_not_depend_on_how_latents_are_cut(decoder, model):
    latents = torch.randn(6, model.latent_dim)
    whole = generate(decoder, latents)
    assert whole.shape == (300,)
    assert torch.equal(whole, generate(decoder, latents[:1], latents[1:3], latents[3:]))


def test_a_shorter_input_gives_the_beginning_of_a_longer_ones_samples(decoder, model):
    latents = torch.randn(4, model.latent_dim)
    assert torch.equal(generate(decoder, latents)[:100], generate(decoder, latents[:2]))


def test_samples_come_before_the_next_latents_are_read(decoder, model):
    def blocks():
        yield torch.zeros(1, model.latent_dim)
        raise AssertionError("read ahead")

    assert len(next(decoder.generate(blocks(), seed=0, options=WaveNetOptions()))) == 50


def test_seeds_repeat_and_differ(decoder, model):
    latents = torch.randn(2, model.latent_dim)
    first = generate(decoder, latents, seed=1)
    assert torch.equal(first, generate(decoder, latents, seed=1))
    assert not torch.equal(first, generate(decoder, latents, seed=2))


def test_torchs_own_random_numbers_play_no_part(decoder, model):
    latents = torch.randn(2, model.latent_dim)
    first = generate(decoder, latents)
    state = torch.get_rng_state()
    assert torch.equal(generate(decoder, latents), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_sampling_leaves_weights_and_gradients_alone(decoder, model):
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    assert not generate(decoder, torch.randn(1, model.latent_dim)).requires_grad
    torch.testing.assert_close(dict(decoder.state_dict()), before, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in decoder.parameters())


def test_temperature_zero_takes_the_likeliest_code(decoder, model, monkeypatch):
    latents, likeliest = torch.randn(2, model.latent_dim), []

    def watched(logits, uniform, temperature):
        likeliest.append(int(logits.argmax()))
        return choose(logits, uniform, temperature)

    monkeypatch.setattr(sampling, "choose", watched)
    samples = generate(decoder, latents, temperature=0)
    assert mulaw.encode(samples).tolist() == likeliest
    assert torch.equal(samples, generate(decoder, latents, temperature=0, seed=9))


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (7, 3)])
def test_sample_n_is_drawn_with_number_n_of_its_stream(decoder, model, monkeypatch, seed, stream):
    used = []

    def watched(logits, uniform, temperature):
        used.append(uniform)
        return choose(logits, uniform, temperature)

    monkeypatch.setattr(sampling, "choose", watched)
    sampler = Sampler(decoder, seed=seed, stream=stream)
    for frame in torch.randn(3, model.latent_dim):
        sampler.advance(frame)
    assert used == draws(seed, stream, 0, 150).tolist()


@pytest.mark.parametrize("start", [0, 1, 4, 50, 798, 800, 10**12])
def test_draws_do_not_depend_on_where_reading_starts(start):
    assert np.array_equal(draws(5, 0, start, 9)[2:], draws(5, 0, start + 2, 7))


def test_draws_of_an_earlier_version_are_drawn_again():
    """A seed names a result for good; these numbers were drawn by the first version."""
    expected = [0.8720734548204873, 0.29536538151378355]
    assert draws(7, 0, 0, 2) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**64 - 1])
@pytest.mark.filterwarnings("error")
def test_any_seed_can_be_used_and_gives_draws_of_its_own(seed):
    drawn = draws(seed, 0, 0, 8)
    assert ((drawn >= 0) & (drawn < 1)).all()
    for other in [(seed + 1, 0), (seed - 1, 0), (seed, 1)]:
        assert not np.intersect1d(drawn, draws(*other, 0, 8)).size


def test_draws_are_uniform():
    counts, _ = np.histogram(draws(0, 0, 0, 64_000), bins=64, range=(0, 1))
    assert np.sum((counts - 1000) ** 2 / 1000) < 63 + 5 * math.sqrt(2 * 63)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_drawn_frequencies_follow_the_softmax(temperature):
    logits = torch.tensor([0.0, 2.0, -1.0, -math.inf, 1.0, 1.5, -4.0, 0.5])
    wanted = 4000 * (logits / temperature).softmax(0).numpy()
    codes = [int(choose(logits, u, temperature)) for u in draws(3, 0, 0, 4000)]
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
    assert 7 <= int(choose(logits, uniform, temperature)) < 250


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf])
def test_impossible_temperatures_are_wrong_usage(temperature):
    with pytest.raises(UsageError, match=r"temperature=.*expected a number from 0 up"):
        WaveNetOptions(temperature)
