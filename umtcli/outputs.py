"""Where bytes come from and where they go: stdin, pipes, named files, whole or not at all.

The rules are those of the contract: `-` is a stream; a result goes to stdout when that is a
pipe or a file, else to a file named after the input; nothing is overwritten unasked, and a
file appears under its name only when it is complete.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from core.errors import UmtError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from umtcli.console import Environment

STREAM = "-"
NAME_FIELDS = ("stem", "domain", "seed")


@dataclass(frozen=True)
class Destination:
    """Where one result goes.

    Attributes:
        path: The file; None for stdout.
        makes_parents: Whether missing directories above it are made.
    """

    path: Path | None
    makes_parents: bool = False

    def __str__(self) -> str:
        return STREAM if self.path is None else str(self.path)

    @property
    def is_device(self) -> bool:
        """Whether it is there and neither file nor directory: /dev/null, a named pipe."""
        path = self.path
        return path is not None and path.exists() and not path.is_file() and not path.is_dir()


def choose_inputs(env: Environment, given: Sequence[str]) -> list[str]:
    """Return the inputs to read, which is stdin if none were given and something is on it.

    Raises:
        UsageError: Nothing to read, stdin named twice, or stdin is a terminal.
    """
    if not given and env.stdin_kind != "data":
        raise UsageError("no input: name a file, or pipe one in")
    inputs = list(given) or [STREAM]
    if inputs.count(STREAM) > 1:
        raise UsageError("- is named twice, but stdin can be read only once")
    if STREAM in inputs and env.stdin_kind == "terminal":
        raise UsageError("stdin is a terminal; name a file, or pipe one in")
    return inputs


def result_name(template: str, source: str, **fields: object) -> str:
    """Return the name of the file that holds a result, from the name of its input.

    Args:
        template: With some of `NAME_FIELDS` in braces; may lead into subdirectories.
        source: The input as typed.
        **fields: Values of the fields, apart from `stem`.

    Raises:
        UsageError: The template has another field, or makes no file name.
    """
    stem = "stdin" if source == STREAM else Path(source).stem
    try:
        name = template.format(stem=stem, **fields)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = ", ".join(f"{{{field}}}" for field in NAME_FIELDS)
        raise UsageError(f"--name {template!r}: the fields are {known}") from error
    if not Path(name).name or name.endswith("/"):
        raise UsageError(f"--name {template!r} makes no file name; end it as in {{stem}}.wav")
    return name


def plan_destinations(
    env: Environment,
    names: Sequence[str],
    *,
    output: str | None,
    is_json: bool,
    is_directory: bool = False,
) -> list[Destination]:
    """Decide where each result goes.

    Args:
        env: The streams.
        names: The results' file names, should they become files.
        output: The user's -o.
        is_json: Whether stdout is taken by a description of the results.
        is_directory: Whether -o can only mean a directory.

    Raises:
        UsageError: Bytes for a terminal, several results for one stdout or file, or two
            results with one name.
    """
    if output == STREAM and is_json:
        raise UsageError("-o - and --json both need stdout; leave one of them out")
    if output == STREAM and env.stdout_kind == "terminal":
        raise UsageError("not writing bytes to a terminal; add -o FILE, or redirect stdout")
    if output == STREAM or (output is None and not is_json and env.stdout_kind == "data"):
        if len(names) > 1:
            raise UsageError(f"{len(names)} results do not fit into one stdout; add -o DIR")
        return [Destination(None)] * len(names)
    if output is None:
        return _distinct([Path(name) for name in names])
    target = Path(output)
    if is_directory or output.endswith("/") or target.is_dir():
        return _distinct([target / name for name in names])
    if len(names) > 1:
        if target.suffix or target.exists():
            raise UsageError(
                f"{len(names)} results do not fit into one file; {output}/ would be a directory"
            )
        return _distinct([target / name for name in names])
    return [Destination(target)] * len(names)


def _distinct(paths: list[Path]) -> list[Destination]:
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise UsageError(
                f"two results would be called {path}; run them apart, or tell them apart by --name"
            )
        seen.add(path)
    return [Destination(path, makes_parents=True) for path in paths]


def check_destination(destination: Destination, *, force: bool) -> None:
    """Find out, before any work, whether a result can be written to its place.

    Args:
        destination: The place.
        force: Whether an existing file may be replaced.

    Raises:
        UmtError: It cannot, and why.
    """
    path = destination.path
    if path is None or destination.is_device:
        return
    if path.is_dir():
        raise UmtError(f"{path} is a directory; name a file in it")
    if path.is_file() and not force:
        raise UmtError(f"{path} exists; add -f to replace it, or choose another name with -o")
    folder = path.parent
    while destination.makes_parents and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        reason = "is not a directory" if folder.exists() else "does not exist"
        raise UmtError(f"cannot write {path}: {folder} {reason}; choose another place with -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UmtError(f"cannot write {path}: {folder} is not writable; choose another with -o")


@contextmanager
def open_destination(
    env: Environment, destination: Destination, *, force: bool
) -> Iterator[BinaryIO]:
    """Open the place of a result for writing; a file is complete or does not appear at all.

    Yields:
        A binary stream: stdout, a device, or a temporary file beside the final one.

    Raises:
        UmtError: A file of that name has appeared in the meantime.
        OSError: The file system's, naming the final file.
    """
    path = destination.path
    if path is None:
        yield env.stdout
        env.stdout.flush()
        return
    # What a link points to is replaced, not the link.
    target = Path(os.path.realpath(path))
    if destination.is_device:
        with _errors_name(path), path.open("wb") as device:
            yield device
        return
    if destination.makes_parents:
        target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".umt-{os.urandom(4).hex()}.part")
    try:
        with _errors_name(path, part):
            with part.open("xb+") as stream:
                yield stream
            _rename(part, target, force=force)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


@contextmanager
def _errors_name(path: Path, part: Path | None = None) -> Iterator[None]:
    """Make errors of writing name the file that the user asked for."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename not in (None, str(part)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _rename(part: Path, target: Path, *, force: bool) -> None:
    if force:
        part.replace(target)
        return
    try:
        target.hardlink_to(part)  # unlike a rename, it fails if somebody else was quicker
    except FileExistsError as error:
        raise UmtError(f"{target} appeared meanwhile; add -f to replace it") from error
    except OSError:  # a file system without links
        part.replace(target)
