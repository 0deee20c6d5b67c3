"""The keys that an instrument has, as MIDI numbers, and the octave in which a piece fits them.

In: how often each key is played. Out: the range of what is played, or a shift by whole octaves. A
domain's range is measured in training (`core.training.ranges`) and stored in the model file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

N_MIDI_KEYS = 128
RAREST_SHARE = 1e-3  # of all notes that may lie beyond each end of a range: slips, and misreadings
FURTHEST_OCTAVES = 4
OCTAVE_COST = 0.05  # share of the notes that an octave more has to bring into the range
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True)
class KeyRange:
    """The keys of an instrument, an octave at least, so that every note has a place in it.

    Attributes:
        lowest: MIDI number of the lowest key.
        highest: MIDI number of the highest key.
    """

    lowest: int
    highest: int

    def __post_init__(self) -> None:
        if not (self.lowest >= 0 and self.lowest + 11 <= self.highest < N_MIDI_KEYS):
            raise ValueError(
                f"keys {self.lowest} to {self.highest}: expected MIDI numbers, an octave or more"
            )

    def __str__(self) -> str:
        return f"{key_name(self.lowest)} to {key_name(self.highest)}"


def key_name(key: int) -> str:
    """Return the name of a MIDI number.

    Example:
        >>> key_name(60), key_name(21), key_name(70)
        ('C4', 'A0', 'A#4')
    """
    return f"{_NAMES[key % 12]}{key // 12 - 1}"


def range_of(counts: Sequence[float]) -> KeyRange | None:
    """Return the range of what was played, up to one note in a thousand at each end.

    Args:
        counts: How often each key was played, by MIDI number, 128 of them.

    Returns:
        None where nothing was played, or less than an octave.

    Example:
        >>> counts = [0.0] * 128
        >>> counts[48:73] = [100.0] * 25
        >>> counts[90] = 1.0  # a slip
        >>> str(range_of(counts))
        'C3 to C5'
    """
    allowed = RAREST_SHARE * sum(counts)
    ends = [_end_of(counts, keys, allowed) for keys in (range(128), range(127, -1, -1))]
    if ends[1] - ends[0] < 11:
        return None
    return KeyRange(*ends)


def _end_of(counts: Sequence[float], keys: range, allowed: float) -> int:
    """Return the first of some keys before which no more notes lie than are allowed."""
    n_before = 0.0
    for key in keys:
        n_before += counts[key]
        if n_before > allowed:
            return key
    return keys[-1]


def best_octave(counts: Sequence[float], ranges: Mapping[KeyRange, float]) -> int:
    """Return by how many octaves a piece is best moved, so that its notes are in a range.

    The fewer the better: each octave has to bring a twentieth of the notes into the range.

    Args:
        counts: How often each key is played, by MIDI number, 128 of them.
        ranges: Those that it is to fit, each with its share.

    Returns:
        From -4 to 4; 0 for a piece without notes.

    Example:
        >>> counts = [0.0] * 128
        >>> counts[36:60] = [1.0] * 24
        >>> best_octave(counts, {KeyRange(60, 96): 1.0})
        2
    """
    total = sum(counts) * sum(ranges.values())
    if not total:
        return 0

    def cost(octaves: int) -> float:
        outside = sum(
            share * count
            for own, share in ranges.items()
            for key, count in enumerate(counts)
            if not own.lowest <= key + 12 * octaves <= own.highest
        )
        return outside / total + OCTAVE_COST * abs(octaves)

    return min(sorted(range(-FURTHEST_OCTAVES, FURTHEST_OCTAVES + 1), key=abs), key=cost)
