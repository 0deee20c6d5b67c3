"""The note that umt leaves in each file it makes: from what, with which model and how.

It is one line of JSON in the comment tag (ICMT in WAV). What it does not do: find or check the
source it names; `umt eval` does that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MARK = "umt_provenance"  # the key that tells our comments from anybody else's
_VERSION = 1


@dataclass(frozen=True)
class Provenance:
    """How a file was made; enough to make it again.

    Attributes:
        tool: Program and version, e.g. "umt 0.1.0".
        model_id: Identifier stored in the model file.
        model: Model as it was found: a bundled name or a path.
        domain: Target domain.
        seed: Seed of the generator.
        options: Generation options, e.g. {"temperature": 1.0}.
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
    options: dict[str, float | int | str | bool]
    start_seconds: float
    seconds: float | None
    source: str
    source_sha256: str | None

    def to_json(self) -> str:
        """Return one line of ASCII: it survives any reader's idea of a comment's encoding."""
        return json.dumps({_MARK: _VERSION, **dataclasses.asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Provenance | None:
        """Read a comment tag.

        Args:
            text: The comment; fields unknown to this version are ignored.

        Returns:
            The provenance, or None when the comment is not one that umt wrote.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(fields, dict) or not isinstance(fields.get(_MARK), int):
            return None
        known: dict[str, Any] = {name: fields.get(name) for name in _ACCEPTED}
        if not all(_is_one_of(known[name], kinds) for name, kinds in _ACCEPTED.items()):
            return None
        if not all(_is_one_of(value, _OPTION) for value in known["options"].values()):
            return None
        return cls(**known)


_NUMBER = (int, float)
_OPTION = (int, float, str, bool)
_ACCEPTED: dict[str, tuple[type, ...]] = {
    "tool": (str,),
    "model_id": (str,),
    "model": (str,),
    "domain": (str,),
    "seed": (int,),
    "options": (dict,),
    "start_seconds": _NUMBER,
    "seconds": (*_NUMBER, type(None)),
    "source": (str,),
    "source_sha256": (str, type(None)),
}


def _is_one_of(value: object, kinds: tuple[type, ...]) -> bool:
    """`isinstance`, except that True and False are not numbers."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def file_sha256(path: str | Path) -> str:
    """Hash a file's bytes.

    Args:
        path: A regular file.

    Returns:
        SHA-256 in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
