"""Joining chunks: what is played, where, and how smoothly."""

from __future__ import annotations

import math

import pytest
import torch

from core.families.wavenet.sampling.chunks import Chunk
from core.families.wavenet.sampling.crossfade import (
    CROSSFADES_PER_FRAME,
    Crossfader,
    find_crossfade,
)

pytestmark = pytest.mark.usefixtures("generator")

HOP = 800


def chunks_of(*lengths):
    """Return chunks of so many frames, end to end, with a warm-up of two."""
    start = 0
    for index, length in enumerate(lengths):
        yield Chunk(index, max(0, start - 2), start, start + length)
        start += length


def join(waveforms, chunks, order=None, hop=HOP):
    """Return the joined waveform and the crossfader; frames come in, in `order` of the chunks."""
    crossfader, taken = Crossfader(hop), []
    for chunk in chunks:
        crossfader.open(chunk)
    for index in order or range(len(chunks)):
        for frame in waveforms[index].split(hop):
            crossfader.add(chunks[index], frame)
            taken.append(crossfader.take(last=False))
    taken.append(crossfader.take(last=True))
    return torch.cat(taken), crossfader


@pytest.mark.parametrize("hop", [1, CROSSFADES_PER_FRAME - 1, HOP])
def test_parts_of_one_waveform_are_put_together_again(hop):
    chunks = list(chunks_of(2, 1, 4, 1))
    whole = torch.randn(8 * hop)
    parts = [whole[chunk.warmup * hop : chunk.end * hop] for chunk in chunks]
    joined, crossfader = join(parts, chunks, hop=hop)
    torch.testing.assert_close(joined, whole)
    assert [delay for _, delay in crossfader.crossfades] == [0, 0, 0]


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 0, 2]])
def test_chunks_may_be_finished_in_any_order(order):
    chunks = list(chunks_of(2, 3, 2))
    parts = [torch.randn((chunk.end - chunk.warmup) * HOP) for chunk in chunks]
    assert torch.equal(join(parts, chunks, order)[0], join(parts, chunks)[0])


def test_waveform_is_played_as_soon_as_no_join_can_change_it():
    chunks = list(chunks_of(3, 2))
    crossfader = Crossfader(HOP)
    for chunk in chunks:
        crossfader.open(chunk)
    played = []
    for _ in range(3):
        crossfader.add(chunks[0], torch.ones(HOP))
        played.append(len(crossfader.take(last=False)))
    assert played == [HOP, HOP, 0]


def test_tones_of_other_phase_are_joined_where_they_agree():
    chunks = list(chunks_of(2, 3, 4))
    time = torch.arange(9 * HOP) / 16000
    phases = (0.0, 2.0, 4.5)
    parts = [
        0.5 * torch.sin(2 * math.pi * 330 * time[chunk.warmup * HOP : chunk.end * HOP] + phase)
        for chunk, phase in zip(chunks, phases, strict=True)
    ]
    joined, crossfader = join(parts, chunks)
    assert len(joined) == 9 * HOP
    assert all(0 < delay <= HOP // CROSSFADES_PER_FRAME for _, delay in crossfader.crossfades)
    # A pure tone's second difference is proportional to itself; a seam breaks that.
    bend = 2 - 2 * math.cos(2 * math.pi * 330 / 16000)
    error = joined.diff(n=2) + bend * joined[1:-1]
    assert error.abs().max() < 0.02 * 0.5 * bend + 1e-3


def test_a_join_lies_in_the_frame_that_both_have():
    chunks = list(chunks_of(2, 2))
    parts = [torch.randn((chunk.end - chunk.warmup) * HOP) for chunk in chunks]
    joined, crossfader = join(parts, chunks)
    ((place, delay),) = crossfader.crossfades
    assert HOP <= place <= 2 * HOP - HOP // CROSSFADES_PER_FRAME
    assert torch.equal(joined[:place], parts[0][:place])
    end = place + HOP // CROSSFADES_PER_FRAME
    assert torch.equal(joined[end:], parts[1][end - delay : 4 * HOP - delay])


def test_silence_is_joined_without_delay():
    assert find_crossfade(torch.zeros(HOP), torch.zeros(HOP + 160), 160) == (0, 0)


def test_the_likest_place_and_delay_are_found():
    common = torch.randn(160)
    before, after = torch.randn(HOP), torch.randn(160 + HOP)
    before[300:460] = common
    after[160 + 300 - 17 :][:160] = common
    assert find_crossfade(before, after, 160) == (300, 17)
