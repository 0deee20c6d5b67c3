"""Notes of the spectral family's decoders over time."""

from __future__ import annotations

import pytest
import torch

from core.families.spectral.note_envelopes import (
    BETWEEN,
    DECAYS,
    FED,
    N_HARMONICS,
    N_TIMBRES,
    SLOPES,
    Spectra,
    Voices,
    ring,
)
from core.families.spectral.salience import N_KEYS

KEY = 40
N_OTHERS = 3


@pytest.fixture
def voices(generator):
    return Voices(4, 2 * N_KEYS + N_OTHERS, frames_per_latent=2).eval()


@pytest.fixture
def values(generator):
    """Random excitations and decays of 30 frames, in logarithms."""
    excitation = torch.randn(2, 30, N_TIMBRES * N_KEYS) - 4
    decay = torch.randn(2, 30, N_TIMBRES * N_KEYS) - 2
    return torch.cat([excitation, decay], dim=2)


def levels_of(voices, presence, onset):
    """Return the levels of one key over time in nepers, [N, timbres]."""
    keys = torch.full((1, len(presence), 2, N_KEYS), -1.0)
    keys[0, :, 0, KEY], keys[0, :, 1, KEY] = presence, onset
    with torch.no_grad():
        values = voices(keys, torch.zeros(1, len(presence), N_OTHERS))
        return ring(values, voices.silence(values))[0].log().view(-1, N_TIMBRES, N_KEYS)[..., KEY]


def test_ringing_is_the_recurrence_it_says(voices, values):
    amplitudes, last = ring(values, voices.silence(values))
    excitation, decay = values.double().exp().chunk(2, dim=2)
    amplitude, wanted = voices.silence(values).double(), []
    for t in range(30):
        amplitude = amplitude * torch.exp(-decay[:, t].clamp(1e-3, 3)) + excitation[:, t]
        wanted.append(amplitude)
    torch.testing.assert_close(amplitudes, torch.stack(wanted, dim=1).float(), atol=0, rtol=1e-5)
    torch.testing.assert_close(last, amplitudes[:, -1])


@pytest.mark.parametrize("batch", [1, 2])
def test_gradient_of_ringing_is_that_of_the_recurrence(values, batch):
    few = values[:batch, :9, [0, 1, N_TIMBRES * N_KEYS, N_TIMBRES * N_KEYS + 1]].double()
    before = torch.full((batch, 2), 0.1, dtype=torch.float64)
    torch.autograd.gradcheck(lambda x: ring(x, before)[0], few.requires_grad_())


def test_ringing_goes_on_where_it_was_cut(voices, values):
    whole, end = ring(values, voices.silence(values))
    first, between = ring(values[:, :7], voices.silence(values))
    second, last = ring(values[:, 7:], between)
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    assert torch.equal(last, end)
    assert torch.equal(ring(values[:, :0], between)[1], between)


def test_ringing_for_an_hour_stays_exact(voices, values):
    """What is played again and again sounds at the end as it did at the beginning."""
    key = values[:, :, [0, N_TIMBRES * N_KEYS]]  # one excitation and its decay
    n_frames = 3600 * 44100 // 512
    amplitudes, _ = ring(key.repeat(1, n_frames // 30, 1), voices.silence(values)[:, :1])
    torch.testing.assert_close(amplitudes[:, -30:], amplitudes[:, 300:330], atol=0, rtol=1e-5)


def test_an_untrained_voice_holds_what_is_fed_and_lets_die_what_is_struck(voices):
    presence = torch.full((40,), 0.5)
    onset = torch.full((40,), -1.0)
    onset[10] = 1.0
    levels = levels_of(voices, presence, onset)
    fed = torch.tensor(FED)
    assert (levels[30:, fed] - levels[15:30, fed].mean(0)).abs().max() < 0.3
    fall = (levels[23] - levels[43])[~fed] / 20  # nepers a frame
    decays = torch.tensor(DECAYS)[~fed]
    assert (fall[0] / decays[0]).item() == pytest.approx(1, abs=0.5)
    assert levels[22, 3] - levels[18, 3] > 1  # the strike, at latent frame 10


def test_gradients_of_ringing_are_finite_at_every_extreme(voices, values):
    for extreme in (values, 1e6 * values, torch.zeros_like(values)):
        leaf = extreme.clone().requires_grad_()
        ring(leaf, voices.silence(leaf))[0].sum().backward()
        assert leaf.grad.isfinite().all()


def test_a_keys_harmonics_fall_by_the_timbres_slope_to_begin_with():
    spectra = Spectra(464, 2048, 44100)
    with torch.no_grad():
        amplitudes = spectra()
    assert amplitudes.shape == (N_TIMBRES, N_KEYS, 464)
    for timbre, slope in enumerate(SLOPES):
        here = spectra.harmonics[10] > 0
        wanted = spectra.harmonics[10][here].float() ** -slope
        torch.testing.assert_close(amplitudes[timbre, 10][here], wanted)
        assert (amplitudes[timbre, 10][~here] == BETWEEN).all()
    assert spectra.harmonics[10].max() > N_HARMONICS
