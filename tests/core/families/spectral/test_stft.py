"""Magnitudes on the spectral family's frame grid, and overlapping frames."""

from __future__ import annotations

import math

import pytest
import torch

from core.families.spectral.stft import overlap_add, spectrogram


def test_frames_are_centred_on_their_samples():
    """A click in the middle of frame 5's samples is loudest there, and equal around it."""
    click = torch.zeros(1, 12 * 64)
    click[0, 5 * 64 + 32] = 1
    loudness = spectrogram(click, 256, 64).sum(2)[0]
    assert loudness.shape == (12,)
    assert loudness.argmax() == 5
    torch.testing.assert_close(loudness[4], loudness[6], rtol=1e-3, atol=0)


def test_full_scale_sine_has_magnitude_one_half():
    sine = torch.sin(2 * math.pi * 16 / 256 * torch.arange(64 * 20)).unsqueeze(0)
    frame = spectrogram(sine, 256, 64)[0, 10]
    assert frame.argmax() == 16
    assert frame.max().item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("n_bins", [None, 9, 1])
@pytest.mark.parametrize("frame_length", [4, 5])
def test_gradient_of_magnitudes_is_their_derivative(generator, frame_length, n_bins):
    waveform = torch.randn(2, 3 * frame_length, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: spectrogram(x, 16, frame_length, n_bins), waveform)


def test_overlapping_frames_are_added_where_they_lie(generator):
    frames = torch.randn(2, 3, 10)
    added = overlap_add(frames, 4)
    wanted = torch.zeros(2, 20)
    for number in range(3):
        wanted[:, 4 * number : 4 * number + 10] += frames[:, number]
    torch.testing.assert_close(added, wanted)
