"""What a run of `umt prep` has to tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core.data.domain import Domain


@dataclass
class Happenings:
    """Events, collected as the work goes on.

    Attributes:
        notices: Lines about things that need no action.
        warnings: Lines about things that harm the training.
        failures: Pairs of a recording (or a directory) and why it was not prepared.
    """

    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class PreparedDomain:
    """One domain after the run.

    Attributes:
        domain: As it is on the disk; `minutes` and `n_tracks` tell of its splits.
        n_converted: Recordings that this run converted.
        n_dropped: Tracks that this run dropped.
    """

    domain: Domain
    n_converted: int
    n_dropped: int


@dataclass(frozen=True)
class PrepReport:
    """The outcome of a run.

    Attributes:
        domains: The domains that are ready, in the order they were given.
        notices: Lines about things that need no action.
        warnings: Lines about things that harm the training.
        failures: Pairs of a recording (or a directory) and why it was not prepared. Not
            empty means that the command exits with 1.
    """

    domains: tuple[PreparedDomain, ...]
    notices: tuple[str, ...]
    warnings: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]


def split_warnings(domain: Domain, wanted: Iterable[str]) -> list[str]:
    """Say where the division of a domain is not what training and measuring need.

    Args:
        domain: As it is now.
        wanted: The splits that were asked for, those with a share above zero.
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
