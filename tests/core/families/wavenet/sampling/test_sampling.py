"""From latents to a waveform: chunks, draws, live inputs, what changes samples and what not."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from itertools import islice, pairwise

import pytest
import torch

from core.errors import UsageError
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.mulaw import MuLaw
from core.families.wavenet.sampling import WaveNetOptions, batch, generation, scheduler
from core.families.wavenet.sampling.chunks import WARMUP_FRAMES, plan
from core.families.wavenet.sampling.engine import choose, draw_uniforms

EXACT = WaveNetOptions(exact=True)


@pytest.fixture
def decoder(generator, short_hop, trained):
    return trained(WaveNetDecoder(short_hop))


@pytest.fixture(params=[False, True], ids=["chunks", "exact"])
def options(request):
    return WaveNetOptions(exact=request.param)


def generate(decoder, *blocks, seed=0, options=None):
    options = options or WaveNetOptions()
    return torch.cat(list(decoder.generate(iter(blocks), window=9, seed=seed, options=options)))


@pytest.mark.parametrize("n_frames", [1, 2, 3, 5, 41])
def test_the_waveform_is_as_long_as_the_latents(decoder, short_hop, options, n_frames):
    latents = torch.randn(n_frames, short_hop.latent_dim)
    assert generate(decoder, latents, options=options).shape == (n_frames * 50,)


def test_no_latents_give_no_sound(decoder, short_hop, options):
    assert not list(decoder.generate(iter([]), window=9, seed=0, options=options))


def test_samples_do_not_depend_on_how_latents_are_cut(decoder, short_hop, options):
    latents = torch.randn(23, short_hop.latent_dim)
    whole = generate(decoder, latents, options=options)
    cut = generate(decoder, latents[:1], latents[1:3], latents[3:3], latents[3:], options=options)
    assert torch.equal(whole, cut)


def test_samples_do_not_depend_on_how_many_streams_there_are(decoder, short_hop, monkeypatch):
    latents = torch.randn(40, short_hop.latent_dim)
    whole = generate(decoder, latents)
    monkeypatch.setattr("core.families.wavenet.sampling.cpu.STREAMS_PER_WORKER", 8)
    assert torch.equal(generate(decoder, latents), whole)


def test_engines_give_the_same_chunks(decoder, short_hop):
    latents = torch.randn(7, short_hop.latent_dim)
    plain = generate(decoder, latents, options=WaveNetOptions(engine="reference"))
    assert torch.equal(generate(decoder, latents, options=WaveNetOptions(engine="cpu")), plain)


def test_a_shorter_input_gives_the_beginning_of_a_longer_ones_samples(decoder, short_hop):
    latents = torch.randn(8, short_hop.latent_dim)
    exact = generate(decoder, latents, options=EXACT)
    assert torch.equal(exact[:100], generate(decoder, latents[:2], options=EXACT))
    chunks = list(islice(plan(), 3))
    assert chunks[1].end < 5 < chunks[2].end
    # The longer one joins a further chunk only in its frames from the 6th on.
    whole = generate(decoder, latents)
    assert torch.equal(whole[:200], generate(decoder, latents[:5])[:200])


def test_live_input_is_played_while_it_arrives(decoder, short_hop, options):
    heard = threading.Event()

    def blocks():
        yield torch.zeros(2, short_hop.latent_dim)
        assert heard.wait(20), "waited for the next latents before the first were played"
        yield torch.zeros(2, short_hop.latent_dim)

    played = decoder.generate(blocks(), window=9, seed=0, options=options)
    first = next(played)
    heard.set()
    assert len(first) >= 50
    assert len(first) + sum(map(len, played)) == 200


@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_a_frame_is_played_before_it_is_complete_and_its_samples_are_the_same(
    generator, tiny, trained, engine, monkeypatch
):
    decoder = trained(WaveNetDecoder(replace(tiny.model, hop_length=80)))
    latents, options = torch.randn(5, tiny.model.latent_dim), WaveNetOptions(engine=engine)
    first, *rest = decoder.generate(iter([latents]), window=9, seed=0, options=options)
    assert len(first) == 20
    monkeypatch.setattr(scheduler, "FRAME_PARTS", 1)
    whole = generate(decoder, latents, options=options)
    assert torch.equal(torch.cat([first, *rest]), whole)


def test_an_error_of_the_input_reaches_the_caller(decoder, short_hop, options):
    def blocks():
        yield torch.zeros(4, short_hop.latent_dim)
        raise UsageError("torn tape")

    with pytest.raises(UsageError, match="torn tape"):
        list(decoder.generate(blocks(), window=9, seed=0, options=options))


def test_no_thread_outlives_a_generation_that_is_given_up(decoder, short_hop, options):
    before = set(threading.enumerate())
    endless = (torch.zeros(2, short_hop.latent_dim) for _ in iter(int, 1))
    played = decoder.generate(endless, window=9, seed=0, options=options)
    next(played)
    played.close()
    assert set(threading.enumerate()) == before


def test_an_hours_latents_are_not_read_ahead(decoder, short_hop):
    """More than all streams can use at once stays unread."""
    n_read = 0

    def blocks():
        nonlocal n_read
        for _ in range(4000):
            n_read += 1
            yield torch.zeros(10, short_hop.latent_dim)

    played = decoder.generate(blocks(), window=9, seed=0, options=WaveNetOptions())
    next(played)
    in_streams = sum(chunk.end - chunk.start for chunk in islice(plan(), 65))
    assert n_read <= in_streams / 10 + 4
    played.close()


def test_seeds_repeat_and_differ(decoder, short_hop, options):
    latents = torch.randn(3, short_hop.latent_dim)
    first = generate(decoder, latents, seed=1, options=options)
    assert torch.equal(first, generate(decoder, latents, seed=1, options=options))
    assert not torch.equal(first, generate(decoder, latents, seed=2, options=options))


def test_torchs_own_random_numbers_play_no_part(decoder, short_hop, options):
    latents = torch.randn(3, short_hop.latent_dim)
    first = generate(decoder, latents, options=options)
    state = torch.get_rng_state()
    assert torch.equal(generate(decoder, latents, options=options), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("grid", ["round", "floor"])
def test_temperature_zero_takes_the_likeliest_code(short_hop, trained, monkeypatch, grid):
    decoder = trained(WaveNetDecoder(replace(short_hop, mu_law=grid)))
    latents, likeliest = torch.randn(2, short_hop.latent_dim), []

    def watched(logits, uniform, temperature):
        likeliest.append(int(logits.argmax()))
        return choose(logits, uniform, temperature)

    monkeypatch.setattr(batch, "choose", watched)
    monkeypatch.setattr(batch, "compiled", lambda: batch.advance)
    greedy = replace(EXACT, temperature=0)
    samples = generate(decoder, latents, options=greedy)
    assert torch.equal(samples, MuLaw(grid).decode(torch.tensor(likeliest)))
    assert torch.equal(samples, generate(decoder, latents, options=greedy, seed=9))


def test_sample_n_of_a_chunk_is_drawn_with_number_n_of_that_chunk(decoder, short_hop, monkeypatch):
    used = []

    def watched(logits, uniform, temperature):
        used.append(uniform.clone())
        return choose(logits, uniform, temperature)

    monkeypatch.setattr(batch, "choose", watched)
    monkeypatch.setattr(batch, "compiled", lambda: batch.advance)
    generate(decoder, torch.randn(9, short_hop.latent_dim), seed=7)
    by_stream = torch.stack(used, dim=1)
    for chunk in islice(plan(), 3):
        length = 50 * (chunk.end - chunk.warmup)
        assert (
            by_stream[chunk.index, :length].tolist()
            == draw_uniforms(7, chunk.index, 0, length).tolist()
        )


def test_the_exact_chain_is_drawn_with_the_numbers_of_chunk_0(decoder, short_hop, monkeypatch):
    used = []

    def watched(logits, uniform, temperature):
        used.append(float(uniform))
        return choose(logits, uniform, temperature)

    monkeypatch.setattr(batch, "choose", watched)
    monkeypatch.setattr(batch, "compiled", lambda: batch.advance)
    generate(decoder, torch.randn(3, short_hop.latent_dim), seed=7, options=EXACT)
    assert used == draw_uniforms(7, 0, 0, 150).tolist()


def test_chunks_lie_end_to_end_and_begin_early_and_short():
    chunks = list(islice(plan(), 400))
    assert (chunks[0].warmup, chunks[0].start) == (0, 0)
    for before, after in pairwise(chunks):
        assert after.start == before.end
        assert after.warmup == max(0, after.start - WARMUP_FRAMES)
    lengths = [chunk.end - chunk.start for chunk in chunks]
    assert lengths == sorted(lengths)
    # No shorter: the join of the second chunk looks back over its whole warm-up.
    assert WARMUP_FRAMES == lengths[0] < lengths[-1]


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf])
def test_impossible_temperatures_are_wrong_usage(temperature):
    with pytest.raises(UsageError, match=r"temperature=.*expected a number from 0 up"):
        WaveNetOptions(temperature)


def test_unknown_engines_are_wrong_usage_and_the_known_ones_listed():
    with pytest.raises(UsageError, match=r"'warp'; known: auto, cpu, .*reference"):
        WaveNetOptions(engine="warp")


@pytest.mark.parametrize("engine", ["cpu", "cuda"])
def test_an_engine_on_another_device_is_wrong_usage(short_hop, engine):
    with torch.device("meta"):
        elsewhere = WaveNetDecoder(short_hop)
    with pytest.raises(UsageError, match=rf"engine={engine} .* meta; add --device {engine}"):
        generation.open_engine(elsewhere, WaveNetOptions(engine=engine))
