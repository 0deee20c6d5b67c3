"""`umt export`: a model for programs that play live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import UmtError, UsageError
from core.parsing import did_you_mean
from umtcli import options
from umtcli.completion import complete_hosts, complete_models
from umtcli.inputs import STREAM
from umtcli.models import choose_model, load_translator
from umtcli.outputs import Destination, check_destination

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.export.live import LiveTranslator
    from core.translator import Translator

EXAMPLES = """\
umt export starter --to piano --to strings --format nn~ -o piano.ts
umt export starter --to all --format neutone -o umt.nm
"""
HOSTS = {"nn~": ".ts", "neutone": ".nm"}


def run(
    ctx: typer.Context,
    *,
    to: options.To,
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", metavar="FILE", help="File to write: .ts for nn~, .nm for Neutone."
        ),
    ],
    host: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="HOST",
            autocompletion=complete_hosts,
            help="nn~ (Max and Pure Data) or neutone (a plugin for DAWs).",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            autocompletion=complete_models,
            help="As for --model of `umt translate`.",
        ),
    ] = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a spectral model as a file that Max, Pure Data or a DAW plays live.

    It translates as --live does, into one of the targets or a mixture of them at a time, which can
    be changed while it plays; the first one is played first. See docs/live.md.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    if host not in HOSTS:
        raise UsageError(f"--format {host}: expected nn~ or neutone{did_you_mean(host, HOSTS)}")
    if output == STREAM:
        raise UsageError("-o -: a model is not written to stdout; name a file")
    path = Path(output)
    if path.suffix != HOSTS[host]:
        raise UsageError(f"-o {output}: {host} loads files whose names end in {HOSTS[host]}")
    targets = options.split_domains(to)
    if shared := next((own for own in targets if ":" in own), None):
        raise UsageError(
            f"--to {shared}: shares are set in the host; name each domain by itself, as in "
            "--to piano --to strings"
        )
    wanted = [] if targets == ["all"] else targets
    check_destination(Destination(path, makes_parents=True), force=force)
    found, header = choose_model(env, model, wanted)
    targets = wanted or list(header.domains)
    live = _write(load_translator(found, targets, "cpu"), targets, path, host, seed, force=force)
    delay_ms = 1000 * live.delay / live.model_rate
    env.notice(
        f"wrote {output}: {', '.join(live.targets)}; {live.delay} samples ({delay_ms:.0f} ms) "
        "behind at the model's rate, and the host's buffer besides"
    )
    if is_json:
        facts = {
            "output": output,
            "format": host,
            "model": found.name,
            "id": header.id,
            "targets": live.targets,
            "sample_rate": live.model_rate,
            "ratio": live.hop_length,
            "delay_samples": live.delay,
        }
        env.write_json("export", facts)


def _write(
    model: Translator, targets: Sequence[str], path: Path, host: str, seed: int, *, force: bool
) -> LiveTranslator:
    names = list(targets)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if host == "neutone":
            from core.export.neutone import write_neutone

            return write_neutone(model, names, path, overwrite=force, seed=seed)
        from core.export.nn_tilde import write_nn_tilde

        return write_nn_tilde(model, names, path, overwrite=force, seed=seed)
    except FileExistsError as error:
        raise UmtError(
            f"{path} exists; add -f to replace it, or choose another name with -o"
        ) from error
