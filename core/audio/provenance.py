"""The note that umt leaves in each file it makes: from what, with which model and how.

It is one line of JSON in the comment tag (ICMT in WAV). Comments come from anybody's
files, so every value is checked before it is used.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from core.errors import AudioError
from core.parsing import build, parse_json

_MARK = "umt_provenance"  # the key that tells our comments from anybody else's
_VERSION = 1
_MAX_SECONDS = 366 * 86_400.0
_MAX_CHARACTERS = 1 << 15  # paths end at 4,096 bytes, each of which may take six characters
_MAX_OPTIONS = 100
_SHA256 = re.compile("[0-9a-f]{64}")
# Of a translation, as they are when nobody changes them.
_USUAL_SETTINGS: dict[str, float | bool] = {
    "mix": 1.0,
    "transpose": 0.0,
    "keep_octaves": False,
    "keep_drums": False,
    "drop_drums": False,
    "match_level": True,
}


@dataclass(frozen=True)
class Provenance:
    """How a file was made; enough to make it again.

    Attributes:
        tool: Program and version, e.g. "umt 0.1.0".
        model_id: Identifier stored in the model file.
        model: Model as it was found: a bundled name or a path.
        domain: Target domain.
        seed: Seed of the generator.
        options: Generation options, e.g. {"temperature": 1.0}; None for what was left open.
        start_seconds: Where in the source the translated part starts, in seconds.
        seconds: Length of that part in seconds; None when it runs to the end.
        source: The input as the user typed it; "-" for a pipe.
        source_sha256: Hash of the input file in hexadecimal; None for a pipe.
    """

    tool: str
    model_id: str
    model: str
    domain: str
    seed: int
    options: dict[str, float | int | str | bool | None]
    start_seconds: float
    seconds: float | None
    source: str
    source_sha256: str | None

    def to_json(self) -> str:
        """Return one line of ASCII: it survives any reader's idea of a comment's encoding."""
        return json.dumps({_MARK: _VERSION, **dataclasses.asdict(self)}, separators=(",", ":"))

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: A value that umt never writes.
        """
        for name in ("tool", "model_id", "model", "domain", "source"):
            if len(getattr(self, name)) > _MAX_CHARACTERS:
                raise ValueError(f"{name} has more than {_MAX_CHARACTERS} characters")
        if not 0 <= self.start_seconds <= _MAX_SECONDS:
            raise ValueError(f"start_seconds = {self.start_seconds:g}: expected 0 or more")
        if self.seconds is not None and not 0 < self.seconds <= _MAX_SECONDS:
            raise ValueError(f"seconds = {self.seconds:g}: expected more than 0")
        if len(self.options) > _MAX_OPTIONS:
            raise ValueError(f"{len(self.options)} options: expected at most {_MAX_OPTIONS}")
        if self.source_sha256 is not None and not _SHA256.fullmatch(self.source_sha256):
            raise ValueError("source_sha256: expected 64 hexadecimal digits")

    @classmethod
    def from_json(cls, text: str) -> Provenance | None:
        """Read a comment tag.

        Args:
            text: The comment; fields unknown to this version are ignored.

        Returns:
            The provenance, or None when the comment is not one that umt wrote.

        Raises:
            AudioError: It claims to be umt's, and has values that umt does not write.
        """
        if f'"{_MARK}"' not in text:
            return None
        values = parse_json(text, "", error=AudioError)
        if not isinstance(values, dict) or not isinstance(values.get(_MARK), int):
            return None
        optional = {"seconds": None, "source_sha256": None}
        return build(cls, optional | values, "", error=AudioError, ignores_unknown=True)

    def find_source(self) -> Path | None:
        """Return the file that this was made from, if it is there and unchanged.

        Returns:
            The path; None where it is missing, has changed, or is no regular file: a
            comment may name any path.
        """
        path = Path(self.source)
        if self.source_sha256 is None:
            return None
        try:
            return path if file_sha256(path) == self.source_sha256 else None
        except (OSError, ValueError):
            return None


def changed_settings(**settings: float | bool) -> dict[str, float | int | str | bool | None]:
    """Return what of a translation's settings is not as usual, for `Provenance.options`."""
    return {name: value for name, value in settings.items() if value != _USUAL_SETTINGS[name]}


def file_sha256(path: str | Path) -> str:
    """Hash a file's bytes.

    Args:
        path: A regular file.

    Returns:
        SHA-256 in hexadecimal.

    Raises:
        OSError: The file cannot be read, or is a pipe or device, which may have no end.
    """
    # Without waiting: a named pipe would block until somebody writes to it. Windows has other
    # flags, and neither such pipes nor children that inherit.
    flags = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    descriptor = os.open(path, os.O_RDONLY | flags)
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return hashlib.file_digest(stream, "sha256").hexdigest()
