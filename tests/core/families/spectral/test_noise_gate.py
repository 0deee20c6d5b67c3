"""Silence gives silence, bass needs bass, and nothing else is changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.config import SpectralConfig
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.noise_gate import NoiseGate
from core.families.spectral.salience import LOWEST_KEY, N_KEYS
from core.families.spectral.synthesizer import Controls
from core.translator import Translator

CONFIG = SpectralConfig()
LATENTS_PER_SECOND = CONFIG.sample_rate / CONFIG.hop_length


def latents_of(*presences: tuple[int, float], n_latents: int) -> torch.Tensor:
    """Return latents in which MIDI keys have a presence, and all others the floor's."""
    keys = torch.full((n_latents, CONFIG.latent_dim), -1.0)
    for key, presence in presences:
        keys[:, key - LOWEST_KEY] = presence
    return keys.tanh()


def controls_of(n_latents: int) -> Controls:
    n_frames, n_bins = n_latents * CONFIG.downsampling, CONFIG.n_fft // 2 + 1
    ones = [torch.ones(1, n_frames, n) for n in (464, 464, n_bins)]
    return Controls(*ones)


def gated(*blocks: torch.Tensor) -> Controls:
    gate = NoiseGate(CONFIG)
    for _ in gate.listen(iter(blocks)):
        pass
    return gate.apply(controls_of(sum(map(len, blocks))))


def test_notes_from_high_to_low_pass_unchanged():
    gate, controls = NoiseGate(CONFIG), controls_of(5)
    list(gate.listen(iter([latents_of((30, -0.3), (69, 0.2), n_latents=5)])))
    assert gate.apply(controls) is controls


def test_nothing_sounds_where_no_key_was_ever_present():
    controls = gated(latents_of(n_latents=5))
    assert not controls.amplitude.any()
    assert not controls.noise.any()


def test_a_note_rings_on_and_ends_two_seconds_after_its_key():
    n_latents = round(3 * LATENTS_PER_SECOND)
    note = latents_of((30, -0.2), (69, -0.5), n_latents=4)
    amplitude = gated(note, latents_of(n_latents=n_latents)).amplitude[0, :, 100]
    assert (amplitude[:8] == 1).all()
    assert (amplitude.diff() <= 0).all()
    seconds = torch.arange(len(amplitude)) / CONFIG.downsampling / LATENTS_PER_SECOND
    at_one_second = 20 * amplitude[seconds > 1][0].log10()
    assert -30 < at_one_second < -25
    assert amplitude[seconds < 1.9].all()
    assert not amplitude[seconds > 2.2].any()


@pytest.mark.parametrize(("presence", "gain"), [(-0.71, 0.0), (-0.55, 0.5), (-0.4, 1.0)])
def test_there_is_bass_where_low_keys_are_present(presence, gain):
    controls = gated(latents_of((33, presence), (69, 0.2), n_latents=3))
    np.testing.assert_allclose(controls.amplitude[..., :2], gain, atol=1e-3)
    np.testing.assert_allclose(controls.noise[..., :3], gain, atol=1e-3)
    assert (controls.amplitude[..., 2:] == 1).all()
    assert (controls.noise[..., 3:] == 1).all()


def test_how_latents_come_and_go_changes_nothing(generator):
    latents = torch.rand(60, CONFIG.latent_dim, generator=generator) - 1
    latents[20:50, :N_KEYS] = -0.9
    whole = gated(latents).amplitude
    assert len(whole.unique()) > 20
    gate = NoiseGate(CONFIG)
    blocks = gate.listen(iter(torch.split(latents, 7)))
    parts = []
    for n_blocks, n_latents in ((1, 5), (4, 27), (4, 28)):
        for _ in range(n_blocks):
            next(blocks)
        parts.append(gate.apply(controls_of(n_latents)).amplitude)
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_the_louder_channel_opens_the_gate_for_both():
    left, right = latents_of((30, -0.2), (69, 0.2), n_latents=4), latents_of(n_latents=4)
    controls = gated(torch.stack([left, right], dim=1))
    assert (controls.amplitude == 1).all()


def test_no_key_is_present_in_silence_whatever_the_networks_bias_is():
    encoder = SpectralEncoder(CONFIG).eval()
    torch.nn.init.constant_(encoder.salience.output.bias, 0.3)
    tone = 0.1 * torch.sin(2 * torch.pi * 440 * torch.arange(8 * CONFIG.hop_length) / 44100)
    dither = torch.randint(-1, 2, tone.shape) / 2**15
    with torch.inference_mode():
        presences = [
            encoder(sound.unsqueeze(0))[0, 4, :N_KEYS] for sound in (0 * tone, dither, tone)
        ]
    floor = torch.tensor(-1.0).tanh() + 1e-6
    assert (presences[0] <= floor).all()
    assert (presences[1] <= floor).all()
    assert (presences[2] > floor).all()


@pytest.mark.parametrize("domain", ["strings", "harpsichord"])
def test_the_starter_turns_silence_into_silence(domain):
    starter = Translator.load("starter", domains=[domain])
    silence = np.zeros(44_100, np.float32)
    assert np.abs(starter.translate(silence, 44_100, to=domain)).max() < 1e-4


def test_the_starter_adds_no_rumble_to_a_whistle():
    seconds = np.arange(2 * 44_100) / 44_100
    whistle = (0.3 * np.sin(2 * np.pi * 1000 * seconds)).astype(np.float32)
    made = Translator.load("starter", domains=["strings"]).translate(whistle, 44_100, to="strings")
    middle = made[22_050:66_150]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) / len(middle) * 4
    rumble = spectrum[np.fft.rfftfreq(len(middle), 1 / 44_100) < 55]
    assert 20 * np.log10(rumble.max()) < -100
