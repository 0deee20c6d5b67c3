"""The recordings that `umt prep` reads: which belong to a domain, and how they are recognised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from core.data.domain import Track


@dataclass(frozen=True)
class Collection:
    """The recordings that make a domain.

    Attributes:
        name: The domain.
        root: The directory below which they lie.
        files: Their paths.
    """

    name: str
    root: Path
    files: tuple[Path, ...]

    def relative(self, path: Path) -> str:
        """Return a file's path below the root, with "/" separators."""
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Source:
    """One recording, as it was found on the disk.

    Attributes:
        path: Where to read it.
        relative: Its path below the collection's root, with "/" separators.
        size: Bytes.
        mtime_ns: Modification time in nanoseconds.
    """

    path: Path
    relative: str
    size: int
    mtime_ns: int

    @classmethod
    def find(cls, path: Path, relative: str) -> Source:
        """Look at a file.

        Raises:
            OSError: It is gone, or may not be looked at.
        """
        state = path.stat()
        return cls(path, relative, state.st_size, state.st_mtime_ns)

    def is_noted_in(self, track: Track) -> bool:
        """Return whether the track was made from this file as it is, judged by size and date."""
        return (track.source_size, track.source_mtime_ns) == (self.size, self.mtime_ns)

    def note_in(self, track: Track) -> Track:
        """Return the track with this file as its source; the content is the same."""
        return replace(
            track, source=self.relative, source_size=self.size, source_mtime_ns=self.mtime_ns
        )
