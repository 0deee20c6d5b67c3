"""The network that reads the original's spectrum off the latents, and its share of the loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.spectrum import LOWEST_HZ, SpectrumPredictor

RATE, HOP = 16000, 800


@pytest.fixture
def reader(generator):
    return SpectrumPredictor(8, RATE, HOP)


@pytest.mark.parametrize("semitone", [0, 12, 31, 60])
def test_a_tone_is_loudest_in_its_own_semitone(reader, semitone):
    time = torch.arange(10 * HOP) / RATE
    tone = 0.3 * torch.sin(2 * torch.pi * LOWEST_HZ * 2 ** (semitone / 12) * time)
    loudness = reader.loudness(tone.unsqueeze(0))
    assert loudness.shape == (1, 10, 76)
    assert (loudness[0, 3:-3].argmax(1) == semitone).all()


def test_a_frame_is_about_the_samples_that_it_conditions(reader):
    click = torch.zeros(1, 20 * HOP)
    click[0, 10 * HOP + HOP // 2] = 0.9
    assert int(reader.loudness(click)[0].sum(1).argmax()) == 10


def test_reader_learns_what_the_latents_tell(reader, generator):
    notes = torch.randint(24, 48, (4, 10), generator=generator)
    hz = LOWEST_HZ * 2 ** (notes.repeat_interleave(HOP, 1) / 12)
    waveform = 0.3 * torch.sin(2 * torch.pi * hz.cumsum(1) / RATE)
    latents = torch.randn(60, 8, generator=generator)[notes]
    optimizer = torch.optim.Adam(reader.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = reader.loss(latents, waveform)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 4


def test_weight_is_that_of_the_loss_beside_the_codes(tiny, trained):
    waveform = 0.1 * torch.randn(2, 2 * HOP)
    latents = torch.randn(2, 2, tiny.model.latent_dim)
    heavy = trained(WaveNetDecoder(replace(tiny.model, spectrum_weight=2.0)))
    plain = WaveNetDecoder(tiny.model)
    plain.load_state_dict(heavy.state_dict(), strict=False)
    added = heavy.reconstruction_loss(latents, waveform) - plain.reconstruction_loss(
        latents, waveform
    )
    torch.testing.assert_close(added, 2 * heavy.spectrum.loss(latents, waveform))
    torch.testing.assert_close(
        heavy.heldout_figure(latents, waveform), plain.heldout_figure(latents, waveform)
    )


def test_without_weight_there_is_no_such_network(tiny):
    assert not any("spectrum" in name for name in WaveNetDecoder(tiny.model).state_dict())
