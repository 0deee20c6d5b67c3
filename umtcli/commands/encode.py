"""`umt encode`: audio in, latents out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from umtcli import options
from umtcli.errors import Batch
from umtcli.inputs import AudioSource, find_sources, spool
from umtcli.outputs import choose_inputs, open_destination
from umtcli.pipeline import Job, Request, run_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core.model_file import FoundModel
    from core.translator import Translator
    from umtcli.console import Progress
    from umtcli.inputs import Latents, LatentStream, Source

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
    output: options.Output = None,
    force: options.Force = False,
    model: options.Model = None,
    device: options.Device = "auto",
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Encode audio into latents, a plain NumPy array.

    Its shape is (frames, D), float32. It keeps the music and not the instrument: np.load, mix,
    np.save, and decode it. The last frame is filled up with silence. Nothing is written before
    the input has ended.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    batch = Batch(env)
    given = choose_inputs(env, inputs or [])
    request = Request(
        command="encode",
        sources=find_sources(batch, given),
        open_source=lambda source: AudioSource(env, source),
        to=[None],
        template="{stem}.npy",
        is_named=False,
        output=output,
        is_directory=any(Path(name).is_dir() for name in given),
        check_name=None,
        model=model,
        device=device,
        seed=0,
        force=force,
        is_json=is_json,
    )
    run_all(batch, request, lambda *loaded: _Encoder(batch, request, *loaded))


class _Encoder:
    """Writes the latents of one source after the other; a `Worker`."""

    def __init__(
        self,
        batch: Batch,
        request: Request,
        translator: Translator,
        found: FoundModel,
        progress: Progress,
    ) -> None:
        del found  # `.npy` names no model
        self.batch = batch
        self.request = request
        self.translator = translator
        self.progress = progress

    def work(self, jobs: Sequence[Job], reopened: Callable[[str], Source]) -> None:
        """Encode each source, which has one job, and write it."""
        for job in jobs:
            with self.batch.item(job.source), reopened(job.source) as source:
                self._encode(source, job)

    def _encode(self, source: Source, job: Job) -> None:
        from core.latents import write_latents

        stream = source.encode(self.translator)
        latents = spool(self._counted(stream), self.translator.latent_dim)
        env = self.batch.env
        with open_destination(env, job.destination, force=self.request.force) as file:
            write_latents(file, latents)
        self.batch.results.append(
            {
                "source": job.source,
                "output": str(job.destination),
                "gain_db": stream.gain_db,
                "shape": list(latents.shape),
            }
        )
        if job.destination.path is not None:
            env.notice(f"wrote {job.destination}")

    def _counted(self, stream: LatentStream) -> Iterator[Latents]:
        for block in stream.blocks:
            yield block
            self.progress.advance(len(block) / self.translator.latent_rate)
