"""The spectral encoder and decoder: lengths, levels, windows, seeds, figures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.config import PRETRAINED_SALIENCE
from core.families.noise import noise_of_items
from core.families.spectral.decoder import MODULATION_SHARE, SpectralDecoder, SpectralOptions
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.losses import multi_resolution_loss
from core.families.spectral.salience import N_KEYS
from core.presets import get_preset


@pytest.fixture
def config(tiny_spectral):
    return tiny_spectral.model


@pytest.fixture
def encoder(trained, config):
    return trained(SpectralEncoder(config))


@pytest.fixture
def decoder(trained, config):
    return trained(SpectralDecoder(config))


def generate(decoder, *blocks, seed=0, window=100):
    with torch.no_grad():
        made = decoder.generate(iter(blocks), window=window, seed=seed, options=SpectralOptions())
        return torch.cat(list(made))


def test_six_domains_of_preset_fast_stay_small():
    config = get_preset("fast").model
    encoder, decoder = (
        sum(parameter.numel() for parameter in network.parameters())
        for network in (SpectralEncoder(config), SpectralDecoder(config))
    )
    assert 2e6 < decoder < 4e6
    assert 2 * (encoder + 6 * decoder) < 50e6  # bytes in half precision


@pytest.mark.parametrize("n_frames", [1, 2, 7])
@pytest.mark.parametrize("batch", [1, 3])
def test_encoder_and_decoder_keep_the_length(encoder, decoder, config, batch, n_frames):
    waveform = torch.rand(batch, n_frames * config.hop_length) - 0.5
    latents = encoder(waveform)
    assert latents.shape == (batch, n_frames, config.latent_dim)
    assert decoder(latents).shape == waveform.shape


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("frame_length", [64, 512])
def test_encoder_runs_at_any_usual_rate(generator, config, sample_rate, frame_length):
    config = replace(
        config, sample_rate=sample_rate, frame_length=frame_length, n_fft=4 * frame_length
    )
    latents = SpectralEncoder(config)(torch.zeros(1, 3 * config.hop_length))
    assert latents.shape == (1, 3, config.latent_dim)


@pytest.mark.parametrize("n_frames", [1, 5, 13, 40])
def test_generating_in_windows_equals_the_whole(decoder, config, n_frames):
    latents = torch.randn(n_frames, config.latent_dim)
    whole = generate(decoder, latents)  # within one window
    assert len(whole) == n_frames * config.hop_length
    # The sums of notes are rounded otherwise, as other notes sound in the window.
    nearly = 1e-4 * float(whole.abs().max())
    torch.testing.assert_close(generate(decoder, latents, window=5), whole, atol=nearly, rtol=0)
    pieces = generate(decoder, latents[:3], latents[3:4], latents[4:], window=5)
    torch.testing.assert_close(pieces, whole, atol=nearly, rtol=0)
    assert whole.std() > 50 * nearly


@pytest.mark.parametrize("swaying", ["vibrato", "shimmer"])
def test_generation_equals_training_but_for_what_sways_and_noise(decoder, config, swaying):
    decoder.vibrato.power.data.zero_()
    decoder.shimmer.power.data.zero_()
    quiet = decoder.head.bias.data[2 * decoder.n_partials :]
    quiet.fill_(-100)
    decoder.strikes.levels.data.fill_(-100)
    latents = torch.randn(30, config.latent_dim)
    with torch.no_grad():
        whole = decoder(latents.unsqueeze(0))[0]
    torch.testing.assert_close(generate(decoder, latents), whole, atol=1e-4, rtol=1e-4)
    assert whole.std() > 50 * 1e-4
    getattr(decoder, swaying).power.data.fill_(1)
    assert not torch.allclose(generate(decoder, latents), whole, atol=50 * 1e-4)


@torch.no_grad()
def test_a_struck_key_begins_with_noise_that_soon_falls(generator, config):
    decoder = SpectralDecoder(config)
    decoder.head.weight.zero_()
    decoder.head.bias.fill_(-100)  # no noise of the blocks
    decoder.voices.output.weight.zero_()
    latents = torch.full((1, 30, config.latent_dim), -0.99)
    latents[0, 4:, 40], latents[0, 4, 40 + N_KEYS] = 0.5, 0.9
    values = decoder.predict(latents)
    state = decoder.silence(values)

    def noise():
        played, _ = decoder.play(values, state)
        return decoder.controls(values, state.amplitudes, played)[0].noise[0].mean(1)

    found = noise()
    strike = int(found.argmax())
    assert 8 <= strike <= 10  # latent frame 4, of two frames each
    assert found[:7].max() < found[strike] / 1000
    assert found[strike + 12] < found[strike] / 5
    decoder.strikes.levels.fill_(-10)
    assert noise().max() < found[strike] / 1000


def test_seed_changes_the_noise_and_repeats_it(decoder, config):
    latents = torch.randn(10, config.latent_dim)
    first = generate(decoder, latents, seed=1)
    assert torch.equal(generate(decoder, latents, seed=1), first)
    assert not torch.allclose(generate(decoder, latents, seed=2), first, atol=1e-4)


@pytest.mark.parametrize("change", [lambda x: 100 * x, torch.zeros_like, torch.randn_like])
def test_encoder_takes_no_statistic_over_time(encoder, config, change):
    """What lies beyond the stated context changes nothing, however loud it becomes."""
    reach = encoder.frames_after
    n_frames, middle = 3 * reach, reach + 2
    waveform = torch.randn(1, n_frames * config.hop_length) / 10
    far = (middle + 1 + reach) * config.hop_length
    changed = waveform.clone()
    changed[:, far:] = change(waveform[:, far:])
    with torch.no_grad():
        before, after = encoder(waveform)[0], encoder(changed)[0]
    torch.testing.assert_close(after[: middle + 1], before[: middle + 1], atol=1e-5, rtol=0)
    assert (after[-1] - before[-1]).abs().max() > 1e-2


def test_decoders_network_takes_no_statistic_over_time(decoder, config):
    n_frames, n_changed = 60, 20
    latents = torch.randn(1, n_frames, config.latent_dim)
    changed = latents.clone()
    changed[:, -n_changed:] *= 100
    kept = (n_frames - n_changed - decoder.frames_after) * config.downsampling
    with torch.no_grad():
        before, after = (decoder.predict(x)[0].nan_to_num() for x in (latents, changed))
    torch.testing.assert_close(after[:kept], before[:kept], atol=1e-5, rtol=0)
    assert (after[kept:] - before[kept:]).abs().amax(1).min() > 1e-6


@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0, 1e4])
def test_any_level_gives_finite_bounded_latents_and_audio(encoder, decoder, config, level):
    with torch.no_grad():
        latents = encoder(level * torch.randn(1, 20 * config.hop_length))
        waveform = decoder(latents)
    assert latents.abs().max() <= 1
    assert waveform.isfinite().all()


def test_noise_is_added_to_latents_in_training_only(encoder, config):
    waveform = torch.rand(4, 50 * config.hop_length) - 0.5
    with torch.no_grad():
        quiet = encoder(waveform)
        assert torch.equal(encoder(waveform), quiet)
        noise = encoder.train()(waveform) - quiet
        again = encoder(waveform) - quiet
    pitches = slice(2 * N_KEYS, 3 * N_KEYS)
    assert not noise[..., pitches].any()  # measured, not learnt
    noisy = torch.cat([noise[..., : pitches.start], noise[..., pitches.stop :]], dim=2)
    assert noisy.std().item() == pytest.approx(config.latent_noise, rel=0.1)
    assert noise.mean().abs() < 0.1 * config.latent_noise
    assert not torch.equal(noise, again)


@pytest.mark.parametrize("sample_rate", [4000, 8000, 16000, 44100])
def test_no_oscillator_can_reach_half_the_sample_rate(config, sample_rate):
    n_partials = SpectralDecoder(replace(config, sample_rate=sample_rate)).n_partials
    highest = (n_partials + 1) / config.n_fft * sample_rate  # a bin above the last one's own
    assert highest <= sample_rate / 2
    assert highest <= config.partials_ceiling_hz + sample_rate / config.n_fft


def test_audio_is_bounded_whatever_the_networks_values(decoder, config):
    values = torch.full_like(decoder.predict(torch.zeros(1, 9, config.latent_dim)), 1e6)
    before = decoder.silence(values)
    for extreme in (values, -values):
        played, _ = decoder.play(extreme, before)
        controls, levels = decoder.controls(extreme, before.amplitudes, played.clamp(-1, 1))
        assert decoder.synthesizer.render(controls).isfinite().all()
        assert levels.isfinite().all()
    assert decoder.synthesizer.render(controls).abs().max() < 1e-2


@pytest.fixture
def audio(generator):
    """Two seconds of a decaying chord at 8 kHz."""
    time = torch.arange(16384) / 8000
    chord = sum(torch.sin(2 * math.pi * hz * time) for hz in (220, 330, 523))
    return (0.2 * chord * (-3 * time).exp()).unsqueeze(0)


def test_gradients_of_encoder_and_decoder_are_finite_on_silence(encoder, decoder, config):
    silence = torch.zeros(2, 16 * config.hop_length)
    decoder.reconstruction_loss(encoder.train()(silence), silence).backward()
    gradients = [p.grad for module in (encoder, decoder) for p in module.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_heldout_figure_is_the_loss_of_the_decoded_latents(decoder, config, audio):
    latents = torch.randn(1, audio.shape[1] // config.hop_length, config.latent_dim)
    with torch.no_grad():
        torch.manual_seed(1)
        figure = decoder.heldout_figure(latents, audio)
        torch.manual_seed(1)  # the noise of the decoder
        expected = multi_resolution_loss(decoder(latents), audio, config.sample_rate)
    torch.testing.assert_close(figure, expected, rtol=1e-4, atol=0)


def test_heldout_figure_is_the_same_at_every_call(decoder, config):
    latents = torch.randn(2, 20, config.latent_dim)
    waveform = torch.randn(2, 20 * config.hop_length) / 10
    first, second = (decoder.heldout_figure(latents, waveform) for _ in range(2))
    assert first == second


def test_vibrato_is_learnt_from_items_that_their_keys_choose(decoder, config, monkeypatch):
    measured = []
    depths = decoder.vibrato.power
    monkeypatch.setattr(
        decoder, "modulation_loss", lambda own, *_: measured.append(own) or depths.sum()
    )
    latents = torch.zeros(40, 8, config.latent_dim)
    waveform = torch.zeros(40, 8 * config.hop_length)
    latents += torch.arange(40).view(-1, 1, 1) / 40
    keys = [[item] for item in range(40)]

    def chosen(*parts):
        measured.clear()
        for part in parts:
            decoder.zero_grad()
            with noise_of_items(keys[part], latents.device):
                decoder.reconstruction_loss(latents[part], waveform[part]).backward()
            assert decoder.vibrato.power.grad is not None  # also where none is chosen
        return torch.cat(measured)

    whole = chosen(slice(None))
    assert 0.5 * MODULATION_SHARE < len(whole) / 40 < 2 * MODULATION_SHARE
    apart = chosen(*(slice(item, item + 1) for item in range(40)))
    torch.testing.assert_close(apart, whole)


def test_an_encoder_with_a_pretrained_salience_learns_as_if_keys_had_gradients(config):
    config = replace(config, **PRETRAINED_SALIENCE, pretrained_salience=True)
    encoder, decoder = SpectralEncoder(config).eval(), SpectralDecoder(config)
    whole = SpectralDecoder(replace(config, pretrained_salience=False))
    whole.load_state_dict(decoder.state_dict())
    whole.voices.full_onset = decoder.voices.full_onset
    waveform = torch.rand(1, 4 * config.hop_length) - 0.5
    gradients = []
    for own in (decoder, whole):
        encoder.zero_grad()
        own.predict(encoder(waveform)).nan_to_num().square().sum().backward()
        gradients.append(encoder.output.weight.grad)
    assert gradients[0].any()
    torch.testing.assert_close(*gradients)
