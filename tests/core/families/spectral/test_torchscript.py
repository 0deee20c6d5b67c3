"""The family as TorchScript: the latents and the sound of `--live`, frame by frame."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.families.spectral.decoder import SpectralDecoder
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.noise_gate import NoiseGate
from core.families.spectral.salience import LOWEST_KEY, N_KEYS
from core.families.spectral.synthesizer import StreamingSynthesizer
from core.families.spectral.torchscript import LiveNetworks
from core.families.spectral.transposition import OctaveFold, transpose
from core.key_range import KeyRange

HISTORY = 90  # latent frames of silence, after which nothing depends on what was before


@pytest.fixture(params=["pitched shimmer strikes", "causal"])
def config(request, tiny_spectral):
    kinds = request.param.split()
    own = replace(
        tiny_spectral.model,
        causal="causal" in kinds,
        pitch_latents="pitched" in kinds,
        shimmer="shimmer" in kinds,
        strike_noise="strikes" in kinds,
    )
    return own if own.pitch_latents else replace(own, latent_dim=180)


@pytest.fixture(autouse=True)
def _interpreted():
    """Compiling takes longer than these frames."""
    with torch.jit.optimized_execution(False):
        yield


@pytest.fixture
def encoder(trained, config):
    return trained(SpectralEncoder(config)).requires_grad_(False)


@pytest.fixture
def decoder(trained, config):
    return trained(SpectralDecoder(config)).requires_grad_(False)


@pytest.fixture
def networks(config, encoder, decoder):
    return LiveNetworks(config, encoder, [decoder], [None], 0).eval()


@pytest.fixture
def notes(config):
    """Return music after silence, float [T]."""
    t = torch.arange(24 * config.hop_length) / config.sample_rate
    keys = torch.tensor([57, 64, 60, 69, 72])[(t / 0.2).long() % 5]
    phase = (440 * 2 ** ((keys - 69) / 12)).cumsum(0) / config.sample_rate
    own = sum((2 * math.pi * h * phase).sin() / h for h in range(1, 6))
    silence = torch.zeros(HISTORY * config.hop_length)
    return torch.cat([silence, 0.2 * own * torch.exp(-4 * (t % 0.2))])


def encode(networks, waveform):
    """Return latents, float [L, D]."""
    frames = waveform.split(networks.hop_length)
    return torch.cat([networks.encode(own.unsqueeze(0)) for own in frames], dim=1)[0]


@torch.inference_mode()
def test_latents_are_those_of_live(config, encoder, networks, notes):
    hop = config.hop_length
    lag, early = divmod(networks.encoder.delay, hop)
    # Frames of the two streams begin at the same samples.
    shifted = torch.cat([torch.zeros(early), notes, torch.zeros(hop - early)])
    expected = torch.cat(list(encoder.stream(iter([shifted]), window=2)))
    found = encode(networks, notes)
    n = len(found) - lag
    torch.testing.assert_close(found[HISTORY + lag :], expected[HISTORY:n], atol=1e-5, rtol=0)
    assert (found[HISTORY + lag :] - found[0]).abs().max() > 0.1


@torch.inference_mode()
def test_values_are_those_of_live(config, decoder, networks, notes):
    latents = encode(networks, notes)
    own = networks.decoders[0].values
    found = torch.cat([own(frame.view(1, 1, -1))[0] for frame in latents], dim=1)[0]
    streamed = decoder.stream(iter([latents]), is_live=True)
    expected = torch.cat([values.view(len(values) * 2, -1) for values in streamed])
    start, n_late = 2 * (HISTORY - 20), 2 * own.n_late
    expected, found = expected[start : len(found) - n_late], found[start + n_late :]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0, equal_nan=True)


@torch.inference_mode()
def test_sound_is_that_of_live(config, decoder, networks, notes, monkeypatch):
    live = networks.decoders[0]
    oscillators = live.oscillators

    def same_noise(stream, noise):
        starts = (stream.n_frames + np.arange(noise.shape[1])) * oscillators.noise_step
        rows = [oscillators.noise[start % oscillators.n_noise :] for start in starts]
        return torch.stack([row[: noise.shape[2]] for row in rows]).unsqueeze(0)

    monkeypatch.setattr(StreamingSynthesizer, "_noise_phases", same_noise)
    latents = encode(networks, notes)[HISTORY - 5 :]
    synthesizer, gate = StreamingSynthesizer(decoder.synthesizer, seed=0), NoiseGate(config)
    phases, state = decoder.vibrato.draw(0), None
    expected, found = [], []
    tail = torch.zeros(1, networks.n_tail)
    values = torch.cat(list(decoder.stream(iter([latents]), is_live=True)))
    values = values.view(len(latents), 1, 2, -1)
    for frame, own in zip(gate.listen(iter(latents.split(1))), values, strict=True):
        played, state = decoder.play(own, state or decoder.silence(own))
        vibrato = decoder.vibrato(phases, synthesizer.n_frames, 2).unsqueeze(0)
        controls, amplitudes = decoder.controls(own, state.amplitudes, played, vibrato)
        controls = decoder.sway(controls, decoder.draw_shimmer(0), synthesizer.n_frames)
        state = state._replace(amplitudes=amplitudes)
        expected.append(synthesizer.advance(gate.apply(controls)))
        presence = frame[:, :N_KEYS].clamp(-0.999, 0.999).atanh()
        waveform = oscillators(*live.notes(own, presence))
        waveform[:, : networks.n_tail] += tail
        found.append(waveform[:, : config.hop_length])
        tail = waveform[:, config.hop_length :]
    expected = torch.cat([*expected, synthesizer.finish()], dim=1)
    found = torch.cat([*found, tail], dim=1)[:, decoder.synthesizer.overhang :]
    n_samples = expected.shape[1]
    assert expected.std() > 0.01
    torch.testing.assert_close(found[:, :n_samples], expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_items_of_a_batch_are_alone(config, networks, notes):
    waveform = notes[(HISTORY - 2) * config.hop_length :]
    both = torch.stack([waveform, 0.3 * waveform.flip(0), waveform])

    def translate(waveforms):
        networks.reset()
        frames = waveforms.split(config.hop_length, dim=1)
        return torch.cat([networks(own, [1.0], 0.0) for own in frames], dim=1)

    together = translate(both)
    alone = translate(both[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)
    # Products of several rows may be added up in another order for the last of them.
    torch.testing.assert_close(together[0], together[2], atol=1e-4, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.01


@pytest.mark.parametrize("semitones", [0, 7, -12, 2.25])
def test_transposition_is_that_of_the_family(config, networks, semitones):
    latents = torch.rand(2, 1, config.latent_dim)
    found = networks.transpose(latents, float(semitones))
    if not config.pitch_latents:
        semitones = round(semitones)
    torch.testing.assert_close(found, transpose(latents, config, semitones), atol=1e-6, rtol=0)


def test_notes_beyond_the_range_move_as_those_of_the_family_do(config, encoder, decoder, generator):
    keys = KeyRange(60, 84)
    networks = LiveNetworks(config, encoder, [decoder], [keys], 0)
    fold = torch.jit.script(networks.decoders[0].fold)
    latents = (2 * torch.rand(2, 30, config.latent_dim) - 1).cumsum(1).tanh()
    fold.reset(2)
    found = torch.cat([fold(frame) for frame in latents.split(1, dim=1)], dim=1)
    for own, item in zip(found, latents, strict=True):
        assert torch.equal(own, OctaveFold(config, keys)(item))
        assert not torch.equal(own, item)


def test_a_domain_without_a_range_keeps_its_notes_where_they_are(networks, config):
    latents = 0.9 * torch.ones(1, 1, config.latent_dim)
    assert torch.equal(networks.decoders[0].fold(latents), latents)


@torch.inference_mode()
def test_each_decoder_plays_its_own_range(config, encoder, decoder):
    keys = KeyRange(60, 84)
    ranged, plain = (LiveNetworks(config, encoder, [decoder], [own], 0) for own in (keys, None))
    low = torch.full((6, config.latent_dim), -0.9)
    low[:, 40 - LOWEST_KEY] = low[2, 40 - LOWEST_KEY + N_KEYS] = 0.6

    def play(networks, latents):
        networks.reset()
        return torch.cat([networks.decode(own.view(1, 1, -1), [1.0]) for own in latents], dim=1)

    for _ in range(2):
        expected = play(plain, OctaveFold(config, keys)(low))
        torch.testing.assert_close(play(ranged, low), expected, atol=1e-6, rtol=0)
    assert (play(plain, low) - expected).abs().max() > 1e-3
