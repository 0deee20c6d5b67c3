"""Domains, weights, options; both families. Model files have a test of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.errors import UsageError
from core.translator import Translator

from .conftest import DOMAINS, noise


def test_domains_are_sorted_so_that_ids_do_not_depend_on_the_order_given(tiny_spectral):
    one, other = (
        Translator.create(tiny_spectral, names) for names in (["b", "c", "a"], ("c", "a", "b"))
    )
    assert one.domains == other.domains == ("a", "b", "c")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize(
    "name",
    [
        "pop",
        "train",
        "type",
        "keys",
        "forward",
        "élan vital",
        "encoder",
        "networks",
        "training",
        "0",
    ],
)
def test_a_domain_may_be_called_like_anything_of_torch(tiny_spectral, tmp_path, name):
    model = Translator.create(tiny_spectral, [name, "other"])
    model.save(tmp_path / "m.safetensors")
    loaded = Translator.load(tmp_path / "m.safetensors", domains=[name])
    latents = np.zeros((3, loaded.latent_dim), np.float32)
    assert np.array_equal(loaded.decode(latents, to=name), model.decode(latents, to=name))


def test_seed_of_the_weights_repeats_and_differs_and_torchs_state_stays(tiny):
    state = torch.get_rng_state()
    first, same, other = (
        Translator.create(tiny, DOMAINS, seed=seed).encoder.output.weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_domains_in_decomposed_unicode_are_the_same(tiny_spectral):
    model = Translator.create(tiny_spectral, ["fl\u00f6te"]).eval()
    latents = np.zeros((2, model.latent_dim), np.float32)
    assert len(model.decode(latents, to="flo\u0308te")) == 2 * model.hop_length


def test_generation_options_are_filled_in_and_used(wavenet):
    assert wavenet.generation_options({}).temperature == 1.0
    greedy = wavenet.generation_options({"temperature": 0.0})
    latents = noise(2 * wavenet.latent_dim).reshape(2, -1)
    first, other_seed = (
        wavenet.decode(latents, to="piano", seed=seed, options=greedy) for seed in (1, 2)
    )
    assert np.array_equal(first, other_seed)


def test_an_option_of_the_other_family_names_both(spectral):
    with pytest.raises(UsageError, match=r"temperature is an option of wavenet .* is spectral"):
        spectral.generation_options({"temperature": 0.5})


@pytest.mark.parametrize("name", ["wavenet", "spectral"])
def test_an_option_of_no_family_is_wrong_usage(name, request):
    with pytest.raises(UsageError, match="loudness"):
        request.getfixturevalue(name).generation_options({"loudness": 1})


def test_an_impossible_value_of_an_option_is_wrong_usage(wavenet):
    with pytest.raises(UsageError, match=r"temperature=-1"):
        wavenet.generation_options({"temperature": -1.0})


def test_its_repr_tells_family_rate_and_domains_and_no_layers(translator):
    family = translator.config.model.family
    assert repr(translator) == (
        f"Translator(family={family!r}, sample_rate={translator.sample_rate}, "
        "domains=('organ', 'piano'), device='cpu')"
    )
