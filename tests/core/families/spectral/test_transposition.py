"""Latents moved by semitones: what one key says, another one says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import UsageError
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.salience import LOWEST_KEY, N_KEYS
from core.families.spectral.transposition import transpose


@pytest.fixture
def config(tiny_spectral):
    return tiny_spectral.model


@pytest.mark.parametrize("semitones", [-48, -1, 1, 12, 48])
def test_all_channels_of_a_key_move_and_no_others(config, semitones):
    latents = torch.rand(5, 2, config.latent_dim)
    moved = transpose(latents, config, semitones)
    n_kinds = 3 if config.pitch_latents else 2
    up, down = max(semitones, 0), max(-semitones, 0)
    for kind in range(n_kinds):
        before, after = (x[..., kind * N_KEYS : (kind + 1) * N_KEYS] for x in (latents, moved))
        kept = after[..., up : N_KEYS - down]
        assert torch.equal(kept, before[..., down : N_KEYS - up])
    assert torch.equal(moved[..., n_kinds * N_KEYS :], latents[..., n_kinds * N_KEYS :])


def test_keys_that_move_in_are_as_in_silence(config):
    encoder = SpectralEncoder(config).eval()
    with torch.no_grad():
        silent = encoder(torch.zeros(1, 10 * config.hop_length))[0, 5]
    moved = transpose(torch.rand(config.latent_dim), config, 7)
    n_kinds = 3 if config.pitch_latents else 2
    for kind in range(n_kinds):
        keys = slice(kind * N_KEYS, kind * N_KEYS + 7)
        torch.testing.assert_close(moved[keys], silent[keys], atol=0.02, rtol=0)


def test_a_fraction_moves_pitches(config):
    assert config.pitch_latents
    latents = torch.rand(4, config.latent_dim) - 0.5
    moved = transpose(latents, config, 1.25)
    pitch = slice(2 * N_KEYS + 1, 3 * N_KEYS)
    expected = latents[:, pitch.start - 1 : pitch.stop - 1] + 0.25
    torch.testing.assert_close(moved[:, pitch], expected)
    assert torch.equal(moved[:, 1:N_KEYS], latents[:, : N_KEYS - 1])


def test_what_cannot_be_is_named(config):
    latents = torch.zeros(1, config.latent_dim)
    for semitones in (49, float("nan")):
        with pytest.raises(UsageError, match="from -48 to 48"):
            transpose(latents, config, semitones)
    with pytest.raises(UsageError, match="whole semitones"):
        transpose(latents, replace(config, pitch_latents=False), 0.5)


@pytest.mark.parametrize("semitones", [-5, 7])
def test_a_note_moves_to_its_key(config, semitones):
    encoder = SpectralEncoder(config).eval()
    time = torch.arange(40 * config.hop_length) / config.sample_rate
    tone = 0.3 * torch.sin(2 * np.pi * 440 * time)
    with torch.no_grad():
        latents = encoder(tone.unsqueeze(0))[0]
    presence = transpose(latents, config, semitones)[20, :N_KEYS]
    assert int(presence.argmax()) == 69 + semitones - LOWEST_KEY
