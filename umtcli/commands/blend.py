"""`umt blend`: two arrays of latents in, one out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import LatentsError, UsageError
from umtcli import options
from umtcli.errors import ItemResults
from umtcli.inputs import STREAM, Input, choose_inputs, open_latents_input
from umtcli.models import choose_model
from umtcli.outputs import check_destination, open_destination, plan_destinations

if TYPE_CHECKING:
    from umtcli.console import Environment
    from umtcli.inputs import Latents

EXAMPLES = """\
umt blend a.npy b.npy --seconds 3.5 | umt decode --to piano -o both.wav
"""


def run(
    ctx: typer.Context,
    *,
    first: Annotated[str, typer.Argument(metavar="A.npy", help="Latents; - is stdin.")],
    second: Annotated[str, typer.Argument(metavar="B.npy", help="Latents; - is stdin.")],
    seconds: Annotated[
        float | None,
        typer.Option(metavar="S", help="Cross-fade from the end of A to the start of B."),
    ] = None,
    mix: Annotated[
        float | None,
        typer.Option(
            metavar="W", help="Mix frame by frame with W of B, 0 to 1; the longer is cut."
        ),
    ] = None,
    output: options.Output = None,
    force: options.Force = False,
    model: options.Model = None,
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Blend two pieces of music in their latents.

    Give --seconds or --mix. If one of them is stereo, the other is the same on both sides. How
    many frames a second has is the model's: name the one that encoded A and B with -m unless it is
    the default one. --mix needs no model.
    """
    from core.latents import write_latents

    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    if (seconds is None) == (mix is None):
        raise UsageError("give either --seconds or --mix")
    if seconds is not None and not 0 <= seconds < math.inf:
        raise UsageError(f"--seconds {seconds:g}: expected a number from 0 up")
    inputs = [Input(own) for own in choose_inputs(env, [first, second])]
    stems = ["stdin" if own.name == STREAM else Path(own.name).stem for own in inputs]
    name = f"{stems[0]}+{stems[1]}.npy"
    (destination,) = plan_destinations(env, [name], output=output, is_json=is_json)
    results = ItemResults(env)
    with results.item(" and ".join(own.label for own in inputs)):
        check_destination(destination, force=force)
        a, b = (_read(env, own) for own in inputs)
        joined = _join(env, a, b, seconds=seconds, weight=mix, model=model)
        with open_destination(env, destination, force=force) as file:
            write_latents(file, joined)
        results.results.append(
            {
                "sources": [own.name for own in inputs],
                "output": str(destination),
                "shape": list(joined.shape),
            }
        )
        if destination.path is not None:
            env.notice(f"wrote {destination}")
    results.finish("blend", is_json=is_json)


def _read(env: Environment, own: Input) -> Latents:
    with open_latents_input(env, own.name) as latents:
        return latents.read()


def _join(
    env: Environment,
    a: Latents,
    b: Latents,
    *,
    seconds: float | None,
    weight: float | None,
    model: str | None,
) -> Latents:
    from core.latents import blend, mix

    if weight is not None:
        return mix(a, b, weight)
    assert seconds is not None
    found, header = choose_model(env, model, [])
    if a.shape[-1] != header.latent_dim:
        raise LatentsError(
            f"{a.shape[-1]} values a frame, model {found.name} has {header.latent_dim}; name the "
            "model that encoded them with -m, for its frames a second"
        )
    latent_rate = header.sample_rate / header.hop_length
    return blend(a, b, overlap_frames=round(seconds * latent_rate))
