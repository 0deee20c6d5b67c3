"""`umt train`: prepared domains in, a run with its model out."""

from __future__ import annotations

import signal
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.console import PLAIN_PROGRESS_SECONDS, format_seconds
from umtcli.failures import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.config import Config
    from umtcli.console import Environment

EXAMPLES = """\
umt train
umt train --preset small --domains piano,strings --run runs/duo
accelerate launch -m umtcli train --preset paper
"""
STOPS = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED}


def run(
    ctx: typer.Context,
    *,
    data: Annotated[
        Path, typer.Option(metavar="DATA", help="Where `umt prep` put the domains.")
    ] = Path("data"),
    domains: Annotated[
        str | None, typer.Option(metavar="A,B", help="Domains to train; all by default.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="fast (default), small, paper, paper-4s or tiny."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file that changes values of the preset."),
    ] = None,
    run_directory: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="The run's folder; runs/PRESET by default."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Updates in all; the preset's own.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Items of an update, over all processes.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(metavar="M", min=0, help="Save and stop after M minutes.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of weights and items; the preset's.")
    ] = None,
    device: options.Device = "auto",
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a model, or continue a run that exists.

    One step is one update. The run's folder holds checkpoints to continue from, log.jsonl,
    TensorBoard events with audio, and model.safetensors, which is written at each validation
    and on stopping. Ctrl-C and SIGTERM save and stop. Started by `accelerate launch`, the same
    command trains on all its processes.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    chosen = _configure(preset, config, steps=steps, batch_size=batch_size, seed=seed)
    directory = run_directory or Path("runs") / chosen.preset
    if device not in ("auto", "cpu"):
        raise UsageError(
            f"--device {device}: training takes auto or cpu; CUDA_VISIBLE_DEVICES chooses GPUs"
        )
    with warnings.catch_warnings(), _stop_requests() as stopped_by:
        warnings.simplefilter("ignore")  # torch's own remarks on the machine's drivers
        from core.data.domain import load_domains
        from core.training.loop import train

        prepared = load_domains(data, domains.split(",") if domains else None)
        reporter = _ConsoleReporter(env, chosen)
        with reporter:
            result = train(
                chosen,
                prepared,
                directory,
                reporter=reporter,
                max_minutes=max_minutes,
                should_stop=stopped_by,
                device=device,
            )
    if result.is_main:
        env.notice(f"{result.model} holds the model of step {result.step}")
    if is_json and result.is_main:
        facts = {"model": str(result.model), "step": result.step, "stopped_by": result.stopped_by}
        env.write_json("train", {**facts, "validation": reporter.last_validation})
    if result.stopped_by in STOPS:
        raise typer.Exit(STOPS[result.stopped_by])


def _configure(preset: str | None, file: Path | None, **changes: int | None) -> Config:
    from core.config import DEFAULT_PRESET, get_preset, read_config

    chosen = get_preset(preset or DEFAULT_PRESET)
    if file is not None:
        chosen = read_config(file, chosen)
    given = {name: value for name, value in changes.items() if value is not None}
    return chosen.updated("training", **given)


@contextmanager
def _stop_requests() -> Iterator[Callable[[], str | None]]:
    """Turn Ctrl-C and SIGTERM into a request to save and stop; a second one acts at once."""
    received: list[str] = []
    numbers = [signal.Signals[name] for name in STOPS]
    previous = {number: signal.getsignal(number) for number in numbers}

    def request(number: int, frame: Any) -> None:
        received.append(signal.Signals(number).name)
        handler = previous[signal.Signals(number)]
        if len(received) > 1 and callable(handler):
            handler(number, frame)

    for number in numbers:
        signal.signal(number, request)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _ConsoleReporter:
    """Shows a run on stderr: a bar on a terminal, else a plain line now and then."""

    def __init__(self, env: Environment, config: Config) -> None:
        self.env, self.config = env, config
        self.last_line = -PLAIN_PROGRESS_SECONDS
        self.last_validation: dict[str, Any] = {}

    def __enter__(self) -> _ConsoleReporter:
        if self.env.stderr_is_terminal and not self.env.is_quiet:
            from tqdm import tqdm

            tqdm.monitor_interval = 0
            self.env.bar = tqdm(
                total=self.config.training.steps,
                desc="training",
                unit="step",
                file=self.env.stderr,
                leave=False,
                dynamic_ncols=True,
                bar_format="{n}/{total} |{bar}| {desc}",
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.env.bar is not None:
            self.env.bar.close()
            self.env.bar = None

    def notice(self, text: str) -> None:
        """Tell one line."""
        self.env.notice(text)

    def progress(self, record: dict[str, Any]) -> None:
        """Show losses, accuracy beside chance, speed and time left."""
        text = self._line(record)
        if self.env.bar is not None:
            self.env.bar.n = record["step"]
            self.env.bar.set_description_str(text)
        elif self.env.clock() - self.last_line >= PLAIN_PROGRESS_SECONDS:
            self.last_line = self.env.clock()
            self.env.notice(f"step {record['step']}/{self.config.training.steps}  {text}")

    def validated(self, record: dict[str, Any]) -> None:
        """Show held-out figures."""
        from core.families import get_family

        self.last_validation = record
        figures = {
            name.removeprefix("validation/"): value
            for name, value in record.items()
            if name.startswith("validation/")
        }
        unit = get_family(self.config.model.family).figure
        text = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
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


def _against_chance(accuracy: float | None, chance: float | None) -> str:
    if accuracy is None:
        return ""
    return f"  confusion accuracy {accuracy:.2f} (chance {chance:.2f})"
