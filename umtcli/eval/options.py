"""The options of `umt eval`, and where its page goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from umtcli.outputs import Destination, check_destination, open_destination

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from umtcli.console import Environment


@dataclass(frozen=True)
class EvalOptions:
    """The options of `umt eval`; None or empty where one was not given.

    Attributes:
        inputs: Audio, or answers of listeners.
        source: What the inputs were translated from; overrides their provenance.
        target: The domain they should be in; overrides their provenance.
        references: True renderings of the same music.
        model: The model.
        data: Prepared domains.
        paired: Pieces rendered on several domains.
        html: Where an HTML page goes.
        listening_test: The directory of a new listening test.
        device: As --device takes it.
        force: Whether existing files are replaced.
        is_json: Whether the result is JSON.
    """

    inputs: Sequence[str]
    source: Path | None
    target: str | None
    references: Sequence[Path]
    model: str | None
    data: Path | None
    paired: Path | None
    html: Path | None
    listening_test: Path | None
    device: str
    force: bool
    is_json: bool

    @property
    def has_audio(self) -> bool:
        """Whether an option was given that only evaluations of audio have."""
        return bool(self.inputs or self.source or self.target or self.references)

    def check_html(self) -> None:
        """Check, before any work, that the page can be written."""
        if self.html is not None:
            check_destination(Destination(self.html), force=self.force)

    def write_html(self, env: Environment, page: str) -> None:
        """Write the page and report its path."""
        assert self.html is not None
        write_text_file(env, Destination(self.html), page, force=self.force)
        env.notice(f"wrote {self.html}")


def write_text_file(env: Environment, destination: Destination, text: str, *, force: bool) -> None:
    """Write UTF-8; file names may hold bytes that are none, which appear as escapes."""
    with open_destination(env, destination, force=force) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))
