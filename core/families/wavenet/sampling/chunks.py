"""Chunks: where a long sequence of latents is cut, so that its parts advance side by side.

The plan is a function of the frame index alone, so it is the same for files, pipes and
inputs of unknown length. Each chunk but the first starts some frames early, with silence as its
past as every item of the training did; by the time its own part begins, its output follows the
latents (`benchmarks/seams.py` measures it)::

    frames    0    1    2    3    4    5    6    7    8    9   10
    chunk 0   [kkkk kkkx]
    chunk 1   [wwww wwwx kkkk kkkx]                   k kept, w warm-up,
    chunk 2             [wwww wwwx kkkk kkkk kkkx]    x the frame of a crossfade
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WARMUP_FRAMES = 2  # the last of them holds the crossfade from the chunk before

# The first chunks are short, so that playback can start early.
SHORTEST_FRAMES = 2
GROWTH_FRAMES = 8  # of sound, after which chunks are a frame longer
LONGEST_FRAMES = 10  # early: a short song then keeps more streams busy than with longer chunks
EARLY_FRAMES = 1200
LONGEST_LATER_FRAMES = 20


@dataclass(frozen=True)
class Chunk:
    """Frames that one stream generates.

    Attributes:
        index: Number of the chunk; selects its random numbers.
        warmup: First frame generated.
        start: First frame of its own.
        end: One past the last frame.
    """

    index: int
    warmup: int
    start: int
    end: int


def plan() -> Iterator[Chunk]:
    """Yield the chunks of an endless sequence; one whose end lies beyond an input ends there."""
    start = 0
    for index in count():
        longest = LONGEST_FRAMES if start < EARLY_FRAMES else LONGEST_LATER_FRAMES
        end = start + min(SHORTEST_FRAMES + start // GROWTH_FRAMES, longest)
        yield Chunk(index, max(0, start - WARMUP_FRAMES), start, end)
        start = end
