"""The 8-bit alphabet of the WaveNet family."""

from __future__ import annotations

import math

import pytest
import torch

from core.families.wavenet import mulaw

CODES = torch.arange(256)


def test_encoding_a_decoded_code_returns_it():
    assert torch.equal(mulaw.encode(mulaw.decode(CODES)), CODES)


def test_silence_is_the_code_of_zero_and_the_quietest():
    assert mulaw.encode(torch.zeros(3)).tolist() == [mulaw.SILENCE] * 3
    loudness = mulaw.decode(CODES).abs()
    assert loudness[mulaw.SILENCE] == pytest.approx(float(loudness.min()), rel=1e-4)
    assert loudness.min() < 1e-4


def test_codes_rise_with_the_waveform_and_decode_to_rising_values():
    waveform = torch.linspace(-1, 1, 20_001)
    codes = mulaw.encode(waveform)
    assert (codes.diff() >= 0).all()
    assert codes.unique().tolist() == CODES.tolist()
    assert (mulaw.decode(CODES).diff() > 0).all()


def test_grid_is_symmetric_and_spans_full_scale():
    decoded = mulaw.decode(CODES)
    torch.testing.assert_close(decoded, -decoded.flip(0))
    assert decoded[0] == -1
    assert decoded[-1] == 1


def test_error_is_within_half_a_step_of_the_companded_scale():
    waveform = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    error = (mulaw.decode(mulaw.encode(waveform)) - waveform).abs()
    # Half a step is 1/255 of the companded scale, whose slope is (1 + 255|x|) ln 256 / 255
    # in x; the slope itself grows by 1.02 over half a step.
    bound = 1.03 * (1 + 255 * waveform.abs()) * math.log(256) / 255**2
    assert (error <= bound).all()
    assert error.max() > 0.9 * bound.max() / 1.03  # the bound is no looser than it must be


@pytest.mark.parametrize("peak", [1.0, 1.5, 1e30, math.inf])
def test_waveforms_beyond_full_scale_are_clipped(peak):
    assert mulaw.encode(torch.tensor([-peak, peak])).tolist() == [0, 255]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 0)])
def test_shapes_and_dtypes(shape, dtype):
    codes = mulaw.encode(torch.zeros(shape, dtype=dtype))
    assert (codes.shape, codes.dtype) == (shape, torch.int64)
    assert (mulaw.decode(codes).shape, mulaw.decode(codes).dtype) == (shape, torch.float32)


def test_networks_see_codes_between_minus_and_plus_one_half():
    seen = mulaw.to_input(CODES)
    torch.testing.assert_close(seen, torch.linspace(-0.5, 0.5, 256))
    assert seen.dtype == torch.float32
