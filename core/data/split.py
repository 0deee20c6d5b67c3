"""Decide which tracks, or which parts of a single track, train, validate and test.

In: lengths in samples, shares, and the assignments made earlier, which never change.
Out: the parts of every new track. Does not read or write files.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from typing import TYPE_CHECKING

from core.data.domain import SPLITS, Part
from core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from core.data.domain import Domain

GAP_SECONDS = 1.0  # between blocks of a cut track, so that no note rings into another split
SHORTEST_BLOCK_SECONDS = 1.0  # the paper's training item
GOOD_BLOCK_SECONDS = 10.0
MOST_ROUNDS = 8


def normalise_shares(split: tuple[float, float, float]) -> dict[str, float]:
    """Return the share of each split, in SPLITS order, adding up to 1; zero shares left out.

    Raises:
        UsageError: A share is negative or not finite, or training gets none.

    Example:
        >>> normalise_shares((8, 1, 1))
        {'train': 0.8, 'validation': 0.1, 'test': 0.1}
    """
    finite = len(split) == len(SPLITS) and all(math.isfinite(x) and x >= 0 for x in split)
    if not finite or split[0] == 0:
        raise UsageError(
            f"--split {','.join(f'{x:g}' for x in split)}: three shares for train, validation and "
            "test are accepted, none negative, the first above 0; for example 0.8,0.1,0.1"
        )
    return {name: x / sum(split) for name, x in zip(SPLITS, split, strict=True) if x > 0}


def stable_order(sources: Iterable[str]) -> list[str]:
    """Return the sources shuffled by a hash of their paths: the same on every machine."""
    return sorted(sources, key=_path_hash)


def assign_tracks(
    new: Mapping[str, int], existing: Iterable[Part], shares: Mapping[str, float]
) -> dict[str, Part]:
    """Assign each new track as a whole to a split.

    Splits that are empty are filled first: train (with the longest track, so that a test tone
    is never all there is to learn from), then validation, then test. Every further
    track, in the stable order, goes to the split that lacks most of its share of the total.

    Args:
        new: Length of each new track in samples, by its source path.
        existing: All parts assigned earlier.
        shares: From `normalise_shares`.

    Returns:
        One part for each new track, by its source path.
    """
    held = dict.fromkeys(shares, 0)
    for part in existing:
        if part.split in held:
            held[part.split] += part.stop - part.start
    order = stable_order(new)
    if order and held["train"] == 0:
        longest = max(order, key=lambda source: new[source])
        order = [longest, *(source for source in order if source != longest)]
    assigned = {}
    for source in order:
        split = _neediest(held, shares, new[source])
        held[split] += new[source]
        assigned[source] = Part(split, 0, new[source])
    return assigned


def cut_track(n_samples: int, sample_rate: int, shares: Mapping[str, float]) -> tuple[Part, ...]:
    """Cut the only track of a domain into blocks, with gaps of one second between them.

    The track is divided into up to 8 equal rounds, as many as keep the smallest block at
    10 s or more; each round has a block for every split, sized by its share:

        | train            |gap| val |gap| test |gap| train            |gap| val |gap| test |

    So each split has some of the beginning, the middle and the end, and little is lost in gaps.
    A track too short for blocks of one second is left to train as a whole.

    Returns:
        The parts, ascending; samples.
    """
    gap = round(GAP_SECONDS * sample_rate)
    smallest = min(shares.values())
    seconds = n_samples / sample_rate
    n_rounds = min(MOST_ROUNDS, max(1, int(seconds * smallest / GOOD_BLOCK_SECONDS)))
    usable = n_samples - gap * (n_rounds * len(shares) - 1)
    if usable * smallest < SHORTEST_BLOCK_SECONDS * sample_rate:
        return (Part("train", 0, n_samples),)
    parts: list[Part] = []
    filled = 0.0
    for split in list(shares) * n_rounds:
        offset = gap * len(parts)
        start, filled = filled, filled + usable * shares[split] / n_rounds
        parts.append(Part(split, offset + round(start), offset + round(filled)))
    return tuple(parts)


def carry_over(parts: tuple[Part, ...], n_samples: int, sample_rate: int) -> tuple[Part, ...]:
    """Return a track's parts for its changed content: a cut track is cut anew, in its ratio."""
    if len(parts) == 1:
        return (Part(parts[0].split, 0, n_samples),)
    held = {split: sum(p.stop - p.start for p in parts if p.split == split) for split in SPLITS}
    total = sum(held.values())
    shares = {split: length / total for split, length in held.items() if length}
    return cut_track(n_samples, sample_rate, shares)


def split_warnings(domain: Domain, wanted: Iterable[str]) -> list[str]:
    """Return a line for each way in which a domain's split harms training or measuring.

    Args:
        domain: As it is now.
        wanted: The splits that have a share above zero.
    """
    if domain.n_tracks("train") == 0:
        return [
            f"{domain.name}: nothing is left to train on, and tracks never change their split; "
            f"add recordings, or delete {domain.directory} to split anew"
        ]
    if len(domain.tracks) > 1 or "validation" not in wanted:
        return []
    if len(domain.tracks[0].parts) == 1:
        return [
            f"{domain.name}: one recording, too short to hold anything out; all of it is for "
            "training: add recordings"
        ]
    return [
        f"{domain.name}: one recording, so it was cut into blocks with gaps of one second; "
        "held-out figures on the same piece flatter: add recordings"
    ]


def _neediest(held: Mapping[str, int], shares: Mapping[str, float], n_samples: int) -> str:
    empty = [split for split in shares if held[split] == 0]
    if empty:
        return empty[0]
    total = sum(held.values()) + n_samples
    return max(shares, key=lambda split: shares[split] * total - held[split])


def _path_hash(source: str) -> bytes:
    # macOS decomposes accents in file names; the order must not depend on that.
    composed = unicodedata.normalize("NFC", source)
    return hashlib.sha256(composed.encode("utf-8", "surrogateescape")).digest()
