"""`umt eval`: figures about a translation or a model; pages with players; listening tests."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import Annotated

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.completion import complete_domains
from umtcli.eval.options import EvalOptions
from umtcli.processes import launched_rank

EXAMPLES = """\
umt translate song.wav --to piano | umt eval
umt eval song.piano.wav --source song.wav --to piano --html report.html
umt eval --model runs/fast --data data
umt eval --model runs/fast --paired corpus/paired --html report.html
umt eval out/*.wav --listening-test listen
umt eval --ratings listen/answers-*.json

\b
Each figure is shown beside baselines, in columns:
unchanged input    the source itself
other music        another piece, played by the target
true rendering     the same music played by the target (--reference, --paired)
another rendering  the same by another player or SoundFont
noise              white noise
score              normalised: 0 % is the worst baseline, 100 % the best.
                   Worst: other music for content, the input for the target,
                   noise for quality. Best: the true rendering; without one,
                   the input for content, other music for the rest
usual              what 90 % of recordings show; * marks figures outside

docs/evaluation.md defines every figure and how far it can be trusted.
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
        typer.Option(
            metavar="S", help="What the input was translated from; its own provenance otherwise."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="D",
            autocompletion=complete_domains,
            help="The domain it should be in; its own provenance otherwise.",
        ),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="R",
            help="The same music truly played by the target, aligned with the input; may be "
            "given several times: the last one is then a baseline.",
        ),
    ] = None,
    model: options.Model = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Prepared domains: to measure a model on them, or, with audio or --paired, to "
            "train the timbre classifier on them.",
        ),
    ] = None,
    paired: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pieces rendered on several domains, PIECE/DOMAIN--RENDERING.EXTENSION, to "
            "measure a model's translations against true renderings.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PAGE", help="Also write a page with players and spectrograms."),
    ] = None,
    listening_test: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a blind listening test of translations, and measure nothing.",
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

    A file or pipe that umt made names its source in its provenance, so it is compared with that
    source if it is still there and unchanged. With --data a whole model is measured: the family's
    held-out figure (WaveNet: bits per sample, 8 is a uniform guess; spectral: STFT distance, 0 is
    perfect) and how often the confusion network finds the domain, beside chance. With --paired
    its translations are compared with the same notes truly played by the target.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    given = EvalOptions(
        inputs=inputs or (),
        source=source,
        target=to,
        references=reference or (),
        model=model,
        data=data,
        paired=paired,
        html=html,
        listening_test=listening_test,
        device=device,
        force=force,
        is_json=is_json,
    )
    _check(given, ratings=ratings)
    given.check_html()
    measures_audio = data is None or given.has_audio
    if measures_audio and not ratings and listening_test is None and paired is None:
        from umtcli.eval.audio import evaluate_audio as work
    elif launched_rank() > 0:  # of several processes, the first does the rest alone
        return
    elif ratings:
        from umtcli.eval.listening import show_ratings as work
    elif listening_test is not None:
        from umtcli.eval.listening import write_test as work
    elif paired is not None:
        from umtcli.eval.paired import evaluate_pairs as work
    else:
        from umtcli.eval.model import evaluate_data as work
    work(env, given)


def _check(given: EvalOptions, *, ratings: bool) -> None:
    """Refuse options that exclude each other."""
    measures_model = given.model is not None or given.paired is not None
    if ratings:
        others = (given.source, given.target, given.references, given.data, given.html)
        if any(others) or given.listening_test or measures_model or not given.inputs:
            raise UsageError(
                "--ratings takes the files that a listening test's page saved; name them as IN "
                "and leave out --source, --to, --model, --data, --html, …"
            )
    elif measures_model and given.has_audio:
        raise UsageError("--model and --paired measure a model: leave out IN, --source, --to, …")
    elif given.listening_test is not None and (given.html or given.is_json or given.data):
        raise UsageError("--listening-test measures nothing: leave out --html, --json and --data")
    elif given.paired is None and given.data is None and given.model is not None:
        raise UsageError("to measure a model, name prepared domains too: --data data")
    elif given.paired is None and given.data and not given.has_audio and given.html:
        raise UsageError("--html is for audio and for --paired; --data has a table and --json")
