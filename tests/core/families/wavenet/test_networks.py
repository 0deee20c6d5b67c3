"""The WaveNet family's encoder and decoder: the paper's sizes, reach, timing and gates."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.encoder import WaveNetEncoder
from core.families.wavenet.layers import TILE, GatedLayer
from core.presets import get_preset

# The paper's depth with as few channels as gradients can pass.
NARROW = {"encoder_channels": 2, "residual_channels": 2, "skip_channels": 2, "latent_dim": 2}


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def narrow(generator):
    """The paper's configuration with two channels, and a seed."""
    return replace(get_preset("paper").model, **NARROW)


@pytest.fixture
def decoder(generator, tiny):
    return WaveNetDecoder(tiny.model)


def random_input(config, n_frames, batch=2):
    codes = torch.randint(256, (batch, n_frames * config.hop_length))
    return codes, torch.randn(batch, n_frames, config.latent_dim)


def watch(module, *, output):
    """Make the input or output of a module a leaf of the graph; return where it will be."""
    seen = []

    def before(_, args):
        seen.append(args[0].detach().requires_grad_())
        return (seen[0], *args[1:])

    def after(_, __, result):
        seen.append(result.detach().requires_grad_())
        return seen[0]

    if output:
        module.register_forward_hook(after)
    else:
        module.register_forward_pre_hook(before)
    return seen


def reached(seen):
    """Return the first and last time step with a gradient, and how many have one."""
    steps = seen[0].grad.abs().sum(dim=(0, 1)).nonzero()
    return int(steps.min()), int(steps.max()), len(steps)


@pytest.mark.parametrize(("preset", "wanted"), [("paper", 4_692_992), ("paper-code", 6_540_288)])
def test_decoder_has_the_papers_number_of_parameters(preset, wanted):
    with torch.device("meta"):
        assert n_parameters(WaveNetDecoder(get_preset(preset).model)) == wanted


def test_encoder_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        assert n_parameters(WaveNetEncoder(get_preset("paper").model)) == 1_982_528


@pytest.mark.parametrize(("preset", "wanted"), [("paper", 4093), ("paper-code", 65_533)])
def test_decoder_receptive_field_by_formula(preset, wanted):
    with torch.device("meta"):
        assert WaveNetDecoder(get_preset(preset).model).receptive_field == wanted


@pytest.mark.parametrize(("at", "wanted"), [("stack", 4093), ("first convolution", 4094)])
def test_decoder_receptive_field_by_gradient(narrow, at, wanted):
    decoder = WaveNetDecoder(narrow).double()
    for layer in (decoder.input_skip, decoder.mix):
        layer.bias.data.fill_(10)  # keeps the two ReLUs behind the stack open
    seen = watch(decoder.input, output=at == "stack")
    codes, latents = random_input(narrow, n_frames=6, batch=1)
    decoder(codes, latents.double())[0, :, -1].sum().backward()
    first, last, count = reached(seen)
    assert last == seen[0].shape[2] - 1
    assert last - first + 1 == count == wanted


def test_encoder_receptive_field_before_pooling_by_formula_and_gradient(narrow):
    encoder = WaveNetEncoder(narrow).double()
    for parameter in encoder.parameters():
        parameter.data.abs_()  # with positive input, keeps every ReLU open
    seen = watch(encoder.input, output=False)
    unpooled = []
    encoder.layers[-1].register_forward_hook(lambda _, __, result: unpooled.append(result))
    encoder(torch.rand(1, 8000, dtype=torch.float64))
    unpooled[0][0, :, 4000].sum().backward()
    assert reached(seen) == (4000 - 3070, 4000 + 3070, 6141)
    assert encoder.receptive_field == 6141


@pytest.mark.parametrize("sample", [0, 63, 800, 1598])
def test_a_sample_changes_the_logits_after_it_and_none_up_to_it(decoder, tiny, sample):
    codes, latents = random_input(tiny.model, n_frames=2)
    changed = codes.clone()
    changed[:, sample] = (codes[:, sample] + 100) % 256
    difference = (decoder(changed, latents) - decoder(codes, latents)).abs().amax(1)
    assert difference[:, : sample + 1].max() < 1e-7
    assert (difference[:, sample + 1] > 1e-5).all()


def test_the_last_sample_changes_no_logits(decoder, tiny):
    codes, latents = random_input(tiny.model, n_frames=1)
    changed = codes.clone()
    changed[:, -1] = 255 - codes[:, -1]
    assert torch.equal(decoder(changed, latents), decoder(codes, latents))


@pytest.mark.parametrize("frame", [0, 2, 3])
def test_a_frame_changes_no_logits_before_its_first_sample(decoder, tiny, frame):
    codes, latents = random_input(tiny.model, n_frames=4)
    changed = latents.clone()
    changed[:, frame] += 1
    difference = (decoder(codes, changed) - decoder(codes, latents)).abs().amax(1)
    start = 800 * frame
    assert start == 0 or difference[:, :start].max() < 1e-7
    assert (difference[:, start] > 1e-5).all()


def test_a_frame_conditions_exactly_its_800_samples(decoder, tiny):
    """Without the dilated convolutions' past taps nothing carries a frame any further."""
    for layer in decoder.layers:
        layer.dilated.weight.data[:, :, 0] = 0
    codes, latents = random_input(tiny.model, n_frames=4)
    changed = latents.clone()
    changed[:, 2] += 1
    difference = (decoder(codes, changed) - decoder(codes, latents)).abs().amax((0, 1))
    assert (difference > 1e-5).nonzero().flatten().tolist() == list(range(1600, 2400))


def test_every_layer_and_the_output_have_their_own_projection_of_the_latents(decoder, tiny):
    codes, latents = random_input(tiny.model, n_frames=1)
    before = decoder(codes, latents)
    projections = [*(layer.condition for layer in decoder.layers), decoder.mix_condition]
    assert len(projections) == len({id(projection.weight) for projection in projections}) == 7
    for projection in projections:
        kept = projection.weight.data.clone()
        projection.weight.data.zero_()
        assert not torch.allclose(decoder(codes, latents), before, atol=1e-5)
        projection.weight.data = kept


def test_first_half_of_a_layers_channels_is_the_gate(tiny):
    layer = GatedLayer(replace(tiny.model, residual_channels=1, skip_channels=1, latent_dim=1), 1)
    for parameter in layer.parameters():
        parameter.data.zero_()
    layer.dilated.bias.data = torch.tensor([0.3, 0.7])
    layer.residual.weight.data.fill_(1)
    layer.skip.weight.data.fill_(2)
    x, skip = layer(torch.full((1, 1, 4), 5.0), torch.zeros(1, 1, 1))
    y = 1 / (1 + math.exp(-0.3)) * math.tanh(0.7)
    torch.testing.assert_close(x, torch.full((1, 1, 4), 5 + y))
    torch.testing.assert_close(skip, torch.full((1, 1, 4), 2 * y))


def test_skip_sum_starts_with_the_first_activation(decoder, tiny):
    for layer in decoder.layers:
        for parameter in layer.skip.parameters():
            parameter.data.zero_()
    codes, latents = random_input(tiny.model, n_frames=1)
    before = decoder(codes, latents)
    decoder.input_skip.weight.data *= -1
    assert not torch.allclose(decoder(codes, latents), before, atol=1e-5)


def test_decoder_loss_is_in_nats_and_its_figure_in_bits(decoder, tiny):
    waveform, latents = torch.rand(2, 1600) * 2 - 1, torch.randn(2, 2, tiny.model.latent_dim)
    codes = decoder.mu_law.encode(waveform)
    likelihoods = decoder(codes, latents).softmax(1).gather(1, codes.unsqueeze(1))
    nats = -likelihoods.log().mean()
    torch.testing.assert_close(decoder.reconstruction_loss(latents, waveform), nats)
    torch.testing.assert_close(decoder.heldout_figure(latents, waveform), nats / math.log(2))


def test_checkpointed_activations_give_the_same_loss_and_gradients(generator, tiny):
    plain = WaveNetDecoder(tiny.model)
    checkpointed = WaveNetDecoder(replace(tiny.model, checkpoint_activations=True))
    checkpointed.load_state_dict(plain.state_dict())
    calls = []
    checkpointed.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    waveform, latents = torch.rand(2, 1600) - 0.5, torch.randn(2, 2, tiny.model.latent_dim)
    results = []
    for decoder in (plain, checkpointed):
        leaf = latents.clone().requires_grad_()
        loss = decoder.reconstruction_loss(leaf, waveform)
        loss.backward()
        gradients = [p.grad for p in decoder.parameters() if p.grad is not None]
        results.append([loss.detach(), leaf.grad, *gradients])
    torch.testing.assert_close(results[0], results[1])
    assert len(calls) == 2, "computed again in the backward pass"


@pytest.mark.parametrize("leading_relu", [True, False])
def test_encoder_layer_follows_the_paper_or_its_code(generator, tiny, leading_relu):
    model = replace(tiny.model, encoder_leading_relu=leading_relu)
    layer = WaveNetEncoder(model).layers[2]
    x = torch.randn(1, model.encoder_channels, 50)
    kept = x.clone()
    y = F.conv1d(
        x.relu() if leading_relu else x,
        layer.dilated.weight,
        layer.dilated.bias,
        padding=4,
        dilation=4,
    )
    torch.testing.assert_close(layer(x), x + layer.mix(y.relu()))
    assert torch.equal(x, kept), "its input is not changed in place"


def test_encoder_averages_the_projection_of_each_frames_samples(generator, tiny):
    encoder = WaveNetEncoder(tiny.model)
    unpooled = []
    encoder.layers[-1].register_forward_hook(lambda _, __, result: unpooled.append(result))
    latents = encoder(torch.rand(2, 2400) * 2 - 1)
    expected = encoder.output(unpooled[0]).unflatten(2, (3, 800)).mean(3)
    torch.testing.assert_close(latents, expected.transpose(1, 2))


@pytest.mark.parametrize("grid", ["round", "floor"])
def test_encoder_sees_codes_not_the_waveform(generator, tiny, grid):
    encoder = WaveNetEncoder(replace(tiny.model, mu_law=grid))
    assert encoder.mu_law.grid == grid
    waveform = torch.rand(1, 800) * 2 - 1
    quantised = encoder.mu_law.decode(encoder.mu_law.encode(waveform))
    assert torch.equal(encoder(waveform), encoder(quantised))


@pytest.mark.parametrize("leading_relu", [True, False])
def test_encoder_in_tiles_gives_what_its_convolutions_give(generator, tiny, trained, leading_relu):
    encoder = trained(WaveNetEncoder(replace(tiny.model, encoder_leading_relu=leading_relu)))
    waveform = torch.rand(2, 4000) * 2 - 1
    by_convolutions = encoder(waveform)
    assert waveform.shape[1] % TILE, "the last tile should be a shorter one"
    with torch.no_grad():
        torch.testing.assert_close(encoder(waveform), by_convolutions, atol=1e-5, rtol=0)
    assert by_convolutions.std() > 100 * 1e-5
