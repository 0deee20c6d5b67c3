"""What a decoder hears of its past in training: noise and gaps, drawn item by item."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.config import WaveNetConfig
from core.errors import UsageError
from core.families.noise import noise_of_items
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.history import corrupt_past, corrupts_past
from core.presets import get_preset

RATE = 16000
N_ITEMS = 400


@pytest.fixture
def music(generator):
    """Sines of several levels, float32 [N_ITEMS, 1600]."""
    time = torch.arange(1600) / RATE
    levels = 10 ** torch.linspace(-2, -0.5, N_ITEMS)
    return levels.unsqueeze(1) * torch.sin(2 * torch.pi * 300 * time)


def level_db(waveform):
    return 10 * waveform.square().mean(1).log10()


def test_paper_leaves_the_past_as_it_is():
    assert not corrupts_past(get_preset("paper").model)
    assert get_preset("paper").model.spectrum_weight == 0


def test_noise_has_levels_between_the_two_relative_to_the_item(music):
    config = WaveNetConfig(history_noise_share=1.0, history_noise_db=(-30.0, 10.0))
    relative = level_db(corrupt_past(music, config) - music) - level_db(music)
    assert relative.min() > -30.5
    assert relative.max() < 10.5
    assert relative.mean() == pytest.approx(-10, abs=1.5)
    assert relative.std() == pytest.approx(40 / 12**0.5, rel=0.1)


def test_silence_gets_some_noise(music):
    config = WaveNetConfig(history_noise_share=1.0)
    assert corrupt_past(torch.zeros_like(music), config).abs().amax(1).min() > 0


@pytest.mark.parametrize(
    "changes", [{"history_noise_share": 0.25}, {"history_gap_share": 0.25}], ids=["noise", "gaps"]
)
def test_the_other_items_stay_clean(music, changes):
    changed = corrupt_past(music, WaveNetConfig(**changes)) != music
    assert float(changed.any(1).float().mean()) == pytest.approx(0.25, abs=0.06)


def test_gaps_and_what_lies_between_are_as_long_as_asked_for(music):
    config = WaveNetConfig(history_gap_share=1.0, history_gap_seconds=(0.01, 0.02))
    ones = torch.ones_like(music)
    heard = corrupt_past(ones, config)
    assert set(heard.unique().tolist()) == {0.0, 1.0}
    assert float(heard.mean()) == pytest.approx(0.5, abs=0.03)
    for item in heard[:20]:
        _, lengths = item.unique_consecutive(return_counts=True)
        inner = lengths[1:-1]  # the first and the last may be cut
        assert inner.min() >= 159
        assert inner.max() <= 321


def test_what_is_drawn_for_an_item_does_not_depend_on_its_batch(music):
    config = WaveNetConfig(history_noise_share=0.5, history_gap_share=0.5)
    keys = [[0, item, 2] for item in range(8)]
    with noise_of_items(keys, torch.device("cpu")):
        whole = corrupt_past(music[:8], config)
    with noise_of_items(keys[4:], torch.device("cpu")):
        part = corrupt_past(music[4:8], config)
    assert whole[4:].equal(part)
    assert not whole.equal(music[:8])


def test_only_training_corrupts_the_past_and_predicts_the_true_codes(tiny, trained, monkeypatch):
    config = replace(tiny.model, history_noise_share=1.0, history_noise_db=(0.0, 0.0))
    decoder = trained(WaveNetDecoder(config))
    clean = trained(WaveNetDecoder(tiny.model))
    clean.load_state_dict(decoder.state_dict())
    waveform = 0.1 * torch.randn(2, 2 * config.hop_length)
    latents = torch.randn(2, 2, config.latent_dim)
    torch.testing.assert_close(
        decoder.heldout_figure(latents, waveform), clean.heldout_figure(latents, waveform)
    )
    truth = clean.reconstruction_loss(latents, waveform)
    assert abs(decoder.reconstruction_loss(latents, waveform) - truth) > 1e-6
    # The codes to be predicted are the true ones: what is heard instead may be anything.
    monkeypatch.setattr("core.families.wavenet.decoder.corrupt_past", lambda waveform, _: waveform)
    torch.testing.assert_close(decoder.reconstruction_loss(latents, waveform), truth)


@pytest.mark.parametrize(
    "changes",
    [
        {"history_noise_db": (3.0, 2.0)},
        {"history_gap_seconds": (0.0, 1.0)},
        {"history_gap_seconds": (0.2, 0.1)},
        {"history_noise_share": -0.1},
    ],
)
def test_impossible_values_are_refused(changes):
    with pytest.raises(UsageError, match=next(iter(changes))):
        WaveNetConfig(**changes)
