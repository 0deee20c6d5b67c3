"""`umt eval`: figures about a translation, or about a model; pages to look at and to listen to."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import Annotated

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.evaluating.asked import Asked

EXAMPLES = """\
umt translate song.wav --to piano | umt eval
umt eval song.piano.wav --source song.wav --to piano --html report.html
umt eval --model runs/fast --data data
umt eval --model runs/fast --paired corpus/paired --html report.html
umt eval out/*.wav --listening-test listen
umt eval --ratings listen/answers-*.json

\b
Each figure stands beside its yardsticks, in columns:
unchanged input    what the source itself scores
other music        what another piece, played by the target, scores
true rendering     the same music played by the target (--reference, --paired)
another rendering  the same by another player or SoundFont
noise              white noise
share              of the way between the metric's two ends: content from
                   other music, target from the input, quality from noise,
                   each to the true rendering; without one, content to the
                   input, the rest to other music

docs/evaluation.md defines every figure and says how far it can be trusted.
"""


def run(
    ctx: typer.Context,
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="IN", help="Audio files or directories; - is stdin."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="S", help="What the input was translated from, if it does not say."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="D", help="The domain it should be in, if it does not say."),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="R",
            help="The same music truly played by the target, aligned with the input; may be "
            "given several times: the last one is then a yardstick.",
        ),
    ] = None,
    model: options.Model = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Prepared domains: to measure a model on them, or, with audio or --paired, to "
            "learn what they sound like.",
        ),
    ] = None,
    paired: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pieces rendered on several domains, PIECE/DOMAIN--RENDERING.EXTENSION, to "
            "measure a model's translations against the truth.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PAGE", help="Write a page to look at and to listen to, too."),
    ] = None,
    listening_test: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Measure nothing, and write a blind listening test of translations instead.",
        ),
    ] = None,
    ratings: Annotated[
        bool,
        typer.Option("--ratings", help="IN are the answers of a listening test's listeners."),
    ] = False,
    device: options.Device = "auto",
    force: options.Force = False,
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure a translation against its source, or a model on held-out music.

    A file or pipe that umt made tells what it was made from, so that it is compared with its
    source if that is still there and unchanged. With --data a whole model is measured: the
    family's held-out figure (WaveNet: bits per sample, 8 is knowing nothing; spectral: STFT
    distance, 0 is perfect) and how often the confusion network names the domain, beside chance.
    With --paired its translations are held against the same notes truly played by the target.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    asked = Asked(
        inputs=inputs or (),
        source=source,
        target=to,
        references=reference or (),
        model=model,
        data=data,
        paired=paired,
        page=html,
        test=listening_test,
        device=device,
        force=force,
        is_json=is_json,
    )
    _check(asked, ratings=ratings)
    asked.check_page()
    if ratings:
        from umtcli.evaluating.listening import show_ratings as work
    elif listening_test is not None:
        from umtcli.evaluating.listening import write_test as work
    elif paired is not None:
        from umtcli.evaluating.pairs import measure_pairs as work
    elif data is not None and not asked.is_about_audio:
        from umtcli.evaluating.models import measure_model as work
    else:
        from umtcli.evaluating.songs import measure_songs as work
    work(env, asked)


def _check(asked: Asked, *, ratings: bool) -> None:
    """Refuse options that do not go together."""
    is_about_model = asked.model is not None or asked.paired is not None
    if ratings:
        others = (asked.source, asked.target, asked.references, asked.data, asked.page, asked.test)
        if any(others) or is_about_model or not asked.inputs:
            raise UsageError(
                "--ratings takes the files that a listening test's page saved; name them as IN "
                "and leave out --source, --to, --model, --data, --html, …"
            )
    elif is_about_model and asked.is_about_audio:
        raise UsageError("--model and --paired measure a model: leave out IN, --source, --to, …")
    elif asked.test is not None and (asked.page or asked.is_json or asked.data):
        raise UsageError("--listening-test measures nothing: leave out --html, --json and --data")
    elif asked.paired is None and asked.data is None and asked.model is not None:
        raise UsageError("to measure a model, name prepared domains too: --data data")
    elif asked.paired is None and asked.data and not asked.is_about_audio and asked.page:
        raise UsageError("--html is for audio and for --paired; --data has a table and --json")
