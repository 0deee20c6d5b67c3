"""Ranges of keys: measured, named, and fitted by octaves."""

from __future__ import annotations

import pytest

from core.key_range import KeyRange, best_octave, range_of


def counts(**played: float) -> list[float]:
    """Return so many notes of each key, `k60=3` of middle C."""
    found = [0.0] * 128
    for name, count in played.items():
        found[int(name[1:])] = count
    return found


def between(lowest: int, highest: int) -> list[float]:
    return [1.0 if lowest <= key <= highest else 0.0 for key in range(128)]


@pytest.mark.parametrize("ends", [(60, 70), (-1, 60), (60, 128), (70, 60)])
def test_a_range_has_an_octave_of_midi_numbers(ends):
    with pytest.raises(ValueError, match="an octave or more"):
        KeyRange(*ends)


@pytest.mark.parametrize(
    ("played", "expected"),
    [
        (between(40, 84), KeyRange(40, 84)),
        (counts(k40=500, k60=9_000, k84=500, k100=5), KeyRange(40, 84)),  # a slip
        (counts(k20=6, k40=500, k60=9_000, k84=500), KeyRange(40, 84)),
        (counts(k40=500, k60=9_000, k84=500, k100=50), KeyRange(40, 100)),
        (counts(k60=9_000, k65=9_000), None),  # less than an octave
        (counts(), None),
    ],
)
def test_a_range_spans_all_notes_but_the_rarest(played, expected):
    assert range_of(played) == expected


@pytest.mark.parametrize(
    ("piece", "keys", "octaves"),
    [
        ((60, 84), (48, 96), 0),
        ((36, 59), (60, 96), 2),
        ((84, 100), (40, 84), -2),
        ((53, 81), (48, 76), 0),  # an octave would bring no more into the range than it costs
        ((59, 96), (60, 110), 0),  # one note in forty may stay outside
        ((54, 78), (60, 110), 1),
    ],
)
def test_a_piece_is_moved_by_the_fewest_octaves_that_bring_it_into_a_range(piece, keys, octaves):
    assert best_octave(between(*piece), {KeyRange(*keys): 1.0}) == octaves


def test_several_ranges_count_by_their_shares():
    high, low = KeyRange(72, 96), KeyRange(36, 60)
    assert best_octave(between(48, 60), {high: 0.9, low: 0.1}) == 2
    assert best_octave(between(48, 60), {high: 0.1, low: 0.9}) == 0


def test_silence_stays_where_it_is():
    assert best_octave(counts(), {KeyRange(72, 96): 1.0}) == 0
