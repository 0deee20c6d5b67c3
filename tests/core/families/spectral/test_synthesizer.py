"""Sinusoids plus noise: pitch, level and timing of what the controls ask for."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from core.families.spectral.sinusoid_lobes import REACH, sum_lobes
from core.families.spectral.synthesizer import Controls, StreamingSynthesizer, Synthesizer

FRAME = 64
N_FFT = 256


@pytest.fixture
def synthesizer(tiny_spectral):
    assert (tiny_spectral.model.frame_length, tiny_spectral.model.n_fft) == (FRAME, N_FFT)
    return Synthesizer(tiny_spectral.model, 100)


def silent(n_frames, n_partials=100):
    return Controls(
        amplitude=torch.zeros(1, n_frames, n_partials),
        deviation=torch.zeros(1, n_frames, n_partials),
        noise=torch.zeros(1, n_frames, N_FFT // 2 + 1),
    )


def random_controls(n_frames, *, noise=0.1):
    return Controls(
        amplitude=torch.rand(1, n_frames, 100) / 20,
        deviation=2 * torch.rand(1, n_frames, 100) - 1,
        noise=noise * torch.rand(1, n_frames, N_FFT // 2 + 1),
    )


def stream(synthesizer, controls, *places, seed=0):
    """Give the controls in pieces cut at `places`."""
    made = StreamingSynthesizer(synthesizer, seed=seed)
    edges = [0, *places, controls.noise.shape[1]]
    pieces = [
        made.advance(
            Controls(
                controls.amplitude[:, start:stop],
                controls.deviation[:, start:stop],
                controls.noise[:, start:stop],
            )
        )
        for start, stop in pairwise(edges)
    ]
    return torch.cat([*pieces, made.finish()], dim=1)[0]


@pytest.mark.parametrize("bin_number", [5, 20, 90])
@pytest.mark.parametrize("deviation", [-1.0, -0.37, 0.0, 0.5])
def test_steady_controls_give_one_steady_sinusoid(synthesizer, bin_number, deviation):
    """Of the frequency and amplitude asked for, through all frames, whatever the hop."""
    controls = silent(100)
    controls.amplitude[..., bin_number - 1] = 0.5
    controls.deviation[...] = deviation
    inside = synthesizer.render(controls)[0, 1000:-1000].double()
    angle = 2 * math.pi * (bin_number + deviation) / N_FFT * torch.arange(len(inside))
    basis = torch.stack([angle.cos(), angle.sin()], dim=1).double()
    fitted = torch.linalg.lstsq(basis, inside.unsqueeze(1)).solution
    assert fitted.norm().item() == pytest.approx(0.5, rel=0.01)
    assert (inside - (basis @ fitted).squeeze()).abs().max() < 0.01


def test_phases_are_the_running_sum_of_mean_frequencies(synthesizer):
    deviation = torch.tensor([[0.2], [0.6], [-0.4]])
    synthesizer.n_partials = 1
    last = (torch.zeros(1), torch.zeros(1))
    before = torch.tensor([0.9]).double()
    phases = synthesizer.phases(torch.ones(3, 1), deviation, before, last)
    steps = torch.tensor([1.1, 1.4, 1.1]).double() * FRAME / N_FFT
    torch.testing.assert_close(phases.squeeze(), (0.9 + steps.cumsum(0)) % 1, atol=1e-6, rtol=0)


def test_a_partial_that_glides_over_many_oscillators_keeps_its_level(synthesizer):
    """It takes its phase along; with a phase of each oscillator's own it would beat."""
    n_frames = 200
    place = torch.linspace(20, 40, n_frames)
    controls = silent(n_frames)
    nearest = place.round().long()
    frames = torch.arange(n_frames)
    controls.amplitude[0, frames, nearest - 1] = 0.5
    controls.deviation[0, frames, nearest - 1] = place - nearest
    inside = synthesizer.render(controls)[0, 1000:-1000]
    envelope = inside.unfold(0, 64, 64).abs().amax(1)
    assert envelope.min() > 0.45
    assert envelope.max() < 0.55


def test_a_frame_sounds_around_its_own_samples(synthesizer):
    controls = silent(12)
    controls.amplitude[:, 5, 29] = 1
    energy = synthesizer.render(controls)[0].square()
    centre = (energy * torch.arange(len(energy))).sum() / energy.sum()
    assert centre.item() == pytest.approx(5.5 * FRAME, abs=2)
    assert energy[4 * FRAME : 7 * FRAME].sum() > 0.95 * energy.sum()


def test_noise_lies_where_it_was_asked_for_and_grows_with_its_amplitude(synthesizer, generator):
    def spectrum(level):
        controls = silent(400)
        controls.noise[..., 40:60] = level
        waveform = synthesizer.render(controls)[0]
        return (
            torch.stft(waveform, N_FFT, window=torch.hann_window(N_FFT), return_complex=True)
            .abs()
            .mean(1)
        )

    once, twice = spectrum(0.1), spectrum(0.2)
    assert (twice[42:58] / once[42:58]).mean().item() == pytest.approx(2, rel=0.1)
    assert once[42:58].min() > 30 * once[:30].max()
    assert once[42:58].min() > 30 * once[70:].max()


@pytest.mark.parametrize("n_frames", [1, 2, 5, 30])
def test_streaming_gives_the_rendered_waveform(synthesizer, generator, n_frames):
    controls = random_controls(n_frames, noise=0)
    rendered = synthesizer.render(controls)[0]
    assert len(rendered) == n_frames * FRAME
    torch.testing.assert_close(stream(synthesizer, controls), rendered, atol=1e-5, rtol=0)


@pytest.mark.parametrize("places", [(1,), (29,), (1, 2, 3), (10, 20), tuple(range(1, 30))])
def test_stream_does_not_depend_on_how_controls_are_cut(synthesizer, generator, places):
    controls = random_controls(30)
    whole = stream(synthesizer, controls)
    torch.testing.assert_close(stream(synthesizer, controls, *places), whole, atol=1e-5, rtol=0)


def test_stream_leaves_torchs_random_numbers_alone(synthesizer, generator):
    controls = random_controls(5)
    state = torch.get_rng_state()
    stream(synthesizer, controls)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**64 - 1])
def test_any_seed_gives_noise_of_its_own(synthesizer, generator, seed):
    controls = random_controls(5)
    first = stream(synthesizer, controls, seed=seed)
    assert torch.equal(stream(synthesizer, controls, seed=seed), first)
    assert not torch.allclose(stream(synthesizer, controls, seed=seed + 1), first, atol=1e-3)


def test_an_empty_stream_ends_with_nothing(synthesizer):
    assert StreamingSynthesizer(synthesizer, seed=0).finish().shape == (1, 0)


def test_pitch_is_learnt_within_frames_not_through_the_phases_after_them(synthesizer, generator):
    controls = random_controls(20)
    for values in (controls.amplitude, controls.deviation, controls.noise):
        values.requires_grad_()
    synthesizer.render(controls)[0, 15 * FRAME :].square().sum().backward()
    for values in (controls.amplitude, controls.deviation, controls.noise):
        assert values.grad.isfinite().all()
        assert values.grad[0, 15:].abs().max() > 0
        assert values.grad[0, :12].abs().max() == 0


def test_a_lobe_is_a_gaussian_around_its_oscillator(generator):
    phasors, deviation = torch.tensor([[1.0], [0.5]]), torch.tensor([0.3])
    bins = torch.arange(-REACH, REACH + 1)
    wanted = torch.exp(-0.5 * ((bins - 0.3) / 1.1).square()) * (-1.0) ** bins
    torch.testing.assert_close(sum_lobes(phasors, deviation, 1.1), phasors * wanted)


def test_gradient_of_lobes_is_their_derivative(generator):
    phasors = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    deviation = (2 * torch.rand(2, 3, dtype=torch.float64) - 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, d: sum_lobes(p, d, 1.1), (phasors, deviation))
