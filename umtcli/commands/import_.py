"""`umt import`: the checkpoints that the paper's authors published, as a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.inputs import STREAM
from umtcli.outputs import Destination, check_destination

if TYPE_CHECKING:
    from core.translator import Translator

EXAMPLES = """\
umt import pretrained_musicnet -o authors.safetensors
umt translate song.wav --to Bach_Solo_Cello -m authors.safetensors
"""
LICENSE = "unknown to umt; ask those who published the weights"


def run(
    ctx: typer.Context,
    *,
    directory: Annotated[
        str,
        typer.Argument(metavar="DIR", help="Folder with args.pth and lastmodel_0.pth and so on."),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="MODEL", help="Model file to write.")
    ],
    best: Annotated[
        bool,
        typer.Option(
            "--best",
            help="Take bestmodel_* instead, saved at different epochs, with rank 0's encoder.",
        ),
    ] = False,
    force: options.Force = False,
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a model file of the checkpoints that the paper's authors published.

    DIR holds their files for all domains. No code from them is run. Their weights have a
    license of their own, which umt does not know.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    if output == STREAM:
        raise UsageError("-o -: a model file is not written to stdout; name a file")
    path = Path(output)
    check_destination(Destination(path, makes_parents=True), force=force)
    model = import_model(Path(directory), best=best)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    env.notice(f"wrote {output}: {', '.join(model.domains)}")
    env.notice(f"license of the weights: {LICENSE}")
    if is_json:
        facts = {"output": output, "id": model.id, "domains": list(model.domains)}
        env.write_json("import", facts | {"license": LICENSE, "training": model.training_record})


def import_model(directory: Path, *, best: bool = False) -> Translator:
    """Return the authors' checkpoints as a model.

    Args:
        directory: Their folder.
        best: See `core.families.wavenet.published.read_published`.

    Raises:
        ModelError: A file is missing, damaged, or of other networks.
    """
    from core.families.wavenet.published import read_published
    from core.translator import Translator

    published = read_published(directory, best=best)
    model = Translator(published.config, published.domains, published.domains)
    model.load_state_dict(published.tensors)
    # The level of the authors' recordings is not known: inputs are left as they are.
    model.level_db = None
    model.training_record = {"imported": published.source, "license": LICENSE}
    return model
