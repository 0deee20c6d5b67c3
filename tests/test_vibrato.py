"""How far notes sway: measured in recordings, learnt, and generated."""

import math

import pytest
import torch

from core.families.spectral.pitch import LOWEST_KEY, key_to_hz
from core.families.spectral.vibrato import RATES_HZ, SEEN, UNIT, Vibrato

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


def test_the_sway_of_a_note_is_measured(vibrato):
    for cents in (4, 8, 16):
        total, weight = (one[0] for one in vibrato.measure(notes([A4], cents)))
        assert cents_of(total, weight) == pytest.approx(0.88 * cents, rel=0.12)
        assert total[:, weight.argmax()].argmax() in (1, 2)  # 5.5 Hz is between 4.75 and 6.25


@pytest.mark.parametrize("keys", [[A4], [A3, C4, E4, A4]])
def test_notes_that_stand_still_have_no_sway(vibrato, keys):
    assert cents_of(*vibrato.measure(notes(keys, 0))) < 0.5


def test_what_no_two_harmonics_share_is_not_taken_for_vibrato(vibrato):
    torch.manual_seed(0)
    noisy = notes([A3, C4, E4, A4], 0) + 0.002 * torch.randn(1, 3 * RATE)
    assert cents_of(*vibrato.measure(noisy)) < 1


def test_in_chords_less_is_seen(vibrato):
    """The factor that corrects for it lies between what a note and a chord of four show."""
    note, chord = (cents_of(*vibrato.measure(notes(k, 8))) for k in ([A4], [A3, C4, E4, A4]))
    assert (chord / 8) ** 2 < SEEN < (note / 8) ** 2


def test_learning_converges_to_the_measurement(vibrato):
    optimizer = torch.optim.Adam(vibrato.parameters(), lr=1e-3)
    waveform = notes([A4], 8)
    for _ in range(100):
        optimizer.zero_grad()
        vibrato.loss(waveform).backward()
        optimizer.step()
    total, weight = (one[0] for one in vibrato.measure(waveform))
    wanted = total[:, A4] / weight[0, A4] / SEEN
    torch.testing.assert_close(vibrato.power[:, A4].detach(), wanted, atol=1e-3, rtol=0.05)
    assert not vibrato.power[:, 0].any()  # nothing was heard there


def test_each_item_is_learnt_from_by_itself(vibrato):
    both = torch.cat([notes([A4], 8), notes([A3], 0)])
    alone = torch.stack([vibrato.loss(both[:1]), vibrato.loss(both[1:])])
    torch.testing.assert_close(vibrato.loss(both), alone.mean())


@pytest.mark.parametrize("samples", [256, RATE // 2])
def test_audio_too_short_to_sway_teaches_nothing(vibrato, samples):
    vibrato.power.data.fill_(0.5)
    vibrato.loss(torch.randn(2, samples)).backward()
    assert not vibrato.power.grad.any()


def test_generated_sway_is_as_deep_as_it_was_learnt(vibrato):
    vibrato.power.data[2] = 0.04  # a fifth of the unit at 6.25 Hz
    sway = vibrato(vibrato.draw(1), 0, 1000).detach()
    assert sway.square().mean(0).sqrt().mean() * math.sqrt(2) == pytest.approx(UNIT / 5, rel=0.02)
    crossings = (sway[:-1].sign() != sway[1:].sign()).sum(0).float().mean()
    assert crossings / 2 / (1000 * FRAME / RATE) == pytest.approx(RATES_HZ[2], rel=0.02)


def test_sway_goes_on_where_it_was(vibrato):
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
