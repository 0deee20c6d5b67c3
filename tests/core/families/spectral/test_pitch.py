"""The pitch of keys: measured to a cent, kept through the decoder, followed where players do."""

from __future__ import annotations

import math

import pytest
import torch

from core.families.spectral.decoder import SpectralDecoder, SpectralOptions
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.pitch import (
    STEP,
    KeyPitch,
    PitchResponse,
    hold,
    is_steady,
    nearest_in_tuning,
    share_of_key,
    smooth,
    tuning_of,
    tuning_vector,
    wrapped,
)
from core.families.spectral.salience import LOWEST_KEY, N_KEYS, key_to_hz

RATE, HOP = 44100, 1024


def tone(pitch, *, rate=RATE, n_harmonics=5):
    """Play a pitch in MIDI numbers, one a sample: float [1, T]."""
    phase = 2 * math.pi * (key_to_hz(pitch.double()) / rate).cumsum(0)
    harmonics = torch.arange(1, n_harmonics + 1).double().unsqueeze(1)
    return (0.15 / harmonics * (harmonics * phase).sin()).sum(0).float().unsqueeze(0)


@pytest.mark.parametrize("key", [21, 33, 45, 60, 76, 88, 104])
@pytest.mark.parametrize("deviation", [-0.5, -0.2, 0.0, 0.35, 0.5])
def test_a_tones_deviation_is_measured_to_a_cent(key, deviation):
    found, _ = KeyPitch(RATE, HOP)(tone(torch.full((24 * HOP,), key + deviation)))
    middle = found[0, 8:16, key - LOWEST_KEY]
    torch.testing.assert_close(middle, torch.full_like(middle, deviation), atol=0.01, rtol=0)


def test_each_note_of_a_detuned_chord_has_the_deviation():
    keys = [48, 60, 64, 67, 72]
    chord = sum(tone(torch.full((24 * HOP,), key + 0.2)) for key in keys)
    found, _ = KeyPitch(RATE, HOP)(chord)
    for key in keys:
        assert found[0, 12, key - LOWEST_KEY].item() == pytest.approx(0.2, abs=0.02)


def test_silence_has_no_deviation():
    assert not KeyPitch(RATE, HOP)(torch.zeros(1, 8 * HOP))[0].any()


def test_a_tone_between_two_keys_is_shared_and_none_of_it_lost():
    place = torch.linspace(0, 1, 11)
    torch.testing.assert_close(share_of_key(place) + share_of_key(place - 1), torch.ones(11))
    assert share_of_key(torch.tensor([-1.0, 1.0, 1.4])).max() < 1e-6


def with_one_key(deviation):
    """Return deviations and presences in which one key alone sounds, float [1, L, keys] each."""
    presence = torch.full((1, len(deviation), N_KEYS), -1.0)
    presence[..., 40] = 0.5
    deviations = torch.zeros(1, len(deviation), N_KEYS)
    deviations[0, :, 40] = deviation
    return deviations, presence


def test_smoothing_leaves_vibrato_out_and_keeps_a_glide():
    time = torch.arange(100) * HOP / RATE
    swaying = smooth(*with_one_key(0.3 * (2 * math.pi * 6 * time).sin()), 2, 15)
    assert swaying[0, 20:-20, 40].abs().max() < 0.06
    gliding = smooth(*with_one_key(0.2 * time - 0.2), 2, 15)
    wanted = 0.2 * (torch.arange(200) + 0.5) * HOP / RATE / 2 - 0.2 - 0.1 * HOP / RATE
    torch.testing.assert_close(gliding[0, 20:-20, 40], wanted[20:-20], atol=1e-3, rtol=0)
    assert gliding[..., 41].isnan().all()  # nothing sounds there


def test_a_note_that_rings_on_keeps_its_last_pitch():
    nan = math.nan
    found = hold(torch.tensor([[[nan], [0.2], [nan], [nan], [0.4]]]), torch.tensor([[0.1]]))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.1, 0.2, 0.2, 0.2, 0.4]))


@pytest.mark.parametrize("tuning", [-0.4, 0.0, 0.3, 0.5])
def test_the_tuning_is_that_of_notes_on_either_side_of_half_a_semitone(tuning):
    deviation, presence = with_one_key(torch.full((20,), tuning))
    presence[..., 45] = 0.5
    deviation[..., 45] = tuning - 1  # the same tone, seen from the next key
    found = tuning_of(tuning_vector(deviation, presence).sum(1))
    assert wrapped(found - tuning).abs().max() < 1e-5


def test_a_keyboard_keeps_to_the_tuning_and_a_bowed_string_follows():
    deviation = torch.tensor([0.3, 0.34, 0.7, -0.3])
    tuning = torch.tensor(0.3)
    response = PitchResponse()
    with torch.no_grad():
        response.weight.fill_(1 / STEP * 0.0)
        torch.testing.assert_close(
            response(deviation, tuning), nearest_in_tuning(deviation, tuning)
        )
        response.weight.fill_(1 / STEP * 1.0)
        torch.testing.assert_close(response(deviation, tuning), deviation)


@pytest.mark.parametrize(("follows", "wanted"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_response_is_learnt_from_what_the_recordings_do(generator, follows, wanted):
    source = 0.3 * torch.randn(500, generator=generator)
    assert learnt_response(source, follows * source) == pytest.approx(wanted, abs=0.06)


def learnt_response(source, target):
    response = PitchResponse()
    clear = torch.ones(500, dtype=torch.bool)
    optimizer = torch.optim.SGD(response.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        response.loss(*(x.view(1, -1, 1) for x in (source, target, clear))).backward()
        optimizer.step()
    return response.response.item()


def test_frames_beside_an_unclear_one_are_not_steady():
    clear = torch.ones(1, 12, 2, dtype=torch.bool)
    clear[0, 6, 1] = False
    assert is_steady(clear, 5)[..., 0].all()
    assert is_steady(clear, 5)[0, :, 1].nonzero().flatten().tolist() == [0, 1, 2, 3, 9, 10, 11]


def test_small_deviations_are_no_evidence_of_bends(generator):
    """A piano's own recordings as its input: both deviate alike, by errors of measurement."""
    source = 0.03 * torch.randn(500, generator=generator)
    assert learnt_response(source, source) < 0.3


@pytest.fixture(scope="module")
def networks(small_model):
    """An encoder and a decoder at the model's own rate; untrained, they play what is there."""
    torch.manual_seed(0)
    return SpectralEncoder(small_model.model).eval(), SpectralDecoder(small_model.model).eval()


def play(networks, waveform, *, follow, tuning=None):
    encoder, decoder = networks
    with torch.no_grad():
        decoder.response.weight.fill_(1 / STEP * follow)
        latents = encoder(waveform)[0]
        options = SpectralOptions(tuning=tuning)
        made = list(decoder.generate(iter([latents]), window=1000, seed=0, options=options))
        found, _ = KeyPitch(RATE, HOP)(torch.cat(made).unsqueeze(0))
    return found[0]


@pytest.mark.parametrize("follow", [0.0, 1.0])
@pytest.mark.parametrize("deviation", [-0.5, -0.35, -0.2, 0.2, 0.35, 0.5])
def test_notes_off_440_hz_come_out_within_5_cents(networks, deviation, follow):
    keys = [60, 64, 67, 72, 65]
    n_note = 30
    melody = torch.cat([torch.full((n_note * HOP,), key + deviation) for key in keys])
    found = play(networks, tone(melody), follow=follow)
    for index, key in enumerate(keys):
        middle = found[index * n_note + 12 : index * n_note + 20, key - LOWEST_KEY]
        assert (middle - deviation).abs().max() < 0.05


def test_a_source_in_415_hz_sounds_in_440_where_that_is_asked_for(networks):
    deviation = 12 * math.log2(415.3 / 440)  # -1.0: a semitone below, so in tune with another key
    found = play(networks, tone(torch.full((40 * HOP,), 69 + deviation)), follow=0, tuning=440.0)
    assert found[15:25, 68 - LOWEST_KEY].abs().max() < 0.05
    found = play(networks, tone(torch.full((40 * HOP,), 69.3)), follow=0, tuning=440.0)
    assert found[15:25, 69 - LOWEST_KEY].abs().max() < 0.05
    found = play(networks, tone(torch.full((40 * HOP,), 69.0)), follow=0, tuning=446.4)
    assert (found[15:25, 69 - LOWEST_KEY] - 0.25).abs().max() < 0.05


def test_a_glide_of_an_octave_is_followed_within_20_cents_or_played_as_keys(networks):
    n_frames = 86
    pitch = torch.linspace(60, 72, n_frames * HOP)
    found = play(networks, tone(pitch), follow=1.0)
    middles = pitch.view(n_frames, HOP).mean(1)
    keys = middles.round().long()
    error = (found[torch.arange(n_frames), keys - LOWEST_KEY] + keys - middles)[4:-4].abs()
    assert (error < 0.2).float().mean() > 0.9
    stepped = play(networks, tone(pitch), follow=0.0)
    error = (stepped[torch.arange(n_frames), keys - LOWEST_KEY] + keys - middles)[4:-4].abs()
    assert (error < 0.2).float().mean() < 0.7


def test_an_impossible_tuning_is_refused():
    from core.errors import UsageError

    with pytest.raises(UsageError, match="400 to 480 Hz"):
        SpectralOptions(tuning=44.0)


@pytest.mark.parametrize(("level_db", "moves"), [(-6.0, True), (-24.0, False)])
def test_only_loud_keys_tell_that_a_domain_bends(networks, level_db, moves):
    """The pitch of what is faint beside another note is seldom its own."""
    encoder, decoder = networks
    length = torch.ones(50 * HOP)
    bent = 10 ** (level_db / 20) * tone(72.3 * length)
    waveform = tone(55.0 * length) + bent
    found, _ = decoder.key_pitch(waveform)
    assert (found[0, 10:40, 72 - LOWEST_KEY] - 0.3).abs().max() < 0.05
    decoder.response.weight.data.fill_(0.2 / STEP)
    decoder.zero_grad()
    decoder.reconstruction_loss(encoder(waveform).detach(), waveform).backward()
    # Beside this there is only the pull of no evidence.
    assert (decoder.response.weight.grad.item() < -1e-3) == moves
    decoder.zero_grad()
