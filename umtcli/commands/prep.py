"""`umt prep`: directories of recordings in, prepared domains out."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.completion import complete_rates
from umtcli.console import Progress
from umtcli.errors import ItemResults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.data.sync import PreparedDomain, PrepLog
    from umtcli.console import Environment

EXAMPLES = """\
umt prep ./piano ./harpsichord
"""


def run(
    ctx: typer.Context,
    *,
    directories: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DIR", help="Recordings of one domain, at any depth."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DATA", help="Where the domains go.")] = Path("data"),
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the domain, for a single DIR.")
    ] = None,
    rate: Annotated[
        int,
        typer.Option(metavar="HZ", autocompletion=complete_rates, help="Sample rate to store at."),
    ] = 44100,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Recordings to convert at once. Default: one for each core that may be used.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="A,B,C", help="Shares of train, validation and test.")
    ] = "0.8,0.1,0.1",
    musicnet: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make the paper's six domains of an unpacked MusicNet."),
    ] = None,
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Prepare recordings for training: one DIR, one domain.

    A domain is named after its directory. Every recording is converted to mono, and assigned to
    train, validation or test for good. Running it again does only what is new or has changed.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    if bool(directories) == (musicnet is not None):
        raise UsageError("name the directories of recordings, or one --musicnet directory")
    if musicnet is not None and name is not None:
        raise UsageError("--name does not go with --musicnet, which names its six domains itself")
    shares = _parse_split(split)
    from core.data.prepare import prepare, prepare_musicnet

    with _progress(env) as progress:
        if musicnet is not None:
            log = prepare_musicnet(
                musicnet, data=out, sample_rate=rate, jobs=jobs, split=shares, progress=progress
            )
        else:
            log = prepare(
                directories or [],
                data=out,
                name=name,
                sample_rate=rate,
                jobs=jobs,
                split=shares,
                progress=progress,
            )
    batch = ItemResults(env, results=[_describe(prepared) for prepared in log.domains])
    for line in (*log.notices, *log.warnings):
        env.notice(line)
    for item, reason in log.failures:
        env.error(f"{item}: {reason}")
        batch.failures.append({"item": item, "error": reason})
    if not is_json and log.domains:
        _show_table(env, log)
    batch.finish("prep", is_json=is_json)


@contextmanager
def _progress(env: Environment) -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar after another: a new one for each label."""
    with ExitStack() as bars:
        bar: Progress | None = None

        def show(label: str, n_done: int, n_total: int) -> None:
            nonlocal bar
            if bar is None or bar.label != label:
                bars.close()
                bar = bars.enter_context(Progress(env, label, n_total, unit="bytes"))
            bar.advance(n_done - bar.done)

        yield show


def _parse_split(text: str) -> tuple[float, float, float]:
    try:
        train, validation, test = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(f"--split {text}: expected three numbers, as in 0.8,0.1,0.1") from error
    return train, validation, test


def _describe(prepared: PreparedDomain) -> dict[str, object]:
    from core.data.domain import SPLITS

    domain = prepared.domain
    return {
        "domain": domain.name,
        "directory": str(domain.directory),
        "sample_rate": domain.sample_rate,
        "converted": prepared.n_converted,
        "dropped": prepared.n_dropped,
        "tracks": {split: domain.n_tracks(split) for split in SPLITS},
        "minutes": {split: round(domain.minutes(split), 3) for split in SPLITS},
    }


def _show_table(env: Environment, log: PrepLog) -> None:
    from rich.table import Table

    from core.data.domain import SPLITS

    table = Table("domain", box=None, title="minutes (tracks)", title_justify="left")
    for heading in (*SPLITS, "new"):
        table.add_column(heading, justify="right")
    for prepared in log.domains:
        domain = prepared.domain
        cells = [f"{domain.minutes(split):.1f} ({domain.n_tracks(split)})" for split in SPLITS]
        table.add_row(domain.name, *cells, str(prepared.n_converted))
    env.write_table(table)
