"""From latents to audio files or pipes: the work of `umt decode` and `umt translate`.

A source is encoded once, however many targets it has.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import core
from umtcli.pipeline import Job, Request, run_all
from umtcli.sources import LatentStream, in_blocks, spool
from umtcli.streams import open_destination

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from core.audio.provenance import Provenance
    from core.model import Translator
    from core.modelfile import FoundModel
    from umtcli.console import Progress
    from umtcli.failures import Batch
    from umtcli.sources import Source
    from umtcli.streams import Destination

DEFAULT_NAME = "{stem}.{domain}.wav"


def render_all(batch: Batch, request: Request, options: Mapping[str, object]) -> None:
    """Render every source for every target domain; see `run_all`.

    Args:
        batch: Takes results and failures.
        request: What the user asked for.
        options: Generation options that the user gave, by name.
    """

    def start(translator: Translator, found: FoundModel, progress: Progress) -> _Renderer:
        return _Renderer(
            batch, request, options, translator=translator, found=found, progress=progress
        )

    run_all(batch, request, start)


class _Renderer:
    """Writes the results of one source after the other; a `Worker`."""

    def __init__(
        self,
        batch: Batch,
        request: Request,
        options: Mapping[str, object],
        *,
        translator: Translator,
        found: FoundModel,
        progress: Progress,
    ) -> None:
        self.batch = batch
        self.env = batch.env
        self.request = request
        self.translator = translator
        self.options = translator.generation_options(options)
        self.found = found
        self.progress = progress

    def work(self, source: Source, jobs: Sequence[Job]) -> None:
        """Render a source for all its targets."""
        from core.audio.provenance import file_sha256

        sha256 = file_sha256(source.path) if source.path else None
        stream = source.encode(self.translator)
        if len(jobs) == 1:
            self._render(source, sha256, stream, jobs[0])
            return
        latents = spool(stream.blocks, self.translator.latent_dim)
        for job in jobs:
            again = LatentStream(in_blocks(latents), len(latents), stream.gain_db)
            with self.batch.item(str(job)):
                self._render(source, sha256, again, job)

    def _render(self, source: Source, sha256: str | None, stream: LatentStream, job: Job) -> None:
        from core.audio.levels import guard_peaks

        assert job.domain is not None
        result: dict[str, Any] = {"source": job.source, "domain": job.domain}
        result |= {"output": str(job.destination), "gain_db": stream.gain_db, "peak_gain_db": 0.0}

        def report_peaks(gain_db: float) -> None:
            result["peak_gain_db"] = gain_db
            where = "output" if job.destination.path is None else job.destination
            self.env.notice(f"{where}: peaks above full scale; lowered by {-gain_db:.1f} dB")

        decoded = self.translator.decode_blocks(
            stream.blocks, to=job.domain, seed=self.request.seed, options=self.options
        )
        blocks = guard_peaks(decoded, self.translator.sample_rate, report_peaks)
        provenance = self._provenance(source, sha256, job)
        result["seconds"] = self._write(blocks, stream.n_frames, provenance, job.destination)
        self.batch.results.append(result)
        if job.destination.path is not None:
            self.env.notice(f"wrote {job.destination}")

    def _provenance(self, source: Source, sha256: str | None, job: Job) -> Provenance:
        from core.audio.provenance import Provenance

        return Provenance(
            tool=f"umt {core.__version__}",
            model_id=self.translator.id,
            model=self.found.name,
            domain=str(job.domain),
            seed=self.request.seed,
            options=dataclasses.asdict(self.options),
            start_seconds=source.start_seconds,
            seconds=source.seconds,
            source=job.source,
            source_sha256=sha256,
        )

    def _write(
        self,
        blocks: Iterator[NDArray[np.float32]],
        n_frames: int | None,
        provenance: Provenance,
        destination: Destination,
    ) -> float:
        """Write a result, each block at once; return its length in seconds."""
        from core.audio.writing import open_writer, output_format

        rate = self.translator.sample_rate
        path = None if destination.is_device else destination.path
        with (
            open_destination(self.env, destination, force=self.request.force) as stream,
            open_writer(
                stream,
                sample_rate=rate,
                n_samples=None if n_frames is None else n_frames * self.translator.hop_length,
                provenance=provenance,
                format=output_format(path) if path else "wav",
            ) as writer,
        ):
            for block in blocks:
                writer.write(block)
                stream.flush()
                self.progress.advance(len(block) / rate)
            return writer.n_written / rate
