"""From latents to audio files or pipes: the work of `umt decode` and `umt translate`.

A source is encoded once, however many targets it has. Results are written one after the other,
while the decoder may already work on the next.
"""

from __future__ import annotations

import dataclasses
from contextlib import closing
from functools import partial
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Any

import core
from umtcli.errors import is_item_failure
from umtcli.inputs import in_blocks, spool
from umtcli.outputs import open_destination
from umtcli.pipeline import Job, Request, run_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from core.audio.provenance import Provenance
    from core.model_file import FoundModel
    from core.translator import Translator
    from umtcli.console import Progress
    from umtcli.errors import Batch
    from umtcli.inputs import Latents, Source
    from umtcli.outputs import Destination

DEFAULT_NAME = "{stem}.{domain}.wav"
SOURCES_TOGETHER = 100  # with several targets, the latents of so many are kept at once


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


class _Input:
    """A source that is opened and encoded when its latents are first asked for, and only then.

    Args:
        open_source: Opens it.
        translator: Encodes it.
        is_kept: Whether its latents are asked for more than once.

    Attributes:
        is_broken: Whether it could not be read.
        n_frames: As in `LatentStream`; this and what follows is known once there are latents.
        gain_db: As in `LatentStream`.
        sha256: Of the file; None for a stream.
        start_seconds: As in `Source`.
        seconds: As in `Source`.
    """

    def __init__(
        self, open_source: Callable[[], Source], translator: Translator, *, is_kept: bool
    ) -> None:
        self.is_kept = is_kept
        self.is_broken = False
        self.n_frames: int | None = None
        self.gain_db: float | None = 0.0
        self.sha256: str | None = None
        self.start_seconds = 0.0
        self.seconds: float | None = None
        self._open_source = open_source
        self._translator = translator
        self._kept: Latents | None = None

    def latents(self) -> Iterator[Latents]:
        """Yield its latents in blocks, float32 (L, D)."""
        try:
            yield from self._encode() if self._kept is None else in_blocks(self._kept)
        except Exception:
            self.is_broken = True
            raise

    def _encode(self) -> Iterator[Latents]:
        from core.audio.provenance import file_sha256

        with self._open_source() as source:
            self.start_seconds, self.seconds = source.start_seconds, source.seconds
            self.sha256 = file_sha256(source.path) if source.path else None
            stream = source.encode(self._translator)
            self.n_frames, self.gain_db = stream.n_frames, stream.gain_db
            if self.is_kept:
                self._kept = spool(stream.blocks, self._translator.latent_dim)
                self.n_frames = len(self._kept)
            yield from stream.blocks if self._kept is None else in_blocks(self._kept)


class _Renderer:
    """Writes the results of many sources, in batches that they share; a `Worker`."""

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

    def work(self, jobs: Sequence[Job], reopened: Callable[[str], Source]) -> None:
        """Render a number of sources at a time for one target after the other."""
        by_source = [list(group) for _, group in groupby(jobs, key=lambda job: job.source)]
        for start in range(0, len(by_source), SOURCES_TOGETHER):
            together = by_source[start : start + SOURCES_TOGETHER]
            inputs = {
                group[0].source: _Input(
                    partial(reopened, group[0].source), self.translator, is_kept=len(group) > 1
                )
                for group in together
            }
            results: dict[Job, dict[str, Any]] = {}
            for domain in self.request.domains:
                of_domain = [job for group in together for job in group if job.domain == domain]
                self._render_all(domain, of_domain, inputs, results)
            ordered = (job for group in together for job in group)
            self.batch.results += [results[job] for job in ordered if job in results]

    def _render_all(
        self,
        domain: str,
        jobs: Sequence[Job],
        inputs: Mapping[str, _Input],
        results: dict[Job, dict[str, Any]],
    ) -> None:
        """Render inputs for a target; they share the decoder's batches."""
        jobs = [job for job in jobs if not inputs[job.source].is_broken]
        waveforms = self.translator.decode_all(
            [inputs[job.source].latents() for job in jobs],
            to=domain,
            seed=self.request.seed,
            options=self.options,
        )
        with closing(waveforms):
            for job, waveform in zip(jobs, waveforms, strict=True):
                source = inputs[job.source]
                try:
                    results[job] = self._render(job, source, waveform)
                except Exception as error:
                    if not is_item_failure(error):
                        raise
                    is_whole = source.is_broken or not source.is_kept
                    self.batch.fail(job.source if is_whole else str(job), error)

    def _render(
        self, job: Job, source: _Input, waveform: Iterator[NDArray[np.float32]]
    ) -> dict[str, Any]:
        """Write one result; return what there is to say about it."""
        from core.audio.levels import guard_peaks

        first = list(islice(waveform, 1))  # now the source is open
        result: dict[str, Any] = {"source": job.source, "domain": job.domain}
        result |= {"output": str(job.destination), "gain_db": source.gain_db, "peak_gain_db": 0.0}

        def report_peaks(gain_db: float) -> None:
            result["peak_gain_db"] = gain_db
            where = "output" if job.destination.path is None else job.destination
            self.env.notice(f"{where}: peaks above full scale; lowered by {-gain_db:.1f} dB")

        blocks = guard_peaks(chain(first, waveform), self.translator.sample_rate, report_peaks)
        provenance = self._provenance(source, job)
        result["seconds"] = self._write(blocks, source.n_frames, provenance, job.destination)
        if job.destination.path is not None:
            self.env.notice(f"wrote {job.destination}")
        return result

    def _provenance(self, source: _Input, job: Job) -> Provenance:
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
            source_sha256=source.sha256,
        )

    def _write(
        self,
        blocks: Iterator[NDArray[np.float32]],
        n_frames: int | None,
        provenance: Provenance,
        destination: Destination,
    ) -> float:
        """Write a result, each block at once; return its length in seconds."""
        from core.audio.writer import open_writer, output_format

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
