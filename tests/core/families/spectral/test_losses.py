"""Losses of the spectral family: magnitudes, attacks, and scores."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.families.spectral.decoder import SpectralDecoder
from core.families.spectral.losses import (
    ATTACK_WINDOW,
    attack_bands,
    attack_distance,
    mel_density,
    multi_resolution_loss,
    score_loss,
)
from core.families.spectral.stft import spectrogram

RATE = 44_100
LENGTH = 44_032


def plucked(onsets, rise_seconds=0.0):
    """Play noise that sets in at the given seconds and dies away, float [1, LENGTH]."""
    t = torch.arange(LENGTH) / RATE
    total = torch.zeros(LENGTH)
    for onset in onsets:
        since = (t - onset).clamp(min=0)
        risen = (since / rise_seconds).clamp(max=1) if rise_seconds else (since > 0).float()
        total += risen * (-8 * since).exp()
    noise = torch.randn(LENGTH, generator=torch.Generator().manual_seed(0))
    return 0.1 * (total * noise).unsqueeze(0)


def distance(output, target):
    found, wanted = (spectrogram(x, ATTACK_WINDOW, ATTACK_WINDOW // 4) for x in (output, target))
    return attack_distance(found, wanted, RATE)


def test_of_equal_sounds_is_nothing():
    assert distance(plucked([0.2, 0.6]), plucked([0.2, 0.6])) < 1e-3


def test_an_attack_at_another_moment_is_nearer_than_a_blurred_one():
    target = plucked([0.2, 0.6])
    late, blurred = plucked([0.25, 0.65]), plucked([0.2, 0.6], rise_seconds=0.1)
    assert distance(late, target) < 0.5 * distance(blurred, target)
    # Which is what a difference of magnitudes has the other way round.
    assert multi_resolution_loss(late, target, RATE) > multi_resolution_loss(blurred, target, RATE)


def test_too_many_attacks_are_as_wrong_as_too_few():
    one, two = plucked([0.2]), plucked([0.2, 0.6])
    assert distance(one, two) > 0.1
    assert distance(two, one) > 0.1


def test_a_sound_that_fades_is_far_from_a_steady_one():
    """By magnitudes, which count each frame by itself, it is hardly farther than another one."""
    generator = torch.Generator().manual_seed(0)
    steady, other = 0.1 * torch.randn(2, 1, LENGTH, generator=generator)
    fading = other * torch.exp(-2 * torch.arange(LENGTH) / RATE)
    assert distance(fading, steady) > 2.5 * distance(other, steady)
    by_magnitudes = [multi_resolution_loss(own, steady, RATE) for own in (fading, other)]
    assert by_magnitudes[0] < 2 * by_magnitudes[1]


def test_each_item_counts_by_itself():
    target = torch.cat([plucked([0.2]), 0.01 * plucked([0.3, 0.6])])
    output = torch.cat([plucked([0.2], rise_seconds=0.1), 0.01 * plucked([0.3])])
    alone = torch.stack([distance(output[:1], target[:1]), distance(output[1:], target[1:])])
    torch.testing.assert_close(distance(output, target), alone.mean())


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_silence_has_finite_gradients(level):
    output = (level * plucked([0.2])).requires_grad_()
    distance(output, torch.zeros(1, LENGTH)).backward()
    assert output.grad.isfinite().all()


def test_its_weight_is_that_of_the_configuration(tiny_spectral):
    config = tiny_spectral.model
    torch.manual_seed(0)
    latents = torch.randn(1, 20, config.latent_dim)
    target = 0.1 * torch.randn(1, 20 * config.hop_length)
    losses = []
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(1)
        decoder = SpectralDecoder(replace(config, attack_weight=weight))
        losses.append(decoder.reconstruction_loss(latents, target))
    without, once, thrice = losses
    assert once > without
    torch.testing.assert_close(thrice - without, 3 * (once - without), rtol=1e-3, atol=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [RATE, 8000])
def test_bands_cover_the_range_evenly(rate):
    bands = attack_bands(ATTACK_WINDOW // 2 + 1, rate)
    assert (bands.sum(0) > 0).all()
    hertz = torch.linspace(0, rate / 2, len(bands))
    inside = bands.sum(1)[(hertz > 150) & (hertz < min(8600, 0.44 * rate))]
    torch.testing.assert_close(inside, torch.ones_like(inside))


@pytest.fixture
def audio(generator):
    """Two seconds of a decaying chord at 8 kHz."""
    time = torch.arange(16384) / 8000
    chord = sum(torch.sin(2 * math.pi * hz * time) for hz in (220, 330, 523))
    return (0.2 * chord * (-3 * time).exp()).unsqueeze(0)


def test_loss_is_zero_for_the_same_audio_and_grows_with_the_difference(audio):
    losses = [
        multi_resolution_loss(audio + amount * torch.randn_like(audio), audio, 8000).item()
        for amount in (0, 1e-3, 1e-2, 1e-1)
    ]
    assert losses[0] == 0
    assert losses == sorted(losses)
    assert losses[1] > 1e-3


@pytest.mark.parametrize("other", [lambda x: 0.5 * x, lambda x: x.roll(2000, 1), torch.zeros_like])
def test_loss_rises_with_errors_of_level_timing_and_absence(audio, other):
    assert multi_resolution_loss(other(audio), audio, 8000) > 0.3


def test_loss_ignores_polarity(audio):
    assert multi_resolution_loss(-audio, audio, 8000) < 1e-6


@pytest.mark.parametrize("found", [torch.zeros_like, lambda x: x])
@pytest.mark.parametrize("wanted", [torch.zeros_like, lambda x: x])
def test_gradient_is_finite_at_silence(audio, found, wanted):
    output = found(audio).clone().requires_grad_()
    multi_resolution_loss(output, wanted(audio), 8000).backward()
    assert output.grad.isfinite().all()


def test_frequencies_are_weighted_as_densely_as_mels():
    density = mel_density(513, 44100)
    assert (density.diff() < 0).all()
    assert density.mean().item() == pytest.approx(1)
    hertz = torch.tensor([0.0, 700.0])
    bins = (hertz / 22050 * 512).round().int()
    assert (density[bins[0]] / density[bins[1]]).item() == pytest.approx(2, rel=0.02)


def test_target_that_died_away_counts_no_more_than_others(audio):
    """Where the source holds a chord on, the output is far too loud, and has to learn just that."""

    def gradient(target):
        output = audio.clone().requires_grad_()
        multi_resolution_loss(output, target, 8000).backward()
        return output.grad

    usual, died_away = gradient(0.8 * audio), gradient(0.003 * audio)
    assert died_away.norm() < 5 * usual.norm()
    assert (died_away * audio).sum() > 0  # less of it is better


def test_loss_of_a_batch_is_the_mean_of_its_items_losses():
    """Also of a loud one beside a quiet one."""
    output, target = torch.randn(2, 8192) / 10, torch.randn(2, 8192) / 10
    target[1] /= 50
    whole = multi_resolution_loss(output, target, 8000)
    items = [multi_resolution_loss(output[i : i + 1], target[i : i + 1], 8000) for i in range(2)]
    torch.testing.assert_close(whole, sum(items) / 2)


def latents_of(**db):
    """Return presences in which keys (k60=-20.0) have levels in dB and all others are silent."""
    units = torch.full((1, 4, 88), -1.0)
    for key, level in db.items():
        units[:, :, int(key[1:]) - 21] = level / 40 + 1
    return units.tanh()


def score_of(*keys):
    score = torch.zeros(1, 4, 2, 88)
    for key in keys:
        score[:, :, 0, key - 21] = 0.5
    return score


SILENT_ONSETS = torch.full((1, 4, 88), -1.0)


def presence_loss(latents, score):
    return float(score_loss(latents, SILENT_ONSETS, score))


def test_presences_that_are_the_score_have_no_loss():
    assert presence_loss(latents_of(k60=-20.0, k72=-40.0), score_of(60, 72)) == 0


def test_a_key_that_is_not_played_is_pushed_below_its_limit():
    louder = presence_loss(latents_of(k60=-20.0, k72=-30.0), score_of(60))
    quieter = presence_loss(latents_of(k60=-20.0, k72=-60.0), score_of(60))
    assert louder > quieter > 0
    assert presence_loss(latents_of(k60=-20.0, k72=-70.0), score_of(60)) == 0


def test_below_a_quiet_note_other_keys_are_quieter_still():
    assert presence_loss(latents_of(k60=-50.0, k72=-70.0), score_of(60)) > 0
    assert presence_loss(latents_of(k60=-50.0, k72=-76.0), score_of(60)) == 0


def test_a_key_that_is_played_and_not_found_counts():
    assert presence_loss(latents_of(k60=-70.0), score_of(60)) > 0


def test_what_is_unknown_does_not_count():
    score = score_of(60)
    score[:, :, 0, 72 - 21] = math.nan
    assert presence_loss(latents_of(k60=-20.0, k72=-10.0), score) == 0
    assert presence_loss(latents_of(k60=-10.0), torch.full_like(score, math.nan)) == 0


def test_onsets_count_where_they_are_missed_and_where_they_are_not_played():
    presence, score = latents_of(k60=-20.0), score_of(60)
    score[:, :, 1, 60 - 21] = math.nan
    score[:, 1, 1, 60 - 21] = 1
    missed = SILENT_ONSETS.clone()
    found = missed.clone()
    found[:, 2, 60 - 21] = 0.5  # a frame late
    elsewhere = found.clone()
    elsewhere[:, 2, 72 - 21] = 0.5
    assert float(score_loss(presence, found, score)) == 0
    assert float(score_loss(presence, missed, score)) > 0
    assert float(score_loss(presence, elsewhere, score)) > 0


def test_the_gradient_of_a_score_is_finite_at_the_ends_of_the_tanh():
    latents = torch.ones(1, 4, 88, requires_grad=True)
    loss = score_loss(latents, torch.ones(1, 4, 88), score_of())
    loss.backward()
    assert loss.isfinite()
    assert latents.grad.isfinite().all()


def test_the_score_loss_of_a_batch_is_the_mean_of_its_items(generator):
    latents = torch.rand(3, 5, 176, generator=generator) * 2 - 1
    score = torch.rand(3, 5, 2, 88, generator=generator).round()
    score[2] = math.nan
    one = [
        score_loss(x[None, :, :88], x[None, :, 88:], y[None])
        for x, y in zip(latents, score, strict=True)
    ]
    whole = score_loss(latents[..., :88], latents[..., 88:], score)
    torch.testing.assert_close(whole, torch.stack(one).mean())
