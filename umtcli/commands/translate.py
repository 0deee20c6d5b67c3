"""`umt translate`: audio in, audio of another domain out."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.errors import ItemResults
from umtcli.inputs import choose_inputs, find_inputs, open_audio_input
from umtcli.render import Request, run_all

EXAMPLES = """\
umt translate song.wav --to piano
umt translate album/ --to strings,organ -o out
ffmpeg -i film.mkv -f wav - | umt translate --to guitar | aplay
arecord -f cd | umt translate --to strings --live | aplay
"""


def run(
    ctx: typer.Context,
    *,
    to: options.To,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="IN", help="Audio files or directories; - is stdin."),
    ] = None,
    transpose: options.Transpose = "0",
    keep_octaves: options.KeepOctaves = False,
    temperature: options.Temperature = None,
    tuning: options.Tuning = None,
    engine: options.Engine = None,
    exact: options.Exact = None,
    start: Annotated[
        float,
        typer.Option(
            metavar="TIME",
            parser=options.parse_seconds,
            help="Begin so far into the input: seconds, or 1:05.",
        ),
    ] = 0,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="TIME",
            parser=options.parse_seconds,
            help="Translate so much: seconds, or 1:30; all by default.",
        ),
    ] = None,
    mix: Annotated[
        float,
        typer.Option(
            metavar="W",
            min=0,
            max=1,
            help="Share of the translation, 0 to 1; the rest of the result is the input.",
        ),
    ] = 1.0,
    keep_drums: Annotated[
        bool,
        typer.Option(
            "--keep-drums",
            help="Leave the input's percussive part in the result, and translate the rest.",
        ),
    ] = False,
    drop_drums: options.DropDrums = False,
    match_level: Annotated[
        bool,
        typer.Option(
            "--match-level/--no-match-level",
            help="Give the result the input's loudness. Without it the samples are those of umt "
            "encode | umt decode.",
        ),
    ] = True,
    mono: options.Mono = False,
    output: options.Output = None,
    name: options.Name = None,
    rate: options.Rate = None,
    bits: options.SampleBits = None,
    force: options.Force = False,
    model: options.Model = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    is_live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Spectral models: play along with a pipe, 0.23 s behind what is read.",
        ),
    ] = False,
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Translate music into other instruments and styles.

    Each input is encoded once and decoded for every --to. Without -o the result goes to stdout
    if that is a pipe or a file, else to song.DOMAIN.wav in the current directory. -o FILE takes
    any extension that can be written; -o DIR takes several results.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    is_mixed = mix < 1 or keep_drums
    if is_live and is_mixed:
        raise UsageError(
            "--mix and --keep-drums read the input twice, which --live cannot; leave them out, or "
            "mix what is played"
        )
    is_fitted = transpose == "fit"
    if is_live and is_fitted:
        raise UsageError(
            "--transpose fit reads the whole input first, which --live cannot; give a number of "
            "semitones"
        )
    results = ItemResults(env)
    request = Request(
        command="translate",
        find_inputs=lambda: find_inputs(results, choose_inputs(env, inputs or [])),
        open_input=partial(
            open_audio_input,
            env,
            mono=mono,
            is_reread=is_mixed or is_fitted,
            start_seconds=start,
            seconds=seconds,
        ),
        to=options.split_domains(to),
        name=name,
        output=output,
        model=model,
        device=device,
        seed=seed,
        transpose=options.parse_transposition(transpose),
        keep_octaves=keep_octaves,
        force=force,
        is_json=is_json,
        is_live=is_live,
        start_seconds=start,
        seconds=seconds,
        rate=rate,
        mix=mix,
        keep_drums=keep_drums,
        drop_drums=drop_drums,
        match_level=match_level,
        bits=options.check_bits(bits),
        options=options.generation(
            temperature=temperature, tuning=tuning, engine=engine, exact=exact
        ),
    )
    run_all(results, request)
