"""The run that `encode`, `decode` and `translate` share, from names to the report.

In this order: the names of results (wrong usage ends here), the model, every input and every
place to write (one that is no good fails, and the others go on), the weights, the work, the
report. Inputs are opened once; each is encoded once, however many targets it has. Of several
processes the first one names the results and chooses the model, and each makes those of its inputs.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import core
from core.errors import LatentsError, ModelError, UsageError
from umtcli.console import Progress
from umtcli.errors import is_item_failure
from umtcli.models import check_device, choose_model, load_translator
from umtcli.outputs import (
    Destination,
    check_destination,
    name_results,
    open_destination,
    plan_destinations,
)
from umtcli.processes import Processes, share_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from core.audio.loudness import LevelMatching
    from core.audio.provenance import Provenance
    from core.audio.reader import AudioInput
    from core.audio.tags import Tags
    from core.audio.wav import Bits
    from core.latents import LatentsInput
    from core.model_file import FoundModel, ModelHeader
    from core.streaming import Transposition
    from core.streams import AudioStream, LatentStream
    from core.translator import Translator
    from umtcli.console import Environment
    from umtcli.errors import ItemResults
    from umtcli.inputs import Input

    Opened = AudioInput | LatentsInput

AUDIO_NAME = "{stem}.{domain}.wav"
ALL = "all"  # of --to: every domain of the model
LATENTS_NAME = "{stem}.npy"
INPUTS_TOGETHER = 100  # with several targets, the latents of so many are kept at once
SMALLEST_CUT_DB = 0.05  # of peaks: less is written as 0.0 dB


@dataclass(frozen=True)
class Request:
    """What the user typed.

    Attributes:
        command: The command's name.
        find_inputs: Returns what to read.
        open_input: Opens one of them by its name.
        to: Targets (see `core.model_file.parse_target`), or `ALL`; empty for latents.
        name: The user's --name.
        output: The user's -o.
        model: The user's -m.
        device: The user's --device.
        seed: The user's --seed.
        force: Whether existing files are replaced.
        is_json: Whether stdout gets a description of the results.
        is_live: Whether the result is heard while the input comes in.
        start_seconds: Where in the inputs the part that is used begins.
        seconds: Length of that part; None for all.
        rate: The user's --rate; None for the model's.
        bits: The user's --bits; None for the format's usual ones.
        mix: The user's --mix.
        keep_drums: The user's --keep-drums.
        drop_drums: The user's --drop-drums.
        match_level: Not the user's --no-match-level.
        transpose: The user's --transpose.
        keep_octaves: The user's --keep-octaves.
        options: Generation options that the user gave, by name.
    """

    command: str
    find_inputs: Callable[[], list[Input]]
    open_input: Callable[[str], Opened]
    to: Sequence[str]
    output: str | None
    model: str | None
    device: str
    force: bool
    is_json: bool
    name: str | None = None
    seed: int = 0
    is_live: bool = False
    start_seconds: float = 0.0
    seconds: float | None = None
    rate: int | None = None
    bits: Bits | None = None
    mix: float = 1.0
    keep_drums: bool = False
    drop_drums: bool = False
    match_level: bool = True
    transpose: Transposition = 0.0
    keep_octaves: bool = False
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One result: an input, its target domain if it has one, and where it goes."""

    input: Input
    domain: str | None
    destination: Destination

    def __str__(self) -> str:
        return f"{self.input.label} to {self.domain}" if self.domain else self.input.label


@dataclass(frozen=True)
class Plan:
    """What the first process decides for all.

    Attributes:
        tasks: All results.
        shares: Those of each process.
        to: Target domains; empty for latents.
        model: The model, as it was found by the first process.
        model_id: Its id.
    """

    tasks: list[Task]
    shares: list[list[Task]]
    to: Sequence[str]
    model: FoundModel
    model_id: str


@dataclass(frozen=True)
class Source:
    """An opened input and what is to be made of it."""

    input: Input
    opened: Opened
    tasks: list[Task]


def run_all(results: ItemResults, request: Request) -> None:
    """Make every result that was asked for.

    Args:
        results: Takes what is done and what fails.
        request: What the user typed.

    Raises:
        UsageError: Nothing of this can be done as asked.
        typer.Exit: Some results failed.
    """
    processes = Processes()
    plan = processes.agreed(lambda: _plan(results, request, processes.count))
    request = dataclasses.replace(request, to=plan.to)
    found, header = _same_model(plan, processes)
    own = plan.shares[processes.rank]
    with ExitStack() as stack:
        sources, total_seconds = _open_all(results, request, own, (found, header), stack)
        if sources:
            translator = load_translator(found, _domains_of(request.to), request.device)
            label = processes.label(f"{request.command.removesuffix('e')}ing")
            shown = processes.shown(results.env)
            progress = stack.enter_context(Progress(shown, label, total_seconds))
            work = _Work(results, request, translator, found, progress)
            if request.to:
                work.write_audio(sources)
            else:
                work.write_latents(sources)
    order = [name for task in plan.tasks for name in (str(task.destination), str(task))]
    if processes.merge(results, "output", order):
        model = {"name": found.name, "id": header.id, "path": str(found.path)}
        results.finish(request.command, is_json=request.is_json, model=model)


def _plan(results: ItemResults, request: Request, n_processes: int) -> Plan:
    """Find the inputs and the model, name every result, and divide them among processes."""
    check_device(request.device)
    inputs = request.find_inputs()
    shares = share_inputs(inputs, n_processes)
    to = request.to
    if ALL in to:
        found, header = choose_model(
            results.env, request.model, _domains_of([name for name in to if name != ALL])
        )
        to = header.domains
        tasks = _name_tasks(results.env, request, inputs, to)
    else:
        tasks = _name_tasks(results.env, request, inputs, to)
        found, header = choose_model(results.env, request.model, _domains_of(to))
    n_targets = len(to) or 1
    return Plan(
        tasks=tasks,
        shares=[
            [task for i in share for task in tasks[i * n_targets : (i + 1) * n_targets]]
            for share in shares
        ],
        to=to,
        model=found,
        model_id=header.id,
    )


def _domains_of(targets: Sequence[str]) -> list[str]:
    """Return the domains that targets consist of, each once."""
    from core.model_file import parse_target

    return list(dict.fromkeys(name for target in targets for name in parse_target(target)))


def _same_model(plan: Plan, processes: Processes) -> tuple[FoundModel, ModelHeader]:
    """Return the model that the first process has chosen, as it is on this machine.

    Raises:
        UsageError: It is not there.
        ModelError: It is damaged, or another one.
    """
    from core.model_file import locate_model, read_header

    found = plan.model if processes.is_first else locate_model(plan.model.name)
    header = read_header(found.path)
    if header.id != plan.model_id:
        raise ModelError(
            f"{found.name}: another model ({header.id}) than that of the first process "
            f"({plan.model_id}); give all machines the same file"
        )
    return found, header


def _name_tasks(
    env: Environment, request: Request, inputs: Sequence[Input], to: Sequence[str]
) -> list[Task]:
    """Name every result, and find a place for it."""
    from core.audio.writer import output_format
    from core.model_file import target_name

    targets: Sequence[str | None] = to or [None]
    items = [(own, target) for own in inputs for target in targets]
    named = [(own, None if target is None else target_name(target)) for own, target in items]
    template = request.name
    if template is None:
        template = AUDIO_NAME if to else LATENTS_NAME
    is_given = request.name is not None
    destinations = plan_destinations(
        env,
        name_results(named, template, seed=request.seed, is_given=is_given),
        output=request.output,
        is_json=request.is_json,
        is_directory=is_given or any(own.directory for own in inputs),
    )
    if is_given and any(destination.path is None for destination in destinations):
        raise UsageError("--name is for files, but the result goes to stdout; add -o DIR")
    for destination in destinations:
        if to and destination.path and not destination.is_device:
            output_format(destination.path, rate=request.rate, bits=request.bits)
    return [Task(*item, place) for item, place in zip(items, destinations, strict=True)]


def _open_all(
    results: ItemResults,
    request: Request,
    tasks: list[Task],
    model: tuple[FoundModel, ModelHeader],
    stack: ExitStack,
) -> tuple[list[Source], float | None]:
    """Check every place to write and open every input, before the weights are loaded.

    Returns:
        What can be worked on, and the length of all results together if it is known.
    """
    sources: list[Source] = []
    lengths: list[float | None] = []
    for own, group in groupby(tasks, key=lambda task: task.input):
        writable: list[Task] = []
        for task in group:
            with results.item(str(task)):
                check_destination(task.destination, force=request.force)
                writable.append(task)
        if writable:
            with results.item(own.name):
                opened = request.open_input(own.name)
                stack.callback(opened.close)
                lengths += [_check_input(opened, own, *model)] * len(writable)
                sources.append(Source(own, opened, writable))
    return sources, None if None in lengths else sum(filter(None, lengths))


def _check_input(
    opened: Opened, own: Input, found: FoundModel, header: ModelHeader
) -> float | None:
    """Check that the model can use an input; return its length in seconds if known."""
    from core.latents import LatentsInput

    if not isinstance(opened, LatentsInput):
        return None if opened.n_samples is None else opened.n_samples / opened.sample_rate
    if opened.latent_dim != header.latent_dim:
        raise LatentsError(
            f"{own.label}: {opened.latent_dim} values a frame, model {found.name} has "
            f"{header.latent_dim}; name the model that encoded it with -m"
        )
    return opened.n_frames * header.hop_length / header.sample_rate


class _Work:
    """Makes results with a loaded model; what fails is reported, and spoils no other."""

    def __init__(
        self,
        results: ItemResults,
        request: Request,
        translator: Translator,
        found: FoundModel,
        progress: Progress,
    ) -> None:
        self.results = results
        self.env = results.env
        self.request = request
        self.translator = translator
        self.found = found
        self.progress = progress
        self.options = translator.generation_options(
            {**request.options, "is_live": request.is_live}
        )
        self._tags: dict[Input, Tags] = {}

    def write_latents(self, sources: list[Source]) -> None:
        """Encode each source, which has one task, and write the latents."""
        from core.latents import LatentStore, write_latent_blocks

        for source in sources:
            (task,) = source.tasks
            with (
                self.results.item(source.input.name),
                LatentStore(self.translator.latent_dim) as store,
            ):
                stream = self._stream(source)
                kept = store.keep(self._counted(stream.blocks, self.translator.latent_rate))
                # Only now: the header of an array states its length.
                with open_destination(self.env, task.destination, force=self.request.force) as file:
                    write_latent_blocks(file, kept.channels(), kept.shape)
                self._report(
                    task,
                    {
                        "source": source.input.name,
                        "output": str(task.destination),
                        "gain_db": stream.gain_db,
                        "shape": list(kept.shape),
                    },
                )

    def write_audio(self, sources: list[Source]) -> None:
        """Render a number of sources at a time, for one target after the other."""
        if len(self.request.to) == 1:
            self._render(
                [(source.tasks[0], self._stream(source)) for source in sources],
                self.request.to[0],
            )
            return
        from core.latents import LatentStore

        for start in range(0, len(sources), INPUTS_TOGETHER):
            with LatentStore(self.translator.latent_dim) as store:
                kept = []
                for source in sources[start : start + INPUTS_TOGETHER]:
                    with self.results.item(source.input.name):
                        stream = self._stream(source)
                        kept.append((source, stream, store.keep(stream.blocks)))
                n_before = len(self.results.results)
                for domain in self.request.to:
                    self._render(
                        [
                            (task, dataclasses.replace(stream, blocks=latents.blocks()))
                            for source, stream, latents in kept
                            for task in source.tasks
                            if task.domain == domain
                        ],
                        domain,
                    )
                # Listed by input, though made by target.
                order = [source.input.name for source, *_ in kept]
                self.results.results[n_before:] = sorted(
                    self.results.results[n_before:],
                    key=lambda result: order.index(result["source"]),
                )

    def _stream(self, source: Source) -> LatentStream:
        """Return the latents of a source, made as they are taken."""
        from core.latents import LatentsInput
        from core.streams import LatentStream

        opened = source.opened
        if isinstance(opened, LatentsInput):
            n_samples = opened.n_frames * self.translator.hop_length
            rate = self.translator.sample_rate
            n_channels = 2 if opened.is_stereo else 1
            return LatentStream(opened.blocks(), rate, n_samples, n_samples, n_channels=n_channels)
        self._tags[source.input] = opened.tags
        stream = self.translator.encode_stream(
            opened,
            is_live=self.request.is_live,
            drop_drums=self.request.drop_drums or self.request.keep_drums,
        )

        def with_notice(blocks: Iterator[Any]) -> Iterator[Any]:
            for index, block in enumerate(blocks):
                if index == 0 and stream.gain_db:
                    self.env.notice(
                        f"{source.input.label} is quiet: raised by {stream.gain_db:.1f} dB to the "
                        "level the model was trained at"
                    )
                yield block

        stream.blocks = with_notice(stream.blocks)
        return stream

    def _render(self, work: list[tuple[Task, LatentStream]], domain: str) -> None:
        """Decode and write streams of latents; those of one domain may share batches."""
        audios = self.translator.decode_streams(
            [stream for _, stream in work],
            to=domain,
            seed=self.request.seed,
            options=self.options,
            sample_rate=self.request.rate,
            mix=self.request.mix,
            keep_drums=self.request.keep_drums,
            match_level=self._level_matching([task for task, _ in work]),
            transpose=self.request.transpose,
            keep_octaves=self.request.keep_octaves,
        )
        with closing(audios):
            for (task, _), audio in zip(work, audios, strict=True):
                try:
                    self._write(task, audio)
                except Exception as error:
                    if not is_item_failure(error):
                        raise
                    is_only = len(self.request.to) == 1
                    self.results.fail(task.input.name if is_only else str(task), error)

    def _level_matching(self, tasks: list[Task]) -> LevelMatching:
        """Return how levels are matched: who listens to a pipe does not wait for its end."""
        if not self.request.match_level:
            return "off"
        from core.audio.writer import can_seek

        def is_stream(place: Destination) -> bool:
            return place.is_device or (place.path is None and not can_seek(self.env.stdout))

        is_heard = self.request.is_live or any(is_stream(task.destination) for task in tasks)
        return "running" if is_heard else "whole"

    def _write(self, task: Task, audio: AudioStream) -> None:
        """Write one result, each block at once."""
        from core.audio.tags import NO_TAGS
        from core.audio.writer import open_writer, output_format

        rate = audio.sample_rate
        # Before the file is opened: now the input is read, and its length and gain are known.
        audio.on_decoded = self.progress.advance
        first = [block for block in [next(audio.blocks, None)] if block is not None]
        path = None if task.destination.is_device else task.destination.path
        if self.request.transpose == "fit":
            self._report_fit(task, audio.latents.transpose)
        with (
            open_destination(self.env, task.destination, force=self.request.force) as stream,
            open_writer(
                stream,
                sample_rate=rate,
                n_channels=audio.n_channels,
                n_samples=audio.n_samples,
                provenance=self._provenance(task, audio),
                tags=self._tags.get(task.input, NO_TAGS),
                format=output_format(path) if path else "wav",
                name=str(path) if path else None,
                bits=self.request.bits,
            ) as writer,
        ):
            for block in chain(first, audio.blocks):
                writer.write(block)
                stream.flush()
            seconds = writer.n_written / rate
        if audio.peak_gain_db <= -SMALLEST_CUT_DB:
            where = "output" if task.destination.path is None else task.destination
            self.env.notice(
                f"{where}: peaks above full scale; lowered by {-audio.peak_gain_db:.1f} dB"
            )
        self._report(
            task,
            {
                "source": task.input.name,
                "domain": task.domain,
                "output": str(task.destination),
                "gain_db": audio.latents.gain_db,
                "transpose": audio.latents.transpose,
                "level_gain_db": audio.level_gain_db,
                "peak_gain_db": audio.peak_gain_db,
                "seconds": seconds,
            },
        )

    def _report_fit(self, task: Task, semitones: float) -> None:
        octaves = round(abs(semitones) / 12)
        plural = "s" if octaves > 1 else ""
        moved = f"{octaves} octave{plural} {'higher' if semitones > 0 else 'lower'}"
        self.env.notice(f"{task.input.label} fits {task.domain} {moved if octaves else 'as it is'}")

    def _report(self, task: Task, result: dict[str, Any]) -> None:
        self.results.results.append(result)
        if task.destination.path is not None:
            self.env.notice(f"wrote {task.destination}")

    def _counted(self, blocks: Iterator[Any], rate: float) -> Iterator[Any]:
        """Pass blocks on, and count them as progress once they are dealt with."""
        for block in blocks:
            yield block
            self.progress.advance(len(block) / rate)

    def _provenance(self, task: Task, audio: AudioStream) -> Provenance:
        from core.audio.provenance import Provenance, changed_settings, file_sha256

        how = changed_settings(
            mix=self.request.mix,
            transpose=audio.latents.transpose,
            keep_octaves=self.request.keep_octaves,
            keep_drums=self.request.keep_drums,
            drop_drums=self.request.drop_drums,
            match_level=self.request.match_level or self.request.command != "translate",
        )
        return Provenance(
            tool=f"umt {core.__version__}",
            model_id=self.translator.id,
            model=self.found.name,
            domain=str(task.domain),
            seed=self.request.seed,
            options=dataclasses.asdict(self.options) | how,
            start_seconds=self.request.start_seconds,
            seconds=self.request.seconds,
            source=task.input.name,
            source_sha256=file_sha256(task.input.name) if task.input.is_file else None,
        )
