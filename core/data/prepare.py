"""Turn directories of recordings into prepared domains: the work of `umt prep`.

In: one directory a domain, with any audio, at any depth. Out: `DATA/NAME/domain.json` beside one
memory-mappable `.npy` (mono, int16) a recording, and a log. Segments, batches and augmentation
are made from these later, in training (`core.data.dataset`).
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core.audio.formats import find_audio
from core.cores import usable_cores
from core.data.domain import (
    DOMAIN_FILE,
    MAX_SAMPLE_RATE,
    WRITE_LOCK,
    cannot_write,
    check_domain_name,
    directory_name,
    is_disk_full,
    read_domain_file,
)
from core.data.musicnet import musicnet_collections
from core.data.split import normalise_shares
from core.data.sync import Collection, DomainSync, PrepLog
from core.errors import DataError, UsageError
from core.files import exclusive_lock

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PREPARED_SAMPLE_RATE = 44100  # Hz
SAMPLE_RATES = range(1000, MAX_SAMPLE_RATE + 1)  # Hz
DEFAULT_SPLIT = (0.8, 0.1, 0.1)
WINDOWS_FILES = 512  # that its C library opens at once, unless it is asked for more
FILES_OF_PROGRAM, FILES_OF_JOB = 16, 8  # open at once, at most


def _no_progress(label: str, n_done: int, n_total: int) -> None:
    """No-op progress, for callers that show none."""


def prepare(
    directories: Sequence[Path],
    *,
    data: Path,
    name: str | None = None,
    sample_rate: int = PREPARED_SAMPLE_RATE,
    jobs: int | None = None,
    split: tuple[float, float, float] = DEFAULT_SPLIT,
    progress: Callable[[str, int, int], None] = _no_progress,
) -> PrepLog:
    """Prepare one domain from each directory, or bring it up to date.

    Args:
        directories: One a domain, named after it; searched at any depth.
        data: Where the domains' directories are.
        name: The domain's name, for a single directory.
        sample_rate: To store at, in Hz. A domain keeps the rate that it was made with.
        jobs: How many recordings to convert at once, each in a thread; None for as many as
            this process may use cores.
        split: Shares of train, validation and test, in any unit. Only new tracks are
            affected: the others keep their assignment.
        progress: Called in this thread with what is being done ("converting piano"), how
            much of it is done, and how much there is: bytes of recordings, or scores.

    Returns:
        What was done. Recordings and directories that could not be used are in its failures,
        and so are domains that are damaged, have another rate, or cannot be written.

    Raises:
        UsageError: A directory is missing, two domains would have one name, or an option is
            out of range. Nothing was changed.
        DataError: The working directory was removed.
    """
    if not directories:
        raise UsageError("no directory to prepare; name one for each domain")
    if name is not None and len(directories) > 1:
        raise UsageError(f"--name goes with one directory, {len(directories)} were given")
    roots = _name_domains(directories, name)
    log = PrepLog()
    collections = [_collect(domain, root, log) for domain, root in roots.items()]
    return _prepare_collections(
        [collection for collection in collections if collection.files],
        log,
        data=data,
        sample_rate=sample_rate,
        jobs=jobs,
        split=split,
        progress=progress,
    )


def prepare_musicnet(
    root: Path,
    *,
    data: Path,
    sample_rate: int = PREPARED_SAMPLE_RATE,
    jobs: int | None = None,
    split: tuple[float, float, float] = DEFAULT_SPLIT,
    progress: Callable[[str, int, int], None] = _no_progress,
) -> PrepLog:
    """Prepare the paper's six domains from an unpacked MusicNet.

    Args:
        root: Holds `musicnet_metadata.csv`, and `train_data` and `test_data` (or a directory
            `musicnet` with these two).
        data: As for `prepare`, like the other arguments.
        sample_rate: Hz.
        jobs: Threads.
        split: Shares; MusicNet's own division is for transcription and is not used.
        progress: As for `prepare`.

    Returns:
        What was done. Recordings that the table lists but that are missing are failures.

    Raises:
        UsageError: The directory is missing.
        DataError: It is no MusicNet, or the working directory was removed.
    """
    _check_is_directory(root)
    log = PrepLog()
    return _prepare_collections(
        musicnet_collections(root, log),
        log,
        data=data,
        sample_rate=sample_rate,
        jobs=jobs,
        split=split,
        progress=progress,
    )


def _prepare_collections(
    collections: list[Collection],
    log: PrepLog,
    *,
    data: Path,
    sample_rate: int,
    jobs: int | None,
    split: tuple[float, float, float],
    progress: Callable[[str, int, int], None],
) -> PrepLog:
    shares = normalise_shares(split)
    if not data.is_absolute():
        _check_working_directory()
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: 1 or more is accepted")
    if sample_rate not in SAMPLE_RATES:
        accepted = f"{SAMPLE_RATES.start} to {SAMPLE_RATES.stop - 1}"
        raise UsageError(f"--rate {sample_rate}: {accepted} Hz are accepted")
    for collection in collections:
        try:
            directory = _directory_of(data, collection.name)
            _check_rate(directory, sample_rate)
            with _domain_directory(directory):
                DomainSync(
                    collection,
                    directory,
                    sample_rate=sample_rate,
                    shares=shares,
                    jobs=_n_threads(jobs),
                    log=log,
                    progress=progress,
                ).run()
        except DataError as error:
            log.failures.append((str(collection.root), str(error)))
            if is_disk_full(error):
                break  # the next ones would be read for nothing
        except OSError as error:  # in looking at what is there
            log.failures.append((str(error.filename or collection.root), str(error.strerror)))
    return log


def _n_threads(jobs: int | None) -> int:
    """Return how many recordings to convert at once."""
    limit = WINDOWS_FILES if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    free_files = limit - FILES_OF_PROGRAM
    return max(1, min(jobs or usable_cores(), free_files // FILES_OF_JOB))


def _directory_of(data: Path, name: str) -> Path:
    """Return a domain's directory, which may be there with its name's accents decomposed."""
    composed = data / name
    if composed.exists() or name.isascii() or not data.is_dir():
        return composed
    return next((found for found in data.iterdir() if directory_name(found) == name), composed)


@contextmanager
def _domain_directory(directory: Path) -> Iterator[None]:
    """Keep a domain's directory for this process; two at once would undo each other's work.

    The directory is made where it is missing, and removed where nothing was stored in it.

    Raises:
        DataError: It cannot be made, or another process holds it.
    """
    missing = [path for path in (directory, directory.parent) if not path.exists()]
    busy = DataError(
        f"another umt prep is at work in {directory}; run this again when it has ended"
    )
    with ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(exclusive_lock(directory / WRITE_LOCK, busy))
        except OSError as error:
            raise cannot_write(directory, error) from error
        try:
            yield
        finally:
            with suppress(OSError):
                if [entry.name for entry in directory.iterdir()] == [WRITE_LOCK]:
                    (directory / WRITE_LOCK).unlink()
            for path in missing:
                with suppress(OSError):  # what holds something stays
                    path.rmdir()


def _name_domains(directories: Sequence[Path], name: str | None) -> dict[str, Path]:
    """Return each domain's directory, after checking that all can be prepared together."""
    roots: dict[str, Path] = {}
    taken: dict[str, Path] = {}
    for root in map(Path, directories):
        _check_is_directory(root)
        domain = check_domain_name(directory_name(root) if name is None else name)
        key = domain.casefold()  # on some systems "Bach" and "bach" are one directory
        if key in taken:
            raise UsageError(
                f"{taken[key]} and {root} would both be the domain {domain!r}; prepare them "
                "one by one with --name"
            )
        taken[key] = roots[domain] = root
    return roots


def _collect(domain: str, root: Path, log: PrepLog) -> Collection:
    skipped = []

    def skip(directory: Path, error: OSError) -> None:
        skipped.append((str(directory), f"cannot be listed: {error.strerror}"))

    files = tuple(find_audio([root], skip=skip))
    log.failures.extend(skipped)
    if not files and not skipped:
        log.failures.append(
            (str(root), "holds no audio (.wav, .flac, .ogg, .mp3 …), also not further down")
        )
    return Collection(domain, root, files)


def _check_working_directory() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise DataError(
            "the working directory was removed; change to another one, or give absolute paths"
        ) from None


def _check_is_directory(root: Path) -> None:
    if not root.is_absolute():
        _check_working_directory()
    if not root.exists():
        raise UsageError(f"{root} does not exist; name the directory that holds the recordings")
    if not root.is_dir():
        raise UsageError(f"{root} is a file; name the directory that holds it")


def _check_rate(directory: Path, sample_rate: int) -> None:
    if not (directory / DOMAIN_FILE).exists():
        return
    present = read_domain_file(directory).sample_rate
    if present != sample_rate:
        raise DataError(
            f"{directory} was prepared at {present} Hz, not {sample_rate}; use --rate {present}, "
            f"another --out, or delete {directory} to make it anew"
        )
