"""`umt eval`: figures about a translation, or about a model; pages to look at and to listen to."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.failures import Batch
from umtcli.models import choose_model, load_translator
from umtcli.sources import find_sources
from umtcli.streams import Destination, check_destination, choose_inputs, open_destination

if TYPE_CHECKING:
    from umtcli.console import Environment
    from umtcli.evaluating.songs import Request

EXAMPLES = """\
umt translate song.wav --to piano | umt eval
umt eval song.piano.wav --source song.wav --to piano --html report.html
umt eval --model runs/fast --data data
umt eval --model runs/fast --paired corpus/paired --html report.html

Each figure stands beside its yardsticks, in columns:
unchanged input    what the source itself scores
other music        what another piece, played by the target, scores
true rendering     the same music truly played by the target (--reference, --paired)
another rendering  the same by another player or SoundFont
noise              white noise
share              of the way between the metric's two ends: content from other music to
                   the true rendering, target from the input, quality from noise

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
    page = None if html is None else Destination(html)
    if page is not None:
        check_destination(page, force=force)
    if (model is not None or paired is not None) and (inputs or source or to or reference):
        raise UsageError("--model and --paired measure a model: leave out IN, --source, --to, …")
    if paired is not None:
        _evaluate_paired(env, model, paired, data, device, page=page, force=force, is_json=is_json)
    elif data is not None and not inputs:
        if html is not None:
            raise UsageError("--html is for audio and for --paired; --data has a table and --json")
        _evaluate_model(env, model, data, device, is_json=is_json)
    elif model is not None:
        raise UsageError("to measure a model, name prepared domains too: --data data")
    else:
        from umtcli.evaluating.songs import Request

        request = Request(source, to, tuple(reference or ()))
        _evaluate_audio(env, inputs or [], request, data, page=page, force=force, is_json=is_json)


def _evaluate_audio(
    env: Environment,
    given: list[str],
    request: Request,
    data: Path | None,
    *,
    page: Destination | None,
    force: bool,
    is_json: bool,
) -> None:
    from umtcli.evaluating.songs import (
        evaluate_subject,
        load_classifier,
        read_subject,
        show_subject,
        subject_json,
    )

    batch = Batch(env)
    classifier = load_classifier(env, data)
    found = []
    for name in find_sources(batch, choose_inputs(env, given)):
        with batch.item(name):
            subject = read_subject(env, name, request)
            figures = evaluate_subject(env, subject, classifier)
            batch.results.append(subject_json(subject, figures))
            if page is not None:
                found.append((subject, figures))
            if not is_json:
                show_subject(env, subject, figures)
    if page is not None and found:
        from umtcli.report.results import songs_page

        _write_page(env, page, songs_page(found), force=force)
    batch.finish("eval", is_json=is_json)


def _evaluate_model(
    env: Environment, requested: str | None, data: Path, device: str, *, is_json: bool
) -> None:
    from core.data.domain import load_domains
    from umtcli.evaluating import models

    prepared = load_domains(data, None)
    found, header = choose_model(env, requested, [])
    domains = models.known_domains(env, prepared, found, header)
    translator = load_translator(found, [domain.name for domain in domains], device)
    rows = models.evaluate_domains(translator, domains)
    if is_json:
        facts = {"model": found.name, "id": header.id}
        env.write_json("eval", facts | models.domains_json(translator, rows))
    else:
        models.show_domains(env, translator, rows)


def _evaluate_paired(
    env: Environment,
    requested: str | None,
    directory: Path,
    data: Path | None,
    device: str,
    *,
    page: Destination | None,
    force: bool,
    is_json: bool,
) -> None:
    from umtcli.evaluating import pairs
    from umtcli.evaluating.songs import load_classifier

    if not directory.is_dir():
        raise UsageError(f"--paired {directory}: not a directory")
    found, header = choose_model(env, requested, [])
    translator = load_translator(found, header.domains, device)
    result = pairs.evaluate_pairs(env, translator, directory, load_classifier(env, data))
    if page is not None:
        from umtcli.report.results import pairs_page

        _write_page(env, page, pairs_page(result, found.name, translator.sample_rate), force=force)
    if is_json:
        env.write_json("eval", {"model": found.name, "id": header.id, **pairs.pairs_json(result)})
    else:
        pairs.show_pairs(env, result, found.name)


def _write_page(env: Environment, page: Destination, text: str, *, force: bool) -> None:
    with open_destination(env, page, force=force) as stream:
        stream.write(text.encode())
    env.notice(f"wrote {page}")
