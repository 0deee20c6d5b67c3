"""What `umt train` shows on stderr while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from core.training.logging import Reporter
from umtcli.console import PLAIN_PROGRESS_SECONDS, format_seconds

if TYPE_CHECKING:
    from core.config import Config
    from umtcli.console import Environment


class ConsoleReporter(Reporter):
    """Shows a run on stderr: a bar on a terminal, else a plain line now and then."""

    def __init__(self, env: Environment, config: Config) -> None:
        self.env, self.config = env, config
        self.last_line = -PLAIN_PROGRESS_SECONDS
        self.last_validation: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.env.close_bar()

    def notice(self, text: str) -> None:
        """Show one line."""
        self.env.notice(text)

    def progress(self, record: dict[str, Any]) -> None:
        """Show losses, accuracy beside chance, speed and time left."""
        text = self._line(record)
        if self.env.bar is None:  # made here, where only the first process comes
            total, layout = self.config.training.steps, "{n}/{total} |{bar}| {desc}"
            self.env.open_bar("training", total, unit="step", layout=layout)
        if self.env.bar is not None:
            self.env.bar.n = record["step"]
            self.env.bar.set_description_str(text)
        elif self.env.clock() - self.last_line >= PLAIN_PROGRESS_SECONDS:
            self.last_line = self.env.clock()
            self.env.notice(f"step {record['step']}/{self.config.training.steps}  {text}")

    def validated(self, record: dict[str, Any], baselines: dict[str, dict[str, float]]) -> None:
        """Show held-out figures beside their baselines."""
        from core.families import get_family

        self.last_validation = record
        figures = {
            name.removeprefix("validation/"): value
            for name, value in record.items()
            if name.startswith("validation/")
        }
        unit = get_family(self.config.model.family).figure
        text = "  ".join(
            f"{name} {value:.3f}{_beside(baselines[name])}" for name, value in figures.items()
        )
        chance = _against_chance(
            record.get("confusion/validation accuracy"), record.get("confusion/validation chance")
        )
        self.env.notice(f"step {record['step']}: held-out {unit}: {text or 'none'}{chance}")

    def _line(self, record: dict[str, Any]) -> str:
        losses = "  ".join(
            f"{name.removeprefix('loss/')} {value:.3f}"
            for name, value in record.items()
            if name.startswith("loss/")
        )
        accuracy = record.get("confusion/accuracy")
        chance = None if accuracy is None else record["confusion/chance"]
        return (
            f"loss: {losses}{_against_chance(accuracy, chance)}"
            f"  {record['items_per_second']:.1f} items/s"
            f"  {format_seconds(record['seconds_left'])} left"
        )


def _beside(baselines: dict[str, float]) -> str:
    return f" ({', '.join(f'{name} {value:.2f}' for name, value in baselines.items())})"


def _against_chance(accuracy: float | None, chance: float | None) -> str:
    if accuracy is None:
        return ""
    return f"  confusion accuracy {accuracy:.2f} (chance {chance:.2f})"
