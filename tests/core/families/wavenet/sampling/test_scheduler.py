"""Several sequences in one batch: none hears of the others."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
import torch

from core.errors import UsageError
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.sampling import WaveNetOptions
from core.families.wavenet.sampling.cpu import CpuEngine

LENGTHS = (23, 0, 1, 41, 2, 3)  # frames
GENERATION = {"window": 9, "seed": 5, "options": WaveNetOptions()}


@pytest.fixture
def decoder(generator, short_hop, trained):
    return trained(WaveNetDecoder(short_hop))


@pytest.fixture
def songs(generator, short_hop):
    return [torch.randn(length, short_hop.latent_dim) for length in LENGTHS]


@pytest.fixture
def advanced(monkeypatch):
    """The times that the CPU engine has advanced."""
    times, advance = [], CpuEngine.advance

    def counted(self, frames, uniforms):
        times.append(1)
        return advance(self, frames, uniforms)

    monkeypatch.setattr(CpuEngine, "advance", counted)
    return times


def waveforms(decoder, sequences, *, exact=False):
    options = WaveNetOptions(exact=exact)
    return decoder.generate_all(sequences, window=9, seed=5, options=options)


def play(blocks):
    return torch.cat([torch.zeros(0), *blocks])


@pytest.mark.parametrize("exact", [False, True], ids=["chunks", "exact"])
def test_each_sequence_has_the_samples_that_it_has_alone(decoder, songs, exact):
    cut = [iter(song.split(7)) for song in songs]
    together = [play(blocks) for blocks in waveforms(decoder, cut, exact=exact)]
    assert [len(made) for made in together] == [50 * length for length in LENGTHS]
    for made, song in zip(together, songs, strict=True):
        (alone,) = (play(blocks) for blocks in waveforms(decoder, [iter([song])], exact=exact))
        assert torch.equal(made, alone)


def test_sequences_advance_together(decoder, songs, advanced):
    for song in songs:
        for blocks in waveforms(decoder, [iter([song])]):
            play(blocks)
    one_by_one = len(advanced)
    for blocks in waveforms(decoder, [iter([song]) for song in songs]):
        play(blocks)
    assert len(advanced) - one_by_one < 0.6 * one_by_one


def test_an_error_of_one_input_is_raised_in_its_place_and_spoils_no_other(decoder, songs):
    def torn():
        yield songs[3][:20]
        raise UsageError("torn tape")

    sequences = [iter([songs[0]]), torn(), iter([songs[2]])]
    made = []
    with closing(waveforms(decoder, sequences)) as all_waveforms:
        for blocks in all_waveforms:
            try:
                made.append(play(blocks))
            except UsageError as error:
                made.append(str(error))
    first, message, last = made
    assert message == "torn tape"
    assert torch.equal(first, play(decoder.generate(iter([songs[0]]), **GENERATION)))
    assert torch.equal(last, play(decoder.generate(iter([songs[2]]), **GENERATION)))


def test_what_is_not_taken_is_neither_read_nor_made_and_changes_no_other(decoder, songs, advanced):
    n_read = 0

    def endless():
        nonlocal n_read
        while True:
            n_read += 1
            yield songs[0]

    with closing(waveforms(decoder, [endless(), iter([songs[3]])])) as all_waveforms:
        next(next(all_waveforms))
        before = n_read, len(advanced)
        last = play(next(all_waveforms))
    assert torch.equal(last, play(decoder.generate(iter([songs[3]]), **GENERATION)))
    assert n_read <= before[0] + 3
    assert len(advanced) < before[1] + 100


def test_an_album_is_read_no_further_than_its_streams_reach(decoder, short_hop):
    n_begun = 0

    def song():
        nonlocal n_begun
        n_begun += 1
        yield torch.zeros(100, short_hop.latent_dim)

    with closing(waveforms(decoder, [song() for _ in range(1000)])) as all_waveforms:
        next(next(all_waveforms))
        assert n_begun <= 10  # a song has 19 chunks, and there are 64 streams


def test_after_a_failure_of_the_engine_no_waveform_is_cut_short_in_silence(
    decoder, songs, monkeypatch
):
    advance = CpuEngine.advance

    def failing(self, frames, uniforms):
        monkeypatch.setattr(CpuEngine, "advance", advance)
        raise MemoryError

    monkeypatch.setattr(CpuEngine, "advance", failing)
    with closing(waveforms(decoder, [iter([song]) for song in songs])) as all_waveforms:
        for blocks in all_waveforms:
            with pytest.raises(MemoryError):
                play(blocks)


def test_no_thread_outlives_sequences_that_are_given_up(decoder, songs):
    before = set(threading.enumerate())
    all_waveforms = waveforms(decoder, [iter([song]) for song in songs])
    next(next(all_waveforms))
    all_waveforms.close()
    assert set(threading.enumerate()) == before
