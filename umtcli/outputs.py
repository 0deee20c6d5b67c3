"""Where results go: stdout, or files that are named after their inputs and told apart.

The rules are those of the contract: a result goes to stdout when that is a pipe or a file, else
to a file named after the input; nothing is overwritten unasked, and a file appears under its
name only when it is complete.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from core.errors import UmtError, UsageError
from core.files import atomic_write
from umtcli.inputs import STREAM, Input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from umtcli.console import Environment

NAME_FIELDS = ("stem", "domain", "seed", "folder", "ext")
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")  # to be written to, not replaced


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
        return self.path is not None and _is_device(self.path)


def name_results(
    items: Sequence[tuple[Input, str | None]], template: str, *, seed: int, is_given: bool
) -> list[str]:
    """Return the names of files for results, from the names of their inputs.

    A file found in a directory keeps its place below it. Names that would meet get what tells
    their inputs apart: the directories that differ, else the extension. With the user's own
    template they are left as they are.

    Args:
        items: Inputs, with the domain of the result if it has one.
        template: With some of `NAME_FIELDS` in braces; may lead into subdirectories.
        seed: The user's seed.
        is_given: Whether the template is the user's.

    Raises:
        UsageError: The template has another field, or makes no file name.
    """

    def name(own: Input, place: Path, domain: str | None) -> str:
        folder, extension = _origin(own)
        made = _fill(
            template, stem=place.name, domain=domain, seed=seed, folder=folder, ext=extension
        )
        return made if is_given else str(place.parent / made)

    def rename_meeting(places: Callable[[list[Input]], list[Path]]) -> None:
        meeting: dict[str, list[int]] = defaultdict(list)
        for index, own in enumerate(names):
            meeting[own].append(index)
        for indices in meeting.values():
            if len(indices) > 1:
                found = places([items[index][0] for index in indices])
                for index, place in zip(indices, found, strict=True):
                    names[index] = name(items[index][0], place, items[index][1])

    names = [name(own, _place(own), domain) for own, domain in items]
    if not is_given:
        rename_meeting(_with_directories)
        rename_meeting(lambda own: _with_directories(own, keep_extension=True))
    return names


def _place(own: Input, *, keep_extension: bool = False) -> Path:
    """Return an input's place below the directory that the user named, without extension."""
    if own.name == STREAM:
        return Path("stdin")
    path = Path(own.name)
    below = path.relative_to(own.directory).parent if own.directory else Path()
    return below / (path.name if keep_extension else path.stem)


def _origin(own: Input) -> tuple[str, str]:
    """Return the name of the directory that an input lies in, and its extension without dot."""
    if own.name == STREAM:
        return ".", ""
    path = Path(os.path.abspath(own.name))  # noqa: PTH100 - keeps links
    return path.parent.name or ".", path.suffix.removeprefix(".")


def _with_directories(inputs: list[Input], *, keep_extension: bool = False) -> list[Path]:
    """Return the places of inputs below the directory that all of them share."""
    parents = [
        os.path.abspath(own.directory or os.path.dirname(own.name))  # noqa: PTH100, PTH120 - keeps links
        for own in inputs
        if own.name != STREAM
    ]
    if not parents:
        return [_place(own) for own in inputs]
    shared = os.path.commonpath(parents)
    below = iter(Path(os.path.relpath(parent, shared)) for parent in parents)
    return [
        _place(own)
        if own.name == STREAM
        else next(below) / _place(own, keep_extension=keep_extension)
        for own in inputs
    ]


def _fill(template: str, **fields: object) -> str:
    """Return a template with its fields filled in."""
    try:
        name = template.format(**fields)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
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
    is_stdout = output == STREAM or output in _STDOUT
    if is_stdout and is_json:
        raise UsageError("-o - and --json both need stdout; leave one of them out")
    if is_stdout and env.stdout_kind == "terminal":
        raise UsageError("not writing bytes to a terminal; add -o FILE, or redirect stdout")
    if is_stdout or (output is None and not is_json and env.stdout_kind == "data"):
        if len(names) > 1:
            raise UsageError(f"{len(names)} results do not fit into one stdout; add -o DIR")
        return [Destination(None)] * len(names)
    if output is None:
        return _distinct([Path(name) for name in names])
    target = Path(output)
    if _is_device(target):
        return [Destination(target)] * len(names)
    if is_directory or output.endswith("/") or os.path.isdir(target):
        return _distinct([target / name for name in names])
    if len(names) > 1:
        if target.suffix or os.path.exists(target):
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
    if path is None:
        return
    if destination.is_device:
        if path.is_block_device():
            raise UmtError(f"{path} is a disk; name a file on it")
        return
    if os.path.isdir(path):
        raise UmtError(f"{path} is a directory; name a file in it")
    if os.path.isfile(path) and not force:
        raise UmtError(f"{path} exists; add -f to replace it, or choose another name with -o")
    folder = path.parent
    while destination.makes_parents and not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    if not os.path.isdir(folder):
        reason = "is not a directory" if os.path.exists(folder) else "does not exist"
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
    elif destination.is_device:
        with _errors_name(path), path.open("wb") as device:
            yield device
    else:
        if destination.makes_parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_write(path, overwrite=force) as part, part.open("rb+") as stream:
                yield stream
                stream.flush()
        except FileExistsError as error:
            raise UmtError(f"{path} appeared meanwhile; add -f to replace it") from error


@contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Make errors of writing name the file that the user asked for."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _is_device(path: Path) -> bool:
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
