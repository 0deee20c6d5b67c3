"""How far notes deviation: measured in recordings, learnt, and generated."""

import math

import pytest
import torch

from core.families.spectral.salience import LOWEST_KEY, key_to_hz
from core.families.spectral.vibrato import RATES_HZ, UNIT, Vibrato

RATE, N_FFT, FRAME = 44_100, 2048, 512  # of preset `fast`
A3, C4, E4, A4 = 36, 39, 43, 48  # keys, counted from A0


@pytest.fixture
def vibrato():
    return Vibrato(RATE, n_fft=N_FFT, frame_length=FRAME)


def notes(keys, cents, hertz=5.5, seconds=3.0):
    """Play keys together, each with ten harmonics and a vibrato that begins anywhere."""
    generator = torch.Generator().manual_seed(len(keys))
    t = torch.arange(int(seconds * RATE), dtype=torch.float64) / RATE
    total = torch.zeros_like(t)
    for key in keys:
        begin, *phases = torch.rand(11, generator=generator, dtype=torch.float64)
        depth = cents / 1200 * math.log(2)
        swing = depth / (2 * math.pi * hertz) * (2 * math.pi * (hertz * t + begin)).cos()
        turns = key_to_hz(torch.tensor(LOWEST_KEY + key)) * (t - swing)
        for number, phase in enumerate(phases, start=1):
            total += (2 * math.pi * (number * turns + phase)).sin() / number / len(keys)
    return 0.1 * total.float().unsqueeze(0)


def cents_of(total, weight):
    return (total.sum() / weight.sum()).clamp(min=0).sqrt().item() * UNIT * 1200 / math.log(2)


def test_the_vibrato_of_a_note_is_measured(vibrato):
    for cents in (4, 8, 16):
        total, weight = (one[0] for one in vibrato.measure(notes([A4], cents)))
        assert cents_of(total, weight) == pytest.approx(0.88 * cents, rel=0.12)
        assert total[:, weight.argmax()].argmax() in (1, 2)  # 5.5 Hz is between 4.75 and 6.25


@pytest.mark.parametrize("keys", [[A4], [A3, C4, E4, A4]])
def test_steady_notes_measure_no_vibrato(vibrato, keys):
    assert cents_of(*vibrato.measure(notes(keys, 0))) < 0.5


def test_what_no_two_harmonics_share_is_not_taken_for_vibrato(vibrato):
    torch.manual_seed(0)
    noisy = notes([A3, C4, E4, A4], 0) + 0.002 * torch.randn(1, 3 * RATE)
    assert cents_of(*vibrato.measure(noisy)) < 1


def test_in_chords_less_is_seen(vibrato):
    """Why a recording's deviation is not taken at its word but compared with the output's."""
    note, chord = (cents_of(*vibrato.measure(notes(k, 8))) for k in ([A4], [A3, C4, E4, A4]))
    assert chord < 0.7 * note


@pytest.mark.parametrize("keys", [[A4], [A3, C4, E4, A4]])
def test_learning_ends_where_the_output_vibratos_as_the_recording(vibrato, keys):
    """Alone and in a chord, which is the same depth however much of it is seen."""
    cents = 0.0
    optimizer = torch.optim.Adam(vibrato.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=60)
    waveform = notes(keys, 8, seconds=1.0)
    for _ in range(60):
        optimizer.zero_grad()
        vibrato.loss(notes(keys, cents, seconds=1.0), waveform).backward()
        optimizer.step()
        schedule.step()
        power = vibrato.power[:, A4].detach().clamp(min=0).sum().item()
        cents = power**0.5 * UNIT * 1200 / math.log(2)
    assert cents == pytest.approx(8, rel=0.1)
    assert not vibrato.power[:, 0].any()  # no note was played there


def test_steady_notes_get_no_gradient_towards_less(vibrato):
    vibrato.loss(notes([A4], 8), notes([A4], 0)).backward()
    assert not vibrato.power.grad.any()
    vibrato.power.data.fill_(0.01)
    vibrato.loss(notes([A4], 8), notes([A4], 0)).backward()
    assert (vibrato.power.grad[1:3, A4] > 0).all()


def test_each_item_is_learnt_from_by_itself(vibrato):
    vibrato.power.data.fill_(0.01)
    own = torch.cat([notes([A4], 4), notes([A3], 9)])
    both = torch.cat([notes([A4], 8), notes([A3], 0)])
    gradients = []
    for items in (slice(0, 1), slice(1, 2), slice(0, 2)):
        vibrato.zero_grad()
        vibrato.loss(own[items], both[items]).backward()
        gradients.append(vibrato.power.grad)
    torch.testing.assert_close(gradients[2], (gradients[0] + gradients[1]) / 2)


@pytest.mark.parametrize("samples", [256, RATE // 2])
def test_audio_too_short_to_vibrato_teaches_nothing(vibrato, samples):
    vibrato.power.data.fill_(0.5)
    vibrato.loss(torch.randn(2, samples), torch.randn(2, samples)).backward()
    assert not vibrato.power.grad.any()


def test_generated_vibrato_is_as_deep_as_it_was_learnt(vibrato):
    vibrato.power.data[2] = 0.04  # a fifth of the unit at 6.25 Hz
    deviation = vibrato(vibrato.draw(1), 0, 1000).detach()
    assert deviation.square().mean(0).sqrt().mean() * math.sqrt(2) == pytest.approx(
        UNIT / 5, rel=0.02
    )
    crossings = (deviation[:-1].sign() != deviation[1:].sign()).sum(0).float().mean()
    assert crossings / 2 / (1000 * FRAME / RATE) == pytest.approx(RATES_HZ[2], rel=0.02)


def test_vibrato_goes_on_where_it_was(vibrato):
    vibrato.power.data.fill_(0.3)
    phases = vibrato.draw(3)
    whole = vibrato(phases, 0, 50)
    parts = torch.cat([vibrato(phases, 0, 20), vibrato(phases, 20, 30)])
    torch.testing.assert_close(parts, whole)
    later = vibrato(phases, 2560 * RATE // FRAME, 2)  # 43 minutes, an integer number of turns
    torch.testing.assert_close(later, whole[:2], atol=1e-5, rtol=0)


def test_phases_are_those_of_the_seed(vibrato):
    torch.testing.assert_close(vibrato.draw(7), vibrato.draw(7))
    assert not torch.equal(vibrato.draw(7), vibrato.draw(8))
    assert vibrato.draw(-1).shape == vibrato.power.shape


def test_items_vibrato_with_phases_of_their_own(vibrato):
    vibrato.power.data.fill_(0.3)
    phases = torch.stack([vibrato.draw(3), vibrato.draw(4)])
    both = vibrato(phases, 5, 20)
    for deviation, own in zip(both, phases, strict=True):
        torch.testing.assert_close(deviation, vibrato(own, 5, 20))
