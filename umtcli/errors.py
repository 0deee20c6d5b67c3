"""From exceptions to one line on stderr and an exit code; runs that go on past failed items."""

from __future__ import annotations

import errno
import signal
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import typer

from core.errors import (
    UmtError,
    UsageError,
    input_label,
    is_out_of_gpu_memory,
    is_out_of_memory,
)
from umtcli.console import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from umtcli.console import Environment

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_ADVICE = "; free some space, or write elsewhere with -o"
TORCH = {"torch": "2.11.0", "torchaudio": "2.11.0"}  # built for one another; as pyproject.toml
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class ExitCode(IntEnum):
    """How the program ends."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    CLOSED_PIPE = 141
    TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM arrived; raised where the program is, so that temporary files are removed."""


def describe(error: BaseException) -> str:
    """Return what went wrong and what to do about it, for one line on stderr."""
    if isinstance(error, UmtError):
        cause = error.__cause__
        is_full = isinstance(cause, OSError) and cause.errno in DISK_FULL
        return f"{error}{FULL_ADVICE if is_full else ''}"
    if is_out_of_gpu_memory(error):
        return "out of GPU memory; add --device cpu, or close other programs that use the GPU"
    if is_out_of_memory(error):
        return "out of memory; close other programs, or do a part at a time with --seconds"
    if is_torch_broken(error):
        return _torch_advice(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        advice = FULL_ADVICE if error.errno in DISK_FULL else ""
        return f"{place}{error.strerror or error}{advice}"
    return f"unexpected {type(error).__name__}: {error}; run with -v for the traceback"


def is_torch_broken(error: BaseException) -> bool:
    """Return whether torch or torchaudio could not be loaded; they raise errors of many kinds."""
    if isinstance(error, ModuleNotFoundError) and error.name in TORCH:
        return True
    return any(
        frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") in TORCH
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _torch_advice(error: BaseException) -> str:
    """Return which releases of torch and torchaudio belong together and how to get them."""
    found = {name: _version(name) for name in TORCH}
    # pip takes a package of the right version, but of another build, for installed.
    is_other_build = [own.partition("+")[0] for own in found.values()] == list(TORCH.values())
    options = ["--force-reinstall"] * is_other_build
    if found["torch"].endswith("+cpu"):
        options += ["--index-url", CPU_INDEX]
    packages = [f"{name}=={wanted}" for name, wanted in TORCH.items()]
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"{' with '.join(f'{name} {own}' for name, own in found.items())} cannot be loaded; umt "
        f"needs {' with '.join(f'{name} {own}' for name, own in TORCH.items())}: "
        f"pip install {' '.join([*options, *packages])} ({reason})"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def exit_code(error: BaseException) -> int:
    """Return the exit code of a program that ends with this exception."""
    match error:
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case Terminated():
            return ExitCode.TERMINATED
        case BrokenPipeError():
            return ExitCode.CLOSED_PIPE
        case UsageError():
            return ExitCode.USAGE
        case typer.TyperException() | typer.Exit():
            return error.exit_code
        case _:
            return ExitCode.FAILED


def is_item_failure(error: Exception) -> bool:
    """Return whether an exception ends one item of a run and not the whole."""
    if isinstance(error, UsageError | BrokenPipeError) or is_torch_broken(error):
        return False
    return isinstance(error, UmtError | OSError) or is_out_of_memory(error)


@dataclass
class ItemResults:
    """The items of one run: each is done or fails by itself, and the failures are listed.

    Attributes:
        env: Where failures are reported.
        results: Facts about the finished items, for `--json`.
        failures: The failed items and why.
    """

    env: Environment
    results: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)

    @contextmanager
    def item(self, name: str) -> Iterator[None]:
        """Do one item; its failure is reported and kept, and the run goes on."""
        try:
            yield
        except Exception as error:
            if not is_item_failure(error):
                raise
            self.fail(name, error)

    def fail(self, name: str, error: Exception) -> None:
        """Report an item's failure."""
        text = describe(error)
        label = input_label(name)
        show_traceback(self.env, error)
        self.env.error(text if label in text else f"{label}: {text}")
        self.failures.append({"item": label, "error": text})

    def finish(self, command: str, *, is_json: bool, **facts: Any) -> None:
        """End the run: the JSON result, the list of failures, the exit code.

        Raises:
            typer.Exit: Some items failed.
        """
        if is_json:
            content = {**facts, "results": self.results, "failures": self.failures}
            self.env.write_json(command, content)
        if not self.failures:
            return
        if len(self.failures) + len(self.results) > 1:
            names = ", ".join(failure["item"] for failure in self.failures)
            self.env.error(f"{len(self.failures)} failed: {names}")
        raise typer.Exit(ExitCode.FAILED)


def show_traceback(env: Environment, error: BaseException) -> None:
    """Write the traceback to stderr if -v was given."""
    if env.is_verbose:
        lines = "".join(traceback.format_exception(error)).splitlines()
        env.stderr.write("".join(f"{printable(line)}\n" for line in lines))


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into `Terminated` meanwhile; without effect outside the main thread."""

    def terminate(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
