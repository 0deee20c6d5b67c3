"""What the user asked `umt eval` for, and where its page goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from umtcli.outputs import Destination, check_destination, open_destination

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from umtcli.console import Environment


@dataclass(frozen=True)
class Asked:
    """The options of `umt eval`; None where one was not given.

    Attributes:
        inputs: Audio, or answers of listeners.
        source: What the inputs were translated from, if they do not say.
        target: The domain they should be in, if they do not say.
        references: True renderings of the same music.
        model: The model.
        data: Prepared domains.
        paired: Pieces rendered on several domains.
        page: Where an HTML page goes.
        test: The directory of a listening test.
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
    page: Path | None
    test: Path | None
    device: str
    force: bool
    is_json: bool

    @property
    def is_about_audio(self) -> bool:
        """Whether something was said that only audio has."""
        return bool(self.inputs or self.source or self.target or self.references)

    def check_page(self) -> None:
        """Find out, before any work, whether the page can be written."""
        if self.page is not None:
            check_destination(Destination(self.page), force=self.force)

    def write_page(self, env: Environment, text: str) -> None:
        """Write the page and say so."""
        assert self.page is not None
        with open_destination(env, Destination(self.page), force=self.force) as stream:
            stream.write(text.encode())
        env.notice(f"wrote {self.page}")
