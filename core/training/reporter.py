"""What a training run tells its user, as it goes on."""

from __future__ import annotations

from typing import Any


class Reporter:
    """Told what happens; this one keeps it to itself, as all processes but the first do."""

    def notice(self, text: str) -> None:
        """Tell one line."""

    def progress(self, record: dict[str, Any]) -> None:
        """Show a record of the log: step, losses, accuracy, items a second, seconds left."""

    def validated(self, record: dict[str, Any], baselines: dict[str, dict[str, float]]) -> None:
        """Show a validation's figures, and of each domain those that need no learning."""
