"""The run that `encode`, `decode` and `translate` share: plan, check, load, work, report.

Everything that can be checked is checked before a model's weights are loaded: names first
(wrong usage), then each input and each place to write (that item fails, the others go on).
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from core.errors import UsageError, input_label
from umtcli.console import Progress
from umtcli.models import check_device, choose_model, load_translator
from umtcli.outputs import Destination, check_destination, plan_destinations, result_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core.model_file import FoundModel, ModelHeader
    from core.translator import Translator
    from umtcli.console import Environment
    from umtcli.errors import Batch
    from umtcli.inputs import Source


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        command: The command's name.
        sources: The inputs.
        open_source: Opens one of them.
        to: Target domains; None alone for results that have no domain.
        template: Names of result files, see `result_name`.
        is_named: Whether the user gave that template.
        output: The user's -o.
        is_directory: Whether -o can only mean a directory.
        check_name: Raises UsageError for a file name that results cannot have; None if any
            will do.
        model: The user's -m.
        device: The user's --device.
        seed: The user's --seed.
        force: Whether existing files are replaced.
        is_json: Whether stdout gets a description of the results.
        is_live: Whether the result is heard while the input comes in.
    """

    command: str
    sources: Sequence[str]
    open_source: Callable[[str], Source]
    to: Sequence[str | None]
    template: str
    is_named: bool
    output: str | None
    is_directory: bool
    check_name: Callable[[Path], object] | None
    model: str | None
    device: str
    seed: int
    force: bool
    is_json: bool
    is_live: bool = False

    @property
    def domains(self) -> list[str]:
        """The target domains, none of them None."""
        return [domain for domain in self.to if domain is not None]


@dataclass(frozen=True)
class Job:
    """One result: a source, its target domain if it has one, and where it goes."""

    source: str
    domain: str | None
    destination: Destination

    def __str__(self) -> str:
        label = input_label(self.source)
        return f"{label} to {self.domain}" if self.domain else label


class Worker(Protocol):
    """Makes results with a loaded model."""

    def work(self, jobs: Sequence[Job], reopened: Callable[[str], Source]) -> None:
        """Make results; what fails is reported, and spoils no other.

        Args:
            jobs: What to make, those of one source side by side.
            reopened: Opens a source by its name.
        """


def run_all(
    batch: Batch,
    request: Request,
    start: Callable[[Translator, FoundModel, Progress], Worker],
) -> None:
    """Make every result that was asked for.

    Args:
        batch: Takes results and failures.
        request: What the user asked for.
        start: Makes the worker once the model is loaded.

    Raises:
        UsageError: Nothing of this can be done as asked.
        typer.Exit: Some results failed.
    """
    check_device(request.device)
    jobs = _plan(batch.env, request)
    found, header = choose_model(batch.env, request.model, request.domains)
    with ExitStack() as streams:
        screening = _Screening(batch, request, found, header, streams)
        jobs = screening.passed(jobs)
        if jobs:
            translator = load_translator(found, request.domains, request.device)
            if request.is_live:
                from core.translator import LIVE_WINDOW_SECONDS

                translator.window_seconds = LIVE_WINDOW_SECONDS
            label = request.command.removesuffix("e") + "ing"
            with Progress(batch.env, label, screening.total_seconds(jobs)) as progress:
                start(translator, found, progress).work(jobs, screening.reopened)
    model = {"name": found.name, "id": header.id, "path": str(found.path)}
    batch.finish(request.command, is_json=request.is_json, model=model)


def _plan(env: Environment, request: Request) -> list[Job]:
    pairs = [(source, domain) for source in request.sources for domain in request.to]
    names = [
        result_name(request.template, source, domain=domain, seed=request.seed)
        for source, domain in pairs
    ]
    destinations = plan_destinations(
        env,
        names,
        output=request.output,
        is_json=request.is_json,
        is_directory=request.is_directory or request.is_named,
    )
    if request.is_named and any(destination.path is None for destination in destinations):
        raise UsageError("--name is for files, but the result goes to stdout; add -o DIR")
    for destination in destinations:
        if request.check_name and destination.path and not destination.is_device:
            request.check_name(destination.path)
    return [Job(*pair, destination) for pair, destination in zip(pairs, destinations, strict=True)]


@dataclass(frozen=True)
class _Screening:
    """The checks before the weights are loaded; keeps the streams that open only once."""

    batch: Batch
    request: Request
    found: FoundModel
    header: ModelHeader
    streams: ExitStack
    opened: dict[str, Source] = dataclasses.field(default_factory=dict)
    lengths: dict[str, float | None] = dataclasses.field(default_factory=dict)

    def passed(self, jobs: list[Job]) -> list[Job]:
        """Return the jobs whose source and destination are in order."""
        usable: list[Job] = []
        for name, group in groupby(jobs, key=lambda job: job.source):
            writable = [job for job in group if self._is_writable(job)]
            with self.batch.item(name):
                if writable:
                    self._check_source(name)
                    usable += writable
        return usable

    def _is_writable(self, job: Job) -> bool:
        with self.batch.item(str(job)):
            check_destination(job.destination, force=self.request.force)
            return True
        return False

    def _check_source(self, name: str) -> None:
        source = self.request.open_source(name)
        with ExitStack() as stack:
            stack.enter_context(source)
            self.lengths[name] = source.check(self.found, self.header)
            if source.path is None:
                self.opened[name] = source
                self.streams.push(stack.pop_all())

    def reopened(self, name: str) -> Source:
        """Return a source that passed."""
        return self.opened.get(name) or self.request.open_source(name)

    def total_seconds(self, jobs: list[Job]) -> float | None:
        """Return the length of all results together if it is known."""
        lengths = [self.lengths[job.source] for job in jobs]
        return None if None in lengths else sum(filter(None, lengths))
