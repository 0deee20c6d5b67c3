"""`umt prep`: directories of recordings in, prepared domains out."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.console import Progress
from umtcli.errors import Batch

if TYPE_CHECKING:
    from core.data.prepare import PrepReport
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
    rate: Annotated[int, typer.Option(metavar="HZ", help="Sample rate to store at.")] = 44100,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Recordings to convert at once; as many as cores."),
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
    common: dict[str, Any] = {
        "data": out,
        "sample_rate": rate,
        "jobs": (os.cpu_count() or 1) if jobs is None else jobs,
        "split": _parse_split(split),
    }
    report = _prepare(env, directories or [], name, musicnet, common)
    batch = Batch(env, results=[_describe(prepared) for prepared in report.domains])
    for line in (*report.notices, *report.warnings):
        env.notice(line)
    for item, reason in report.failures:
        env.error(f"{item}: {reason}")
        batch.failures.append({"item": item, "error": reason})
    if not is_json and report.domains:
        _show_table(env, report)
    batch.finish("prep", is_json=is_json)


def _prepare(
    env: Environment,
    directories: list[Path],
    name: str | None,
    musicnet: Path | None,
    common: dict[str, Any],
) -> PrepReport:
    from core.data.prepare import prepare, prepare_musicnet

    with ExitStack() as bars:
        bar: Progress | None = None

        def show(domain: str, n_done: int, n_total: int) -> None:
            nonlocal bar
            label = f"preparing {domain}"
            if bar is None or bar.label != label:
                bars.close()
                bar = bars.enter_context(Progress(env, label, n_total, unit="recordings"))
            bar.advance(n_done - bar.done)

        if musicnet is not None:
            return prepare_musicnet(musicnet, progress=show, **common)
        return prepare(directories, name=name, progress=show, **common)


def _parse_split(text: str) -> tuple[float, float, float]:
    try:
        train, validation, test = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(f"--split {text}: expected three numbers, as in 0.8,0.1,0.1") from error
    return train, validation, test


def _describe(prepared: Any) -> dict[str, Any]:
    from core.data.prepare import SPLITS

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


def _show_table(env: Environment, report: PrepReport) -> None:
    from rich.table import Table

    from core.data.prepare import SPLITS

    table = Table("domain", box=None, title="minutes (tracks)", title_justify="left")
    for heading in (*SPLITS, "new"):
        table.add_column(heading, justify="right")
    for prepared in report.domains:
        domain = prepared.domain
        cells = [f"{domain.minutes(split):.1f} ({domain.n_tracks(split)})" for split in SPLITS]
        table.add_row(domain.name, *cells, str(prepared.n_converted))
    env.write_table(table)
