"""The engines of the WaveNet family against the teacher-forced network, and one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from core.families.wavenet import mulaw
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.mulaw import MuLaw
from core.families.wavenet.sampling import batch, cuda, reference
from core.families.wavenet.sampling.cpu import MEMORY_BYTES, CpuEngine, streams_per_worker
from core.families.wavenet.sampling.cuda import CudaEngine
from core.families.wavenet.sampling.engine import choose
from core.families.wavenet.sampling.reference import ReferenceEngine
from core.presets import get_preset
from core.translator import Translator
from tests.sounds import melody, piano

# The CUDA engine on the CPU does all that it does on a GPU, but it captures no graphs.
ENGINES: dict[str, Any] = {"reference": ReferenceEngine, "cpu": CpuEngine, "cuda": CudaEngine}


@pytest.fixture
def network(generator, short_hop, trained):
    return trained(WaveNetDecoder(short_hop))


@pytest.fixture
def deep_network(generator, trained):
    """The paper's depth; skip channels unlike the residual ones."""
    narrow = {"residual_channels": 4, "skip_channels": 9, "latent_dim": 2, "hop_length": 272}
    return trained(WaveNetDecoder(replace(get_preset("paper").model, **narrow)))


def run(engine, latents, uniforms):
    """Return the codes, int64 [N, T], of latents [N, L, D] and draws [N, T]."""
    frames = uniforms.split(uniforms.shape[1] // latents.shape[1], dim=1)
    return torch.cat([engine.advance(latents[:, i], part) for i, part in enumerate(frames)], dim=1)


def logits_of(kind, network, latents, codes, monkeypatch):
    """Return an engine's logits, float [N, T, Q] on the CPU, when it is fed these codes."""
    found = torch.zeros(codes.numel(), mulaw.N_CLASSES)

    def forced(logits, uniform, temperature):
        # The "draw" says which sample of which stream this is, and the code to take.
        numbers = uniform.long().cpu()
        found[numbers // 256] = logits.cpu()
        return (numbers % 256).to(uniform.device)

    for module in (reference, batch):
        monkeypatch.setattr(module, "choose", forced)
    monkeypatch.setattr(batch, "compiled", lambda: batch.advance)
    numbers = torch.arange(codes.numel()).view_as(codes) * 256 + codes
    engine = ENGINES[kind](network, temperature=1.0, n_streams=len(codes))
    assert torch.equal(run(engine, latents, numbers.double()), codes)
    engine.close()
    return found.view(*codes.shape, -1)


@pytest.fixture
def truncated_network(generator, short_hop, trained):
    """A network whose silence is another code."""
    return trained(WaveNetDecoder(replace(short_hop, mu_law="floor")))


@pytest.fixture(params=["small", "truncated", "deep", "trained"])
def fed(request, generator):
    """Return a network, latents [N, L, D], and codes [N, T], longer than its longest dilation."""
    if request.param == "trained":
        return music()
    is_deep = request.param == "deep"
    fixtures = {"small": "network", "truncated": "truncated_network", "deep": "deep_network"}
    network = request.getfixturevalue(fixtures[request.param])
    latents = torch.randn(2, 2 if is_deep else 20, network.mix_condition.in_channels)
    return network, latents, torch.randint(256, (2, latents.shape[1] * network.hop_length))


def music():
    """Return a network that was trained on pianos, and two frames of such music."""
    model = Translator.load(Path(__file__).parents[4] / "models/piano.safetensors")
    waveform = piano(melody(0, 4.0), model.sample_rate)
    latents = torch.from_numpy(model.encode(waveform, model.sample_rate))
    codes = MuLaw("round").encode(torch.from_numpy(waveform)).view(len(latents), -1)
    heard = slice(42, 44)  # a greedy chain moves here
    return model.decoders["piano"], latents[heard].unsqueeze(0), codes[heard].view(1, -1)


def test_engines_fed_the_same_history_find_the_teacher_forced_logits_and_the_same_draws(
    fed, monkeypatch
):
    network, latents, codes = fed
    latents = latents[:, :10]  # step by step, thrice
    codes = codes[:, : latents.shape[1] * network.hop_length]
    with torch.no_grad():
        whole = network(codes, latents).transpose(1, 2)
    assert whole.std() > 100 * 1e-4
    uniforms = torch.rand(codes.shape, dtype=torch.float64)
    found = {kind: logits_of(kind, network, latents, codes, monkeypatch) for kind in ENGINES}
    expected = choose(found["reference"], uniforms, 1.0)
    for kind, stepped in found.items():
        torch.testing.assert_close(stepped, whole, atol=1e-4, rtol=0, msg=f"{kind}: {{}}".format)
        assert (choose(stepped, uniforms, 1.0) == expected).float().mean() >= 0.999, kind


@pytest.mark.parametrize("fed", ["small", "truncated", "trained"], indirect=True)
def test_a_thousand_greedy_samples_are_the_same_with_every_engine(fed):
    network, latents, codes = fed
    assert codes.shape[1] >= 1000
    uniforms = torch.zeros(codes.shape, dtype=torch.float64)
    plain, *others = (
        run(engine(network, temperature=0.0, n_streams=len(codes)), latents, uniforms)
        for engine in ENGINES.values()
    )
    for fast in others:
        assert torch.equal(plain, fast)
    assert len(plain.unique()) > 3, "a constant would not tell engines apart"


@pytest.fixture(params=["narrow", "wide"])
def crowd(request, short_hop, trained):
    """Return a network, and how many streams of it: as few as any, and as many as a worker has."""
    if request.param == "narrow":
        return trained(WaveNetDecoder(short_hop)), 21
    short = {"decoder_blocks": 1, "hop_length": 12}
    return trained(WaveNetDecoder(replace(get_preset("paper").model, **short))), 64


def test_a_streams_samples_do_not_depend_on_its_place_or_its_neighbours(crowd):
    network, n_streams = crowd
    latents = torch.randn(n_streams, 2, network.mix_condition.in_channels)
    uniforms = torch.rand(n_streams, 2 * network.hop_length, dtype=torch.float64)

    def draw(latents, uniforms):
        return run(CpuEngine(network, temperature=1.0, n_streams=n_streams), latents, uniforms)

    together = draw(latents, uniforms)
    order = torch.randperm(n_streams)
    assert torch.equal(draw(latents[order], uniforms[order]), together[order])
    latents[1:], uniforms[1:] = 0.0, 0.0
    alone = draw(latents, uniforms)
    assert torch.equal(alone[0], together[0])
    assert not torch.equal(alone[1], together[1])


@pytest.mark.parametrize("kind", ENGINES)
def test_a_restarted_stream_is_as_good_as_new_and_the_others_go_on(kind, network, short_hop):
    latents = torch.randn(2, 4, short_hop.latent_dim)
    uniforms = torch.rand(2, 200, dtype=torch.float64)
    untouched = run(ENGINES[kind](network, temperature=1.0, n_streams=2), latents, uniforms)
    engine = ENGINES[kind](network, temperature=1.0, n_streams=2)
    run(engine, latents[:, 2:], uniforms[:, 100:])
    engine.restart(0)
    engine.restart(1)
    assert torch.equal(run(engine, latents[:, :2], uniforms[:, :100]), untouched[:, :100])
    engine.restart(0)
    later = run(engine, latents[:, 2:], uniforms[:, 100:])
    assert torch.equal(later[1], untouched[1, 100:])
    assert not torch.equal(later[0], untouched[0, 100:])


class Recording(TorchDispatchMode):
    """What a CUDA graph does, on any device: the operations of some work, on the same tensors.

    As while capturing, the work has no effect when it is recorded.
    """

    def __init__(self, work, allowed):
        super().__init__()
        self.operations, self.overwritten = [], []
        self.allowed = allowed  # to be asked for its value: it is not on the GPU
        with self:
            work()
        for tensor, before in reversed(self.overwritten):
            tensor.copy_(before)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                tensor = kwargs[argument.name] if argument.name in kwargs else args[position]
                self.overwritten.append((tensor, tensor.clone()))
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            self.operations.append((func, args, kwargs, result))
        else:
            assert args[0] is self.allowed, "a graph cannot wait for a value"
        return result

    def replay(self):
        for func, args, kwargs, result in self.operations:
            again = func(*args, **kwargs)
            if again.data_ptr() != result.data_ptr():
                result.copy_(again)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_captured_can_be_repeated(network, short_hop, temperature, monkeypatch):
    """It reads and writes tensors that stay, and takes nothing from Python that changes."""
    recordings = []

    def recorder(device):
        def record(work):
            recordings.append(Recording(work, engine._batch.never))
            return recordings[-1].replay

        return record

    latents, uniforms = torch.randn(3, 4, short_hop.latent_dim), torch.rand(3, 200).double()
    plain = run(CpuEngine(network, temperature=temperature, n_streams=3), latents, uniforms)
    monkeypatch.setattr(cuda, "recorder", recorder)
    engine = CudaEngine(network, temperature=temperature, n_streams=3)
    with torch.inference_mode():
        assert torch.equal(run(engine, latents, uniforms), plain)
    assert len(recordings) == 16  # pieces of 2 samples, the longest dilation is 32


@pytest.mark.gpu
def test_stepping_on_a_gpu_gives_the_references_logits_and_draws(deep_network, monkeypatch):
    latents, codes = torch.randn(4, 4, 2), torch.randint(256, (4, 4 * 272))
    plain = logits_of("reference", deep_network, latents, codes, monkeypatch)
    # The test's own "draws" cannot be captured.
    monkeypatch.setattr(cuda, "recorder", lambda device: lambda work: work)
    stepped = logits_of("cuda", deep_network.cuda(), latents.cuda(), codes, monkeypatch)
    torch.testing.assert_close(stepped, plain, atol=1e-4, rtol=0)
    uniform = torch.rand(4, 4 * 272, dtype=torch.float64)
    agreement = (choose(stepped, uniform, 1.0) == choose(plain, uniform, 1.0)).float().mean()
    assert agreement >= 0.999


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_graphs_on_a_gpu_draw_what_their_steps_draw(
    network, short_hop, temperature, device, monkeypatch
):
    if torch.device(device).index >= torch.cuda.device_count():
        pytest.skip("needs a second GPU")
    latents, uniforms = torch.randn(2, 20, short_hop.latent_dim), torch.rand(2, 1000).double()
    on_cpu = run(ReferenceEngine(network, temperature=temperature, n_streams=2), latents, uniforms)
    network, latents = network.to(device), latents.to(device)
    replayed = run(CudaEngine(network, temperature=temperature, n_streams=2), latents, uniforms)
    monkeypatch.setattr(cuda, "recorder", lambda device: lambda work: work)
    stepped = run(CudaEngine(network, temperature=temperature, n_streams=2), latents, uniforms)
    assert torch.equal(replayed, stepped)
    if temperature == 0:
        assert torch.equal(replayed, on_cpu)


@pytest.mark.gpu
def test_a_song_on_a_gpu_is_encoded_while_graphs_are_captured(tiny):
    """The same codes as on the CPU, greedily, from the latents that the GPU made."""
    model = Translator.create(tiny.updated("model", hop_length=80), ["piano"]).eval()
    model.window_seconds = 0.1  # many small blocks
    song = 0.1 * np.random.default_rng(0).standard_normal(64000).astype(np.float32)
    greedy = model.generation_options({"temperature": 0.0})
    on_gpu = model.cuda()
    latents = list(on_gpu.encode_blocks([song]))
    live = np.concatenate(
        list(on_gpu.decode_blocks(on_gpu.encode_blocks([song]), to="piano", options=greedy))
    )
    on_cpu = np.concatenate(list(model.cpu().decode_blocks(latents, to="piano", options=greedy)))
    assert len(live) == len(song)
    np.testing.assert_array_equal(live, on_cpu)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_streams_are_divided_among_workers_and_torchs_threads_left_as_they_were(
    two_threads, network, short_hop
):
    engine = CpuEngine(network, temperature=1.0)
    each = streams_per_worker(network, 2)
    assert engine.n_streams == 2 * each
    latents = torch.randn(engine.n_streams, 2, short_hop.latent_dim)
    uniforms = torch.rand(engine.n_streams, 100, dtype=torch.float64)
    divided = run(engine, latents, uniforms)
    assert torch.get_num_threads() == 2
    engine.close()
    one = CpuEngine(network, temperature=1.0, n_streams=each)
    assert torch.equal(run(one, latents[each:], uniforms[each:]), divided[each:])


def test_a_closed_engine_stops_within_a_frame(network, short_hop, monkeypatch):
    engine = CpuEngine(network, temperature=1.0, n_streams=1)
    steps = []

    def watched(logits, uniform, temperature):
        steps.append(1)
        engine._stopping.fill_(True)
        return choose(logits, uniform, temperature)

    monkeypatch.setattr(batch, "choose", watched)
    monkeypatch.setattr(batch, "compiled", lambda: batch.advance)
    run(engine, torch.randn(1, 1, short_hop.latent_dim), torch.rand(1, 50, dtype=torch.float64))
    assert len(steps) == 1


@pytest.mark.parametrize("preset", ["tiny", "small", "paper", "paper-code"])
def test_streams_fit_the_memory_meant_for_them(preset):
    with torch.device("meta"):
        network = WaveNetDecoder(get_preset(preset).model)
    each = streams_per_worker(network, 2)
    past = sum(layer.dilation * layer.dilated.in_channels for layer in network.layers)
    assert 8 <= each <= 64
    assert 2 * each * past * 4 <= MEMORY_BYTES


def test_sampling_leaves_the_network_alone(network, short_hop):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    engine = CpuEngine(network, temperature=1.0, n_streams=1)
    run(engine, torch.randn(1, 1, short_hop.latent_dim), torch.rand(1, 50, dtype=torch.float64))
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in network.parameters())
