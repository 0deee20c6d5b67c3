"""Note envelopes and spectra of the spectral decoders."""

from __future__ import annotations

import math

import pytest
import torch

from core.families.spectral.note_envelopes import (
    BETWEEN,
    DECAYS,
    N_HARMONICS,
    N_TIMBRES,
    SLOPES,
    STRIKE_DECAY,
    SUSTAINED,
    NoteEnvelopes,
    NoteSpectra,
    StrikeNoise,
    integrate_envelopes,
)
from core.families.spectral.salience import LOWEST_KEY, N_KEYS, key_to_hz

KEY = 40
N_OTHERS = 3


@pytest.fixture
def network(generator):
    return NoteEnvelopes(4, N_OTHERS, frames_per_latent=2, has_pitch=False).eval()


@pytest.fixture
def values(generator):
    """Random excitations and decays of 30 frames, in logarithms."""
    excitation = torch.randn(2, 30, N_TIMBRES * N_KEYS) - 4
    decay = torch.randn(2, 30, N_TIMBRES * N_KEYS) - 2
    return torch.cat([excitation, decay], dim=2)


def levels_of(network, presence, onset):
    """Return the levels of one key over time in nepers, [N, envelopes]."""
    keys = torch.full((1, len(presence), 2, N_KEYS), -1.0)
    keys[0, :, 0, KEY], keys[0, :, 1, KEY] = presence, onset
    with torch.no_grad():
        values = network(keys, torch.zeros(1, len(presence), N_OTHERS))
        return (
            integrate_envelopes(values, network.silence(values))[0]
            .log()
            .view(-1, network.n_envelopes, N_KEYS)[..., KEY]
        )


def test_amplitudes_follow_the_recurrence(network, values):
    amplitudes, last = integrate_envelopes(values, network.silence(values))
    excitation, decay = values.double().exp().chunk(2, dim=2)
    amplitude, wanted = network.silence(values).double(), []
    for t in range(30):
        amplitude = amplitude * torch.exp(-decay[:, t].clamp(1e-3, 3)) + excitation[:, t]
        wanted.append(amplitude)
    torch.testing.assert_close(amplitudes, torch.stack(wanted, dim=1).float(), atol=0, rtol=1e-5)
    torch.testing.assert_close(last, amplitudes[:, -1])


@pytest.mark.parametrize("batch", [1, 2])
def test_gradient_of_envelopes_is_that_of_the_recurrence(values, batch):
    few = values[:batch, :9, [0, 1, N_TIMBRES * N_KEYS, N_TIMBRES * N_KEYS + 1]].double()
    before = torch.full((batch, 2), 0.1, dtype=torch.float64)
    torch.autograd.gradcheck(lambda x: integrate_envelopes(x, before)[0], few.requires_grad_())


def test_envelopes_continue_where_they_were_cut(network, values):
    whole, end = integrate_envelopes(values, network.silence(values))
    first, between = integrate_envelopes(values[:, :7], network.silence(values))
    second, last = integrate_envelopes(values[:, 7:], between)
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    assert torch.equal(last, end)
    assert torch.equal(integrate_envelopes(values[:, :0], between)[1], between)


def test_envelopes_stay_exact_for_an_hour(network, values):
    """A repeated pattern has the same amplitudes at the end as at the beginning."""
    key = values[:, :, [0, N_TIMBRES * N_KEYS]]  # one excitation and its decay
    n_frames = 3600 * 44100 // 512
    amplitudes, _ = integrate_envelopes(
        key.repeat(1, n_frames // 30, 1), network.silence(values)[:, :1]
    )
    torch.testing.assert_close(amplitudes[:, -30:], amplitudes[:, 300:330], atol=0, rtol=1e-5)


def test_untrained_envelopes_sustain_some_timbres_and_let_struck_ones_decay(network):
    presence = torch.full((40,), 0.5)
    onset = torch.full((40,), -1.0)
    onset[10] = 1.0
    levels = levels_of(network, presence, onset)
    sustained = torch.tensor(SUSTAINED)
    assert (levels[30:, sustained] - levels[15:30, sustained].mean(0)).abs().max() < 0.3
    fall = (levels[23] - levels[43])[~sustained] / 20  # nepers a frame
    decays = torch.tensor(DECAYS)[~sustained]
    assert (fall[0] / decays[0]).item() == pytest.approx(1, abs=0.5)
    assert levels[22, 3] - levels[18, 3] > 1  # the strike, at latent frame 10


def test_pretrained_onsets_strike_alike_however_clear_they_are(generator):
    """A note among others, and a note alone; not what sounds on."""
    network = NoteEnvelopes(
        4, N_OTHERS, frames_per_latent=2, has_pitch=False, is_pretrained=True
    ).eval()
    network.output.weight.data.zero_()  # of the rule itself, without what is learnt
    struck = ~torch.tensor(SUSTAINED)
    presence = torch.full((20,), 0.4)
    strikes = []
    for clear in (-0.5, 0.0, 2.0, -1.2):
        onset = torch.full((20,), -3.0)
        onset[10] = clear
        strikes.append(levels_of(network, presence, onset)[20:24, struck].amax(0))
    torch.testing.assert_close(strikes[0], strikes[1])
    torch.testing.assert_close(strikes[0], strikes[2])
    assert (strikes[0] - strikes[3] > 4.6).all()  # 40 dB


def test_the_noise_of_a_strike_falls_faster_than_any_timbre(generator):
    network = NoteEnvelopes(4, N_OTHERS, frames_per_latent=2, has_pitch=False, has_strikes=True)
    network.output.weight.data.zero_()
    onset = torch.full((40,), -1.0)
    onset[10] = 1.0
    levels = levels_of(network, torch.full((40,), 0.5), onset)
    assert levels.shape == (80, N_TIMBRES + 1)
    assert levels[21, -1] - levels[19, -1] > 3
    falls = (levels[21:40] - levels[22:41]).mean(0)  # nepers a frame
    assert falls[-1].item() == pytest.approx(STRIKE_DECAY, rel=0.1)
    assert falls[:-1].max() < STRIKE_DECAY / 1.5


def test_the_noises_of_strikes_add_up_in_power():
    noise = StrikeNoise(torch.tensor([100.0, 1000.0, 5000.0])).requires_grad_(False)
    both = torch.zeros(1, 2, N_KEYS)
    both[0, 0, [30, 50]] = torch.tensor([0.5, 0.2])
    both[0, 1, 30] = 0.5
    noise.levels[50] += 0.1
    power = noise(both)[0]
    assert power.shape == (2, 3)
    assert (power > 0).all()
    assert (power[:, :-1] > power[:, 1:]).all()  # most of it in the bass
    louder = power[0] - power[1]
    ratio = 0.4 * math.e  # of amplitudes: of keys, and of a level by a tenth of ten nepers
    torch.testing.assert_close(louder / power[1], torch.full((3,), ratio**2))


def test_gradients_of_envelopes_are_finite_at_every_extreme(network, values):
    for extreme in (values, 1e6 * values, torch.zeros_like(values)):
        leaf = extreme.clone().requires_grad_()
        integrate_envelopes(leaf, network.silence(leaf))[0].sum().backward()
        assert leaf.grad.isfinite().all()


def test_a_keys_harmonics_fall_by_the_timbres_slope_to_begin_with():
    spectra = NoteSpectra(464, 2048, 44100)
    with torch.no_grad():
        amplitudes, _, places = spectra(torch.tensor([10]), torch.tensor([0.0]))
    assert amplitudes.shape == (N_TIMBRES, 1, 464)
    fundamental = key_to_hz(torch.tensor(LOWEST_KEY + 10)) * 2048 / 44100
    harmonics = (places[0] / fundamental).round()
    assert harmonics.max() > N_HARMONICS
    here = harmonics > 0
    below = torch.arange(1, 465) < fundamental / 2
    for timbre, slope in enumerate(SLOPES):
        torch.testing.assert_close(amplitudes[timbre, 0][here], harmonics[here] ** -slope)
        assert (amplitudes[timbre, 0][~here & ~below] == BETWEEN).all()
        assert (amplitudes[timbre, 0][below] == 0).all()


def test_a_key_between_two_has_its_harmonics_between_theirs():
    spectra = NoteSpectra(464, 2048, 44100)
    with torch.no_grad():
        _, _, places = spectra(torch.tensor([40, 40]), torch.tensor([0.0, 0.5]))
    ratio = places[1][places[1] > 0][:20] / places[0][places[0] > 0][:20]
    torch.testing.assert_close(ratio, torch.full((20,), 2 ** (0.5 / 12)), atol=1e-4, rtol=0)
