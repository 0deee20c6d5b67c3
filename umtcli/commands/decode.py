"""`umt decode`: latents in, audio out."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from umtcli import options
from umtcli.errors import ItemResults
from umtcli.inputs import Input, choose_inputs, open_latents_input
from umtcli.render import Request, run_all

EXAMPLES = """\
umt decode song.npy --to piano
umt encode song.wav | umt decode --to piano > piano.wav
"""


def run(
    ctx: typer.Context,
    *,
    to: options.To,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="IN.npy", help="Latents from `umt encode`; - is stdin."),
    ] = None,
    transpose: options.Transpose = "0",
    keep_octaves: options.KeepOctaves = False,
    temperature: options.Temperature = None,
    tuning: options.Tuning = None,
    engine: options.Engine = None,
    exact: options.Exact = None,
    output: options.Output = None,
    name: options.Name = None,
    rate: options.Rate = None,
    bits: options.SampleBits = None,
    force: options.Force = False,
    model: options.Model = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Decode latents into audio of a domain.

    The latents are an array of shape (frames, D), or (2, frames, D) of stereo, and the model must
    be the one that encoded them. They do not keep how loud the music was: together with `umt
    encode` this gives the same samples as `umt translate --no-match-level` does.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    request = Request(
        command="decode",
        find_inputs=lambda: [Input(own) for own in choose_inputs(env, inputs or [])],
        open_input=partial(open_latents_input, env),
        to=options.split_domains(to),
        name=name,
        output=output,
        model=model,
        device=device,
        seed=seed,
        transpose=options.parse_transposition(transpose),
        keep_octaves=keep_octaves,
        match_level=False,
        force=force,
        is_json=is_json,
        rate=rate,
        bits=options.check_bits(bits),
        options=options.generation(
            temperature=temperature, tuning=tuning, engine=engine, exact=exact
        ),
    )
    run_all(ItemResults(env), request)
