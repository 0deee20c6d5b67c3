"""`umt encode`: audio in, latents out."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from umtcli import options
from umtcli.errors import ItemResults
from umtcli.inputs import choose_inputs, find_inputs, open_audio_input
from umtcli.render import Request, run_all

EXAMPLES = """\
umt encode song.wav -o song.npy
"""


def run(
    ctx: typer.Context,
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="IN", help="Audio files or directories; - is stdin."),
    ] = None,
    mono: options.Mono = False,
    drop_drums: options.DropDrums = False,
    output: options.Output = None,
    force: options.Force = False,
    model: options.Model = None,
    device: options.Device = "auto",
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Encode audio into latents, a plain NumPy array.

    Its shape is (frames, D), float32, or (2, frames, D) of stereo. It keeps the music and not the
    instrument: np.load, mix, np.save, and decode it. The last frame is filled up with silence.
    Nothing is written before the input has ended.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    results = ItemResults(env)
    request = Request(
        command="encode",
        find_inputs=lambda: find_inputs(results, choose_inputs(env, inputs or [])),
        open_input=partial(open_audio_input, env, mono=mono),
        to=(),
        output=output,
        model=model,
        device=device,
        drop_drums=drop_drums,
        force=force,
        is_json=is_json,
    )
    run_all(results, request)
