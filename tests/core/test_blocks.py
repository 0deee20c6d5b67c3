"""Sequences cut into other blocks, side by side, added up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.blocks import add_up, regroup, side_by_side


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("cuts", [[], [1, 1, 2, 9], [10], [3, 6, 9, 12]])
@pytest.mark.parametrize(("first", "lengths"), [(None, [5, 5, 4]), (2, [2, 5, 5, 2]), (14, [14])])
def test_blocks_have_one_length_however_the_sequence_arrives(library, cuts, first, lengths):
    whole = np.arange(28.0).reshape(14, 2)
    blocks = np.split(whole, cuts)
    if library == "torch":
        found = regroup(map(torch.from_numpy, blocks), 5, join=torch.cat, first=first)
        made = [block.numpy() for block in found]
    else:
        made = list(regroup(blocks, 5, join=np.concatenate, first=first))
    assert [len(block) for block in made] == lengths
    assert np.array_equal(np.concatenate(made), whole)


def test_nothing_comes_of_nothing():
    assert list(regroup([np.zeros(0)], 5, join=np.concatenate)) == []


@pytest.mark.parametrize("lengths", [[1] * 40, [40], [3, 5, 32]])
def test_streams_that_lag_behind_are_cut_alike(lengths):
    sequence = torch.arange(40.0)
    late = torch.arange(100.0, 140.0)
    pairs = list(side_by_side(iter(sequence.split(lengths)), iter(late.split([7, 1, 32]))))
    assert all(len(one) == len(other) > 0 for one, other in pairs)
    assert torch.equal(torch.cat([one for one, _ in pairs]), sequence)
    assert torch.equal(torch.cat([other for _, other in pairs]), late)


def test_streams_are_added_up_by_their_shares():
    one, other = np.ones((9, 2), np.float32), np.arange(18, dtype=np.float32).reshape(9, 2)
    streams = iter(np.split(one, [2, 8])), iter(np.split(other, [5]))
    total = np.concatenate(list(add_up(streams, (0.5, 2))))
    assert total.dtype == np.float32
    np.testing.assert_allclose(total, 0.5 + 2 * other)
