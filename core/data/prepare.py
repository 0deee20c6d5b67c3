"""Turn directories of recordings into prepared domains: the work of `umt prep`.

In: one directory a domain, with any audio, at any depth. Out: `DATA/NAME/domain.json` beside one
memory-mappable `.npy` (mono, int16) a recording, and a report. Segments, batches and
augmentation are made from these later, by the training side.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core.audio.reader import find_audio
from core.data.domain import (
    DOMAIN_FILE,
    SPLITS,
    check_domain_name,
    directory_name,
    read_domain_file,
)
from core.data.musicnet import musicnet_collections
from core.data.recordings import Collection
from core.data.report import Happenings, PreparedDomain, PrepReport
from core.data.split import normalise_shares
from core.data.sync import DomainUpdate
from core.data.workers import Workers
from core.errors import AudioError, DataError, UsageError
from core.files import exclusive_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "DEFAULT_SPLIT",
    "PREPARED_SAMPLE_RATE",
    "SPLITS",
    "PrepReport",
    "PreparedDomain",
    "prepare",
    "prepare_musicnet",
]

PREPARED_SAMPLE_RATE = 44100  # Hz
LOCK_FILE = ".lock"  # in a domain's directory, held by the command that changes it
SAMPLE_RATES = range(1000, 384001)  # Hz
DEFAULT_SPLIT = (0.8, 0.1, 0.1)


def _show_nothing(domain: str, n_done: int, n_total: int) -> None:
    """Stand in for a progress bar."""


def prepare(
    directories: Sequence[Path],
    *,
    data: Path,
    name: str | None = None,
    sample_rate: int = PREPARED_SAMPLE_RATE,
    jobs: int = 1,
    split: tuple[float, float, float] = DEFAULT_SPLIT,
    progress: Callable[[str, int, int], None] = _show_nothing,
) -> PrepReport:
    """Prepare one domain from each directory, or bring it up to date.

    Args:
        directories: One a domain, named after it; searched at any depth.
        data: Where the domains' folders are.
        name: The domain's name, for a single directory.
        sample_rate: To store at, in Hz. A domain keeps the rate that it was made with.
        jobs: How many recordings to convert at once, each in a process.
        split: Shares of train, validation and test, in any unit. Only new tracks are
            affected: the others keep their assignment.
        progress: Called in this process with the domain, how many of its recordings are
            done, and how many there are to read.

    Returns:
        What was done. Recordings and directories that could not be used are in its failures.

    Raises:
        UsageError: A directory is missing, two domains would have one name, or an option is
            out of range. Nothing was changed.
        DataError: A domain that exists is damaged or has another rate (nothing was changed);
            or the data folder cannot be written.
    """
    if not directories:
        raise UsageError("no directory to prepare; name one for each domain")
    if name is not None and len(directories) > 1:
        raise UsageError(f"--name goes with one directory, {len(directories)} were given")
    roots = _name_domains(directories, name)
    happenings = Happenings()
    collections = [_collect(domain, root, happenings) for domain, root in roots.items()]
    return _prepare_collections(
        [collection for collection in collections if collection.files],
        happenings,
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
    jobs: int = 1,
    split: tuple[float, float, float] = DEFAULT_SPLIT,
    progress: Callable[[str, int, int], None] = _show_nothing,
) -> PrepReport:
    """Prepare the paper's six domains from an unpacked MusicNet.

    Args:
        root: Holds `musicnet_metadata.csv`, and `train_data` and `test_data` (or a folder
            `musicnet` with these two).
        data: As for `prepare`, like the other arguments.
        sample_rate: Hz.
        jobs: Processes.
        split: Shares; MusicNet's own division is for transcription and is not used.
        progress: Called with domain, done, total.

    Returns:
        What was done. Recordings that the table lists but that are missing are failures.

    Raises:
        UsageError: The directory is missing.
        DataError: It is no MusicNet; or as for `prepare`.
    """
    _check_is_directory(root)
    happenings = Happenings()
    return _prepare_collections(
        musicnet_collections(root, happenings),
        happenings,
        data=data,
        sample_rate=sample_rate,
        jobs=jobs,
        split=split,
        progress=progress,
    )


def _prepare_collections(
    collections: list[Collection],
    happenings: Happenings,
    *,
    data: Path,
    sample_rate: int,
    jobs: int,
    split: tuple[float, float, float],
    progress: Callable[[str, int, int], None],
) -> PrepReport:
    shares = normalise_shares(split)
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: 1 or more is accepted")
    if sample_rate not in SAMPLE_RATES:
        accepted = f"{SAMPLE_RATES.start} to {SAMPLE_RATES.stop - 1}"
        raise UsageError(f"--rate {sample_rate}: {accepted} Hz are accepted")
    for collection in collections:
        _check_rate(data / collection.name, sample_rate)
    prepared = []
    with Workers(jobs) as workers:
        for collection in collections:
            with _domain_directory(data / collection.name):
                update = DomainUpdate(
                    collection,
                    data / collection.name,
                    sample_rate=sample_rate,
                    shares=shares,
                    happenings=happenings,
                    progress=progress,
                )
                domain = update.run(workers)
            if domain is not None:
                prepared.append(PreparedDomain(domain, update.n_converted, update.n_dropped))
    return PrepReport(
        tuple(prepared),
        tuple(happenings.notices),
        tuple(happenings.warnings),
        tuple(happenings.failures),
    )


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
            stack.enter_context(exclusive_lock(directory / LOCK_FILE, busy))
        except OSError as error:
            raise DataError(
                f"cannot make {directory}: {error.strerror}; choose another --out"
            ) from error
        try:
            yield
        finally:
            if [entry.name for entry in directory.iterdir()] == [LOCK_FILE]:
                (directory / LOCK_FILE).unlink()
            for path in missing:
                with suppress(OSError):  # what holds something stays
                    path.rmdir()


def _name_domains(directories: Sequence[Path], name: str | None) -> dict[str, Path]:
    """Return each domain's directory, after checking that all can be prepared together."""
    roots: dict[str, Path] = {}
    folders: dict[str, Path] = {}
    for root in map(Path, directories):
        _check_is_directory(root)
        domain = check_domain_name(directory_name(root) if name is None else name)
        folder = domain.casefold()  # on some systems "Bach" and "bach" are one folder
        if folder in folders:
            raise UsageError(
                f"{folders[folder]} and {root} would both be the domain {domain!r}; prepare them "
                "one by one with --name"
            )
        folders[folder] = roots[domain] = root
    return roots


def _collect(domain: str, root: Path, happenings: Happenings) -> Collection:
    try:
        files = tuple(find_audio([root]))
    except AudioError as error:
        happenings.failures.append((str(root), str(error).removeprefix(f"{root}: ")))
        return Collection(domain, root, ())
    if not files:
        happenings.failures.append(
            (str(root), "holds no audio (.wav, .flac, .ogg, .mp3 …), also not further down")
        )
    return Collection(domain, root, files)


def _check_is_directory(root: Path) -> None:
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
