"""Running a network in windows as if on the whole, and the context each network states."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.blocks import regroup
from core.families import get_family
from core.families.spectral.salience import N_KEYS
from core.families.windows import run_in_windows
from core.presets import get_preset
from core.translator import Translator

REACH = 4  # frames that `network` sees on either side


def network(frames):
    """Sum frames within reach, each side with weights of its own; in whole numbers, so exact."""
    weights = torch.tensor([1.0, 2, 3, 4, 5, 60, 70, 80, 90]).view(1, 1, -1)
    assert weights.shape[2] == 2 * REACH + 1
    return F.conv1d(frames.T.unsqueeze(1), weights, padding=REACH).squeeze(1).T


def cut(sequence, *, seed):
    """Cut into blocks at random places; some are empty."""
    rng = np.random.default_rng(seed)
    places = np.sort(rng.integers(0, len(sequence) + 1, rng.integers(0, 12)))
    return [sequence[a:b] for a, b in pairwise([0, *places.tolist(), len(sequence)])]


def windowed(blocks, *, window, before=REACH, after=REACH, run=network):
    windows = run_in_windows(iter(blocks), run, window=window, before=before, after=after)
    return torch.cat(list(windows))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 16, 1000])
@pytest.mark.parametrize("length", [1, 3, 8, 9, 16, 24, 61])
def test_windows_equal_the_whole_at_every_frame(generator, length, window, seed):
    sequence = torch.randint(100, (length, 2)).float()
    assert torch.equal(windowed(cut(sequence, seed=seed), window=window), network(sequence))


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("window", [1, 5, 16])
def test_one_frame_less_context_is_seen(generator, window, side):
    sequence = torch.randint(1, 100, (61, 2)).float()
    short = windowed([sequence], window=window, **{side: REACH - 1})
    assert short.shape == sequence.shape
    assert not torch.equal(short, network(sequence))


@pytest.mark.parametrize("window", [1, 5, 16])
def test_more_context_than_needed_changes_nothing(generator, window):
    sequence = torch.randint(100, (61, 2)).float()
    assert torch.equal(windowed([sequence], window=window, before=9, after=6), network(sequence))


@pytest.mark.parametrize("blocks", [[], [torch.zeros(0, 2)], [torch.zeros(0, 2)] * 2])
def test_an_empty_sequence_runs_nothing(blocks):
    def never(_):
        raise AssertionError

    assert list(run_in_windows(iter(blocks), never, window=5, before=3, after=3)) == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("context", [0, 3, 12])
def test_windows_are_the_same_however_the_sequence_is_cut(context, seed):
    def lengths(blocks):
        seen = []
        windowed(blocks, window=10, before=context, after=5, run=lambda x: seen.append(len(x)) or x)
        return seen

    sequence = torch.zeros(95, 1)
    assert lengths(cut(sequence, seed=seed)) == lengths([sequence])
    assert max(lengths([sequence])) == min(95, 10 + context + 5)


def test_a_window_is_run_as_soon_as_its_context_is_there():
    read = []

    def blocks():
        for index in range(40):
            read.append(index)
            yield torch.zeros(1, 2)

    next(run_in_windows(blocks(), network, window=10, before=9, after=REACH))
    assert len(read) == 10 + REACH


def reach_in_frames(gradient):
    """Return how many frames before and after the middle one have a gradient, from [n, ...]."""
    frames = gradient.flatten(1).abs().sum(1).nonzero().flatten()
    middle = len(gradient) // 2
    return middle - int(frames.min()), int(frames.max()) - middle


@pytest.fixture(params=["tiny", "real", "centred"])
def spectral(request, tiny_spectral):
    """The tiny configuration, and the real depth, windows and kernels with few channels."""
    few = dict.fromkeys(
        ("encoder_channels", "encoder_hidden", "decoder_channels", "decoder_hidden"), 4
    )
    real = get_preset("fast").updated("model", **few)
    sizes = {
        "tiny": tiny_spectral,
        "real": real,
        "centred": real.updated("model", causal=False),
    }
    return sizes[request.param].model


def test_spectral_encoder_states_its_context(trained, spectral):
    encoder = trained(get_family("spectral").encoder(spectral).double())
    n_frames = 2 * encoder.frames_before + 5
    frames = torch.randn(n_frames, spectral.hop_length, dtype=torch.float64).requires_grad_()
    encoder(frames.view(1, -1))[0, n_frames // 2].sum().backward()
    assert reach_in_frames(frames.grad) == (encoder.frames_before, encoder.frames_after)


def test_spectral_decoder_states_how_far_pitches_are_smoothed(trained, spectral):
    decoder = trained(get_family("spectral").decoder(spectral))
    reach = math.ceil(decoder.n_taps // 2 / spectral.downsampling)
    assert decoder.frames_after >= reach
    latents = torch.full((2 * reach + 5, spectral.latent_dim), 0.1)
    latents[:, :N_KEYS] = 0.5

    def pitch_at(frame):
        changed = latents.clone()
        changed[frame, 2 * N_KEYS : 3 * N_KEYS] = 0.4
        values = decoder.split(decoder.predict(changed.unsqueeze(0)))["pitch"]
        return values.reshape(len(latents), -1)[reach + 2]

    same = pitch_at(2 * reach + 4)
    assert torch.equal(pitch_at(2 * reach + 3), same)
    assert not torch.equal(pitch_at(2 * reach + 2), same)


def test_spectral_decoder_states_how_far_its_networks_look_ahead(trained, spectral):
    # Keys of a pretrained search have no gradient.
    config = replace(spectral, pretrained_salience=False)
    decoder = trained(get_family("spectral").decoder(config).double())
    n_frames = 400
    latents = torch.randn(n_frames, spectral.latent_dim, dtype=torch.float64).requires_grad_()
    values = decoder.predict(latents.unsqueeze(0))
    values.view(n_frames, -1)[n_frames // 2].sum().backward()
    assert reach_in_frames(latents.grad)[1] == decoder.least_after
    assert decoder.least_after <= decoder.frames_after  # pitches have no gradient


@pytest.mark.parametrize("window", [1, 3, 1000])
def test_layer_by_layer_the_spectral_networks_give_what_they_give_at_once(
    generator, trained, spectral, window
):
    """With windows of any length, and with frames that wait for nothing beyond their context."""
    encoder, decoder = (
        trained(build(spectral))
        for build in (get_family("spectral").encoder, get_family("spectral").decoder)
    )
    n_frames = 60
    waveform = torch.rand(n_frames * spectral.hop_length) - 0.5
    read = []

    def samples():
        for piece in waveform.split(spectral.frame_length):
            read.append(len(piece))
            yield piece

    with torch.inference_mode():
        whole = encoder(waveform.unsqueeze(0))[0]
        stream = encoder.stream(samples(), window=window)
        first = next(stream)
        lag = max(encoder.salience.context_frames, sum(own.padding[1] for own in encoder.blocks))
        most = (2 * window - 1 + lag) * spectral.hop_length + encoder.samples_after
        assert sum(read) <= min(most, len(waveform))
        torch.testing.assert_close(torch.cat([first, *stream]), whole, atol=1e-5, rtol=0)
        values = decoder.predict(whole.unsqueeze(0))[0].view(n_frames, -1)
        blocks = regroup(iter([whole]), window, join=torch.cat)
        streamed = torch.cat(list(decoder.stream(blocks)))
        torch.testing.assert_close(streamed, values, atol=1e-4, rtol=0, equal_nan=True)


@pytest.mark.parametrize("sizes", [{}, {"hop_length": 100}, {"encoder_layers": 8}])
def test_wavenet_encoder_states_its_context(generator, sizes):
    narrow = {"encoder_channels": 2, "latent_dim": 2}
    config = replace(get_preset("paper").model, **(narrow | sizes))
    encoder = get_family("wavenet").encoder(config).double()
    for parameter in encoder.parameters():
        parameter.data.abs_()  # with positive input, keeps every ReLU open
    seen = []

    def as_leaf(_, args):
        seen.append(args[0].detach().requires_grad_())
        return seen[0]

    encoder.input.register_forward_pre_hook(as_leaf)
    n_frames = 2 * encoder.frames_before + 5
    waveform = torch.rand(1, n_frames * config.hop_length, dtype=torch.float64)
    encoder(waveform)[0, n_frames // 2].sum().backward()
    reach = reach_in_frames(seen[0].grad.view(n_frames, -1))
    assert reach == (encoder.frames_before, encoder.frames_after)


@pytest.fixture
def translator(any_family, trained):
    """A model of each family whose windows are a few frames long."""
    model = trained(Translator.create(any_family, ["piano"]))
    model.window_seconds = 2 * 7 / model.latent_rate  # an encoder's are half as long
    return model


@pytest.mark.parametrize("n_frames", [1, 6, 12, 19, 40])
@pytest.mark.parametrize("seed", range(3))
def test_encoding_in_blocks_equals_encoding_the_whole(generator, translator, n_frames, seed):
    waveform = torch.rand(n_frames * translator.hop_length) - 0.5
    with torch.inference_mode():
        whole = translator.encoder(waveform.unsqueeze(0))[0]
    latents = np.concatenate(list(translator.encode_blocks(cut(waveform.numpy(), seed=seed))))
    np.testing.assert_allclose(latents, whole.numpy(), atol=1e-5)


def test_encoding_with_one_frame_less_context_differs(generator, tiny, trained):
    translator = trained(Translator.create(tiny, ["piano"]))
    translator.window_seconds = 2 * 7 / translator.latent_rate
    waveform = [(torch.rand(40 * translator.hop_length) - 0.5).numpy()]
    right = np.concatenate(list(translator.encode_blocks(waveform)))
    translator.encoder.frames_before -= 1
    short = np.concatenate(list(translator.encode_blocks(waveform)))
    assert short.shape == right.shape
    assert np.abs(short - right).max() > 0
