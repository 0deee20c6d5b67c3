"""Sequences cut into blocks of one length."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.blocks import regroup


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
