"""The 8-bit alphabet of the WaveNet family, on both of its grids."""

from __future__ import annotations

import math

import pytest
import torch

from core.families.wavenet.mulaw import MuLaw, silence_input, to_input

CODES = torch.arange(256)


@pytest.fixture(params=["round", "floor"])
def mu_law(request):
    return MuLaw(request.param)


def test_encoding_a_decoded_code_returns_it(mu_law):
    assert torch.equal(mu_law.encode(mu_law.decode(CODES)), CODES)


@pytest.mark.parametrize(("grid", "silence"), [("round", 128), ("floor", 127)])
def test_silence_is_the_code_of_zero_and_the_quietest(grid, silence):
    mu_law = MuLaw(grid)
    assert mu_law.encode(torch.zeros(3)).tolist() == [silence] * 3 == [mu_law.silence] * 3
    loudness = mu_law.decode(CODES).abs()
    assert loudness[silence] == pytest.approx(float(loudness.min()), rel=1e-4)
    assert loudness.min() < 1e-4
    assert silence_input(mu_law) == pytest.approx(to_input(torch.tensor(silence)).item(), abs=1e-7)


def test_codes_rise_with_the_waveform_and_decode_to_rising_values(mu_law):
    waveform = torch.linspace(-1, 1, 20_001)
    codes = mu_law.encode(waveform)
    assert (codes.diff() >= 0).all()
    assert codes.unique().tolist() == CODES.tolist()
    assert (mu_law.decode(CODES).diff() > 0).all()


def test_the_rounded_grid_is_symmetric_and_spans_full_scale():
    decoded = MuLaw("round").decode(CODES)
    torch.testing.assert_close(decoded, -decoded.flip(0))
    assert decoded[0] == -1
    assert decoded[-1] == 1


def test_the_truncated_grid_is_the_floor_of_the_companded_waveform():
    for number in (-1.0, -0.3, -1e-4, 0.0, 1e-4, 0.5, 0.9999, 1.0):
        companded = math.copysign(math.log1p(255 * abs(number)) / math.log1p(255), number)
        code = MuLaw("floor").encode(torch.tensor(number, dtype=torch.float64))
        assert int(code) == math.floor((companded + 1) / 2 * 255)
    assert MuLaw("floor").decode(torch.tensor([127, 255])).tolist() == [0, 1]


def test_error_is_within_half_a_step_of_the_companded_scale(mu_law):
    waveform = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    error = (mu_law.decode(mu_law.encode(waveform)) - waveform).abs()
    # Half a step is 1/255 of the companded scale, whose slope is (1 + 255|x|) ln 256 / 255
    # in x; the slope itself grows by 1.02 over half a step.
    bound = 1.03 * (1 + 255 * waveform.abs()) * math.log(256) / 255**2
    assert (error <= bound).all()
    assert error.max() > 0.9 * bound.max() / 1.03  # the bound is no looser than it must be


@pytest.mark.parametrize("peak", [1.0, 1.5, 1e30, math.inf])
def test_waveforms_beyond_full_scale_are_clipped(mu_law, peak):
    assert mu_law.encode(torch.tensor([-peak, peak])).tolist() == [0, 255]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 0)])
def test_shapes_and_dtypes(mu_law, shape, dtype):
    codes = mu_law.encode(torch.zeros(shape, dtype=dtype))
    assert (codes.shape, codes.dtype) == (shape, torch.int64)
    assert (mu_law.decode(codes).shape, mu_law.decode(codes).dtype) == (shape, torch.float32)


def test_networks_take_codes_between_minus_and_plus_one_half():
    inputs = to_input(CODES)
    torch.testing.assert_close(inputs, torch.linspace(-0.5, 0.5, 256))
    assert inputs.dtype == torch.float32
