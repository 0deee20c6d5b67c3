"""The piano's keys in the spectral family: as the encoder finds them and the decoder plays them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.families.spectral.decoder import SpectralDecoder
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.salience import (
    LOWEST_KEY,
    N_KEYS,
    PitchGrid,
    Salience,
    fft_length,
    harmonics_of,
    key_to_hz,
)
from core.metrics.tones import INSTRUMENTS, synthesize
from core.presets import get_preset
from core.translator import Translator

RATE = 44100


@pytest.fixture
def config():
    """The real frames and windows, with few channels."""
    names = ("encoder_channels", "encoder_hidden", "decoder_channels", "decoder_hidden")
    few = dict.fromkeys(names, 4) | {"encoder_layers": 1, "decoder_layers": 1}
    return get_preset("fast").updated("model", **few).model


@pytest.fixture
def untrained(config):
    """The same with a search for notes that is not trained."""
    return replace(config, pretrained_salience=False)


def tone(key, n_samples=32 * 1024, level=0.3):
    hertz = key_to_hz(torch.tensor(float(key)))
    return level * torch.sin(2 * math.pi * hertz / RATE * torch.arange(n_samples)).unsqueeze(0)


def test_keys_are_tuned_to_a440():
    keys = torch.tensor([21, 57, 69, 70])
    expected = torch.tensor([27.5, 220.0, 440.0, 440 * 2 ** (1 / 12)])
    torch.testing.assert_close(key_to_hz(keys), expected)


@pytest.mark.parametrize("key", [57, 69, 84])
def test_an_untrained_encoder_finds_the_onset_of_a_key(generator, untrained, key):
    silence = torch.zeros(1, 20 * 1024)
    with torch.no_grad():
        latents = SpectralEncoder(untrained).eval()(torch.cat([silence, tone(key)], dim=1))[0]
    onsets = latents[:, N_KEYS : 2 * N_KEYS]
    first, found = divmod(int(onsets.argmax()), N_KEYS)
    assert found + LOWEST_KEY in (key, key + 12, key + 19)  # a click has all frequencies
    assert abs(first - 20) <= 1
    assert onsets[first, key - LOWEST_KEY] > 0.5
    assert onsets[25:-2, key - LOWEST_KEY].max() < -0.5


@pytest.mark.parametrize("key", [40, 55, 69, 83, 84, 100, 108])
def test_an_untrained_encoder_finds_a_tones_key(generator, untrained, key):
    with torch.no_grad():
        latents = SpectralEncoder(untrained).eval()(tone(key))[0, 4:-4, :N_KEYS]
    assert (latents.argmax(1) + LOWEST_KEY).unique().tolist() == [key]


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_a_pretrained_salience_tells_notes_from_their_overtones(generator, config, instrument):
    encoder = SpectralEncoder(config).eval()
    for key in (57, 67, 76):
        note = torch.from_numpy(synthesize(instrument, key, 1.0, RATE)[: 40 * 1024])
        with torch.no_grad():
            presence = encoder(note.unsqueeze(0))[0, 8:-2, :N_KEYS].clamp(-0.9999, 0.9999).atanh()
        decibels = 40 * presence.mean(0)
        own = float(decibels[key - LOWEST_KEY])
        decibels[key - LOWEST_KEY] = -math.inf
        assert own - float(decibels.max()) >= 20


def test_a_model_file_keeps_its_own_salience(tmp_path, small_model):
    model = Translator.create(small_model, ["piano"])
    with torch.no_grad():
        model.encoder.salience.output.bias.add_(1.0)
    model.save(tmp_path / "own.safetensors")
    loaded = Translator.load(tmp_path / "own.safetensors")
    torch.testing.assert_close(
        loaded.encoder.salience.output.bias, model.encoder.salience.output.bias.detach()
    )


def test_grid_spans_silence_to_full_scale(generator, config):
    grid = PitchGrid(RATE, config.frame_length)
    assert grid(torch.zeros(1, 8192)).amax().item() == pytest.approx(-1, abs=0.02)
    assert grid(tone(69, level=1.0)).amax().item() == pytest.approx(1, abs=0.1)


def test_a_note_is_looked_for_in_the_same_way_at_all_keys(generator):
    salience = Salience(4, 2)
    for parameter in salience.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    grid = -torch.ones(1, 5, 336)
    grid[0, 1:4, 120:125] = torch.rand(3, 5)
    sharp = -torch.ones(1, 10, 336)
    sharp[0, 3:7, 120:125] = torch.rand(4, 5)
    with torch.no_grad():
        here = salience(grid, sharp)
        higher = salience(grid.roll(3 * 7, dims=2), sharp.roll(3 * 7, dims=2))
    for low, high in zip(here, higher, strict=True):  # presence, onset
        torch.testing.assert_close(high[0, :, 37:67], low[0, :, 30:60])
        assert low[0, :, 30:60].std() > 0.01


@pytest.mark.parametrize("key", [45, 69, 90])
def test_an_untrained_decoder_plays_the_key_it_is_given(generator, config, key):
    latents = torch.full((1, 60, config.latent_dim), -0.95)
    latents[..., 2 * N_KEYS :] = 0
    latents[..., key - LOWEST_KEY] = 0.7
    with torch.no_grad():
        played = SpectralDecoder(config)(latents)[0, 4096 : 4096 + 32768]
    spectrum = torch.fft.rfft(played * torch.hann_window(32768)).abs()
    loudest = spectrum.argmax() * RATE / 32768
    assert loudest.item() == pytest.approx(key_to_hz(torch.tensor(key)).item(), rel=0.01)


def test_oscillators_know_the_harmonics_they_are_nearest_to():
    fundamental = 440 * 2048 / RATE  # in bins
    harmonics, offset = harmonics_of(torch.tensor([fundamental]), 464)
    assert harmonics.shape == offset.shape == (1, 464)
    assert harmonics[0, 0] == 0  # nothing lies below the fundamental
    for harmonic in (1, 2, 3, 10):
        place = harmonic * fundamental
        oscillator = round(place) - 1  # the first belongs to bin 1
        assert harmonics[0, oscillator] == harmonic
        assert offset[0, oscillator].item() == pytest.approx(place - round(place), abs=1e-4)
        assert offset[0, oscillator + 5].abs() > 0.5


@pytest.mark.parametrize(("rate", "expected"), [(44100, 4096), (22050, 2048), (16000, 2048)])
def test_windows_keep_their_duration_at_other_rates(rate, expected):
    assert fft_length(4096 / 44100, rate, 64) == expected
    assert fft_length(4096 / 44100, rate, 4096) == 8192


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_gradients_of_the_grid_are_finite_also_above_half_the_rate(sample_rate):
    waveform = torch.zeros(1, 4096, requires_grad=True)
    PitchGrid(sample_rate, 64)(waveform).sum().backward()
    assert waveform.grad.isfinite().all()


def test_a_second_look_changes_nothing_before_it_is_trained(generator, config, trained):
    once = trained(Salience(4, 2))
    twice = Salience(4, 2, explains_overtones=True).eval()
    missing, unexpected = twice.load_state_dict(once.state_dict(), strict=False)
    assert not unexpected
    assert {name.partition(".")[0] for name in missing} == {"found", "explained"}
    n_bins = PitchGrid(RATE, 1024).n_bins
    grid, sharp = (torch.rand(1, n, n_bins, generator=generator) for n in (6, 12))
    with torch.no_grad():
        torch.testing.assert_close(twice(grid, sharp), once(grid, sharp))


def test_a_second_look_reaches_the_notes_that_a_key_may_be_an_overtone_of(generator, trained):
    salience = trained(Salience(4, 2, explains_overtones=True))
    n_bins = PitchGrid(RATE, 1024).n_bins
    grid = torch.zeros(1, 6, n_bins, requires_grad=True)
    presence, _ = salience(grid, torch.zeros(1, 12, n_bins))
    presence[0, 3, 80 - LOWEST_KEY].backward()
    reached = grid.grad[0, 3].view(-1, 3).abs().sum(1)
    for harmonic in (2, 3, 5, 7, 14):
        assert reached[80 - LOWEST_KEY - round(12 * math.log2(harmonic))] > 0
