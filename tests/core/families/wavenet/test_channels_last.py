"""Training's layers as matrix products: the same numbers and gradients as the networks'."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.families.wavenet import channels_last
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.encoder import WaveNetEncoder
from core.presets import get_preset


@pytest.fixture
def config():
    """The paper's dilations with few channels, different ones everywhere."""
    narrow = {"encoder_channels": 3, "latent_dim": 4, "residual_channels": 5, "skip_channels": 6}
    return replace(get_preset("paper").model, encoder_blocks=1, decoder_blocks=1, **narrow)


def learn(config, waveform, trained, device="cpu"):
    """Return latents, loss and gradients of both networks, with the weights of a fixed seed."""
    torch.manual_seed(0)
    encoder, decoder = WaveNetEncoder(config), WaveNetDecoder(config)
    networks = torch.nn.ModuleList([trained(encoder), trained(decoder)]).to(device)
    latents = encoder(waveform.to(device))
    loss = decoder.reconstruction_loss(latents, waveform.to(device))
    loss.backward()
    gradients = {n: p.grad.cpu() for n, p in networks.named_parameters() if p.grad is not None}
    return latents.detach().cpu(), loss.detach().cpu(), gradients


def assert_alike(found, expected, **tolerance):
    torch.testing.assert_close(found[:2], expected[:2], **tolerance)
    for name, gradient in expected[2].items():
        scale = float(gradient.abs().max()) + 1e-9
        torch.testing.assert_close(found[2][name] / scale, gradient / scale, **tolerance)


@pytest.mark.parametrize("leading_relu", [True, False])
def test_products_give_what_the_convolutions_give(config, trained, monkeypatch, leading_relu):
    config = replace(config, encoder_leading_relu=leading_relu)
    waveform = 0.1 * torch.randn(2, 3 * config.hop_length)
    expected = learn(config, waveform, trained)
    monkeypatch.setattr(channels_last, "is_wanted", lambda _: True)
    monkeypatch.setattr(channels_last, "_compiled", lambda function: function)
    assert_alike(learn(config, waveform, trained), expected, rtol=1e-3, atol=1e-4)


def test_cpu_and_inference_keep_the_convolutions():
    assert not channels_last.is_wanted(torch.zeros(1))


def test_without_a_compiler_layers_run_as_they_are_written(monkeypatch):
    channels_last._compiled.cache_clear()
    monkeypatch.setattr(channels_last.shutil, "which", lambda _: None)
    with pytest.warns(UserWarning, match="no C compiler"):
        assert channels_last._compiled(channels_last.gated_layer) is channels_last.gated_layer
    channels_last._compiled.cache_clear()


@pytest.mark.gpu
def test_compiled_products_on_a_gpu_give_what_the_cpu_gives(config, trained):
    wide = {"encoder_channels": 32, "latent_dim": 16, "residual_channels": 32, "skip_channels": 32}
    config = replace(config, **wide)
    waveform = 0.1 * torch.randn(2, 3 * config.hop_length)
    expected = learn(config, waveform, trained)
    assert_alike(learn(config, waveform, trained, "cuda"), expected, rtol=1e-2, atol=2e-3)
