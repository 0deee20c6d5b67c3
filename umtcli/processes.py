"""Several processes of one command, as `accelerate launch` starts them: who does what, who reports.

The first process decides what is to be done, so that all of them work on one list, whatever
changes on the disk meanwhile. Each does its share. At the end the first one has all results,
and reports them as a single process would. Nothing is locked and nothing is left on the disk.
"""

from __future__ import annotations

import heapq
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import typer

from core.errors import UsageError
from umtcli.errors import exit_code
from umtcli.inputs import STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from umtcli.console import Environment
    from umtcli.errors import ItemResults
    from umtcli.inputs import Input

T = TypeVar("T")

WAITING_SECONDS = 0.2  # between two looks whether the other processes have come so far
SIZE_OF_NAME = 1  # in bytes: files that cannot be read are shared, too


class Processes:
    """The processes of this command: one, unless a launcher started several.

    Attributes:
        rank: The number of this one.
        count: How many there are.
    """

    def __init__(self) -> None:
        self.rank = 0
        self.count = n_launched()
        self._n_meetings = 0
        if "RANK" in os.environ:
            use_own_cores()
        if self.count > 1:
            from torch import distributed

            # Arrays stay in their processes, so the CPU's backend will do on GPUs, too.
            distributed.init_process_group("gloo")
            self.rank = distributed.get_rank()

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that plans and reports."""
        return self.rank == 0

    def agreed(self, make: Callable[[], T]) -> T:
        """Return what the first process makes; it does so while the others wait.

        Raises:
            Exception: What `make` raises, in the first process.
            typer.Exit: It has raised; in the others, with the exit code that follows.
        """
        if self.count == 1:
            return make()
        from torch import distributed

        made: list[tuple[T | None, int]] = [(None, 0)]
        failure: Exception | None = None
        if self.is_first:
            try:
                made = [(make(), 0)]
            except Exception as error:
                made, failure = [(None, exit_code(error))], error
        self._meet()
        distributed.broadcast_object_list(made)
        if failure is not None:
            raise failure
        value, code = made[0]
        if code:
            raise typer.Exit(code)
        return value  # type: ignore[return-value]

    def gathered(self, value: T) -> list[T]:
        """Return what all processes give, by rank; nothing in any but the first.

        Waits for all to come so far, however long they take.
        """
        if self.count == 1:
            return [value]
        from torch import distributed

        found = [value] * self.count if self.is_first else None
        self._meet()
        distributed.gather_object(value, found)
        return found or []

    def merge(self, results: ItemResults, key: str, order: Sequence[str]) -> bool:
        """Collect results and failures of all processes, in the order of a single process.

        Args:
            results: Those of this process; in the first one, those of all afterwards.
            key: Of a result, where its place in the order is found.
            order: Names of results and of failed items.

        Returns:
            Whether this process is the one that reports them.
        """
        made = self.gathered((results.results, results.failures))
        if self.count > 1 and self.is_first:
            place = {name: index for index, name in reversed(list(enumerate(order)))}
            results.results = sorted(
                (own for done, _ in made for own in done), key=lambda own: place.get(own[key], -1)
            )
            results.failures = sorted(
                (own for _, failed in made for own in failed),
                key=lambda own: place.get(own["item"], -1),
            )
        return self.is_first

    def shown(self, env: Environment) -> Environment:
        """Return the streams for progress, which the first process alone shows."""
        return env if self.is_first else replace(env, is_quiet=True)

    def label(self, doing: str) -> str:
        """Return what progress is called, which is that of one process."""
        return doing if self.count == 1 else f"{doing} (1 of {self.count} processes)"

    def _meet(self) -> None:
        """Wait for all processes, where Ctrl-C can end it: torch's own calls cannot be stopped."""
        from torch import distributed

        assert distributed.group.WORLD is not None
        store = distributed.group.WORLD.get_group_store()
        self._n_meetings += 1
        meeting = f"umt/meeting/{self._n_meetings}"
        store.add(meeting, 1)
        while store.add(meeting, 0) < self.count:
            time.sleep(WAITING_SECONDS)


def n_launched() -> int:
    """Return how many processes a launcher has started for this command, over all machines."""
    # Some clusters set WORLD_SIZE for programs that no launcher has started.
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def launched_rank() -> int:
    """Return the number of this process among those, without waiting for the others."""
    return int(os.environ.get("RANK", "0"))


def reports_failure() -> bool:
    """Tell whether this process reports that the command fails: one of several does.

    That is the first to fail, or, before the processes know each other, the first of a machine.
    """
    if n_launched() == 1:
        return True
    from torch import distributed

    if distributed.group.WORLD is None:
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        # Counts in the store that all processes share.
        return distributed.group.WORLD.get_group_store().add("umt/failed", 1) == 1
    except RuntimeError:  # the first process, which had the store, has failed
        return False


def use_own_cores() -> None:
    """Give torch's threads this process's share of the cores; a launcher would leave it one."""
    import torch

    from core.cores import usable_cores

    torch.set_num_threads(usable_cores())


def share_inputs(inputs: Sequence[Input], n_processes: int) -> list[list[int]]:
    """Divide inputs among processes, so that each has about as many bytes to read.

    Args:
        inputs: The inputs.
        n_processes: How many processes there are.

    Returns:
        The positions of each process's inputs, in their order.

    Raises:
        UsageError: Stdin is one of the inputs of several processes.
    """
    if n_processes > 1 and any(own.name == STREAM for own in inputs):
        raise UsageError(f"stdin cannot be read by {n_processes} processes; name files")
    sizes = [_size(own) for own in inputs]
    shares: list[list[int]] = [[] for _ in range(n_processes)]
    loads = [(0, rank) for rank in range(n_processes)]
    # The largest first, each to the process that has least.
    for index in sorted(range(len(inputs)), key=lambda index: -sizes[index]):
        load, rank = heapq.heappop(loads)
        shares[rank].append(index)
        heapq.heappush(loads, (load + sizes[index] + SIZE_OF_NAME, rank))
    return [sorted(share) for share in shares]


def _size(own: Input) -> int:
    try:
        return os.stat(own.name).st_size  # noqa: PTH116 - a name may be too long for a Path
    except (OSError, ValueError):
        return 0
