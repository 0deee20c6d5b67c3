"""Two channels: the same notes on both, each as loud as the source has it there."""

from __future__ import annotations

import math

import pytest
import torch

from core.families.spectral.decoder import SpectralDecoder, SpectralOptions
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.salience import LOWEST_KEY, N_KEYS
from core.families.spectral.stereo import to_channels, to_mean

SECONDS = 1.0


@pytest.fixture
def config(tiny_spectral):
    return tiny_spectral.model


@pytest.fixture
def encoder(generator, config):
    return SpectralEncoder(config).eval()


@pytest.fixture
def decoder(generator, config):
    return SpectralDecoder(config).eval()


def chord(config, *keys):
    """Notes with eight harmonics, float [T]."""
    n_samples = int(SECONDS * config.sample_rate) // config.hop_length * config.hop_length
    t = torch.arange(n_samples) / config.sample_rate
    hertz = [440 * 2 ** ((key - 69) / 12) for key in keys]
    tones = [(2 * math.pi * h * f * t + h).sin() / h for f in hertz for h in range(1, 9)]
    return 0.2 * torch.stack(tones).sum(0)


def encode(encoder, *channels):
    """Return latents as the decoder takes them, float [L, C, D]."""
    with torch.no_grad():
        return torch.cat(list(encoder.stream(iter([torch.stack(channels).T]), window=1000)))


def play(decoder, *blocks, window=1000):
    with torch.no_grad():
        made = decoder.generate(iter(blocks), window=window, seed=0, options=SpectralOptions())
        return torch.cat(list(made))


def level_db(waveform):
    return 20 * waveform.square().mean(0).sqrt().log10()


def correlation(stereo):
    return torch.corrcoef(stereo.T)[0, 1]


def test_channels_that_are_the_same_give_what_one_gives(decoder, config):
    latents = torch.randn(40, config.latent_dim).tanh()
    both = torch.stack([latents, latents], dim=1)
    mono = play(decoder, latents, window=7)
    stereo = play(decoder, both[:3], both[3:], window=7)
    assert torch.equal(stereo[:, 0], mono)
    assert torch.equal(stereo[:, 1], mono)


def test_generating_two_channels_in_windows_equals_the_whole(decoder, config):
    """Also where the channels are the same at first, and are computed once until then."""
    latents = torch.randn(40, 2, config.latent_dim).tanh()
    latents[:20, 1] = latents[:20, 0]
    whole = play(decoder, latents)
    assert whole.shape == (40 * config.hop_length, 2)
    pieces = play(decoder, latents[:3], latents[3:4], latents[4:], window=5)
    torch.testing.assert_close(pieces, whole, atol=1e-4 * float(whole.abs().max()), rtol=0)
    assert whole.std() > 50 * 1e-4


def test_encoding_channels_that_are_the_same_gives_the_latents_of_one(encoder, config):
    waveform = chord(config, 60, 67)
    latents = encode(encoder, waveform, waveform)
    with torch.no_grad():
        mono = encoder(waveform.unsqueeze(0))[0]
    for channel in latents.unbind(1):
        torch.testing.assert_close(channel, mono, atol=1e-4, rtol=0)


def test_the_mean_of_channels_is_what_they_were_made_from(generator, config):
    latents = torch.rand(1, 5, config.latent_dim) - 0.5
    mean, sides = to_mean(to_channels(latents, torch.rand(2, 5, N_KEYS)))
    torch.testing.assert_close(mean, latents, atol=1e-5, rtol=0)
    power = 10 ** (4 * sides)  # 40 dB a unit
    torch.testing.assert_close(power.mean(0), torch.ones(5, N_KEYS), atol=1e-4, rtol=0)


@pytest.mark.parametrize("gain", [1.0, 0.5, 0.1])
def test_a_note_keeps_its_place_between_the_channels(encoder, decoder, config, gain):
    waveform = chord(config, 60)
    stereo = play(decoder, encode(encoder, waveform, gain * waveform))
    assert correlation(stereo) > 0.99
    left, right = level_db(stereo)
    assert float(left - right) == pytest.approx(-20 * math.log10(gain), abs=1)


def test_channels_of_opposite_polarity_lose_nothing(encoder, decoder, config):
    waveform = chord(config, 60)
    same, opposite = (play(decoder, encode(encoder, waveform, x)) for x in (waveform, -waveform))
    torch.testing.assert_close(same, opposite, atol=1e-3, rtol=0)
    assert same.std() > 50 * 1e-3


def test_notes_of_one_side_are_heard_there_alone(encoder, decoder, config):
    low, high = 57, 66
    latents = encode(encoder, chord(config, low), chord(config, high))
    presence = latents[3:-3, :, [low - LOWEST_KEY, high - LOWEST_KEY]].atanh().mean(0)
    assert presence[0, 0] - presence[1, 0] > 0.5  # 20 dB
    assert presence[1, 1] - presence[0, 1] > 0.5
    silent = play(
        decoder, encode(encoder, chord(config, low), torch.zeros_like(chord(config, low)))
    )
    left, right = level_db(silent)
    assert left - right > 30
