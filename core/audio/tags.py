"""The texts that audio files carry about themselves: title, artist, album and comment.

In: whatever a file holds. Out: one line each, of bounded length. The comment of files that umt
wrote holds their provenance (`core.audio.provenance`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

_MAX_CHARACTERS = 500  # of a title; a comment has provenance in it, and is not shown
MAX_COMMENT_CHARACTERS = 1 << 18


@dataclass(frozen=True)
class Tags:
    """The texts of a file; empty where it has none.

    Attributes:
        title: Of the piece.
        artist: Who plays it.
        album: Where it is from.
        comment: Anything; umt's provenance in files that umt wrote.
    """

    title: str = ""
    artist: str = ""
    album: str = ""
    comment: str = ""

    def __post_init__(self) -> None:
        for name in ("title", "artist", "album"):
            object.__setattr__(self, name, cleaned(getattr(self, name))[:_MAX_CHARACTERS])
        if len(self.comment) > MAX_COMMENT_CHARACTERS:
            object.__setattr__(self, "comment", "")

    def filled_from(self, other: Tags) -> Tags:
        """Return these tags, with those of `other` where these are empty."""
        missing = {
            item.name: getattr(other, item.name)
            for item in fields(self)
            if not getattr(self, item.name)
        }
        return replace(self, **missing)


def cleaned(text: str) -> str:
    """Return a text in one line, without characters that control a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


NO_TAGS = Tags()
