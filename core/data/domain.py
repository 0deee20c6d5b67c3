"""Prepared domains on disk: `DATA/NAME/domain.json` beside one `.npy` file a track.

In: the directory of a domain. Out: `Domain`, `Track` and `Part` values, checked; and back.
The directory's name is the domain's name. Does not read recordings: see `core.data.prepare`.
"""

from __future__ import annotations

import errno
import json
import unicodedata
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from core.data.samples import check_files
from core.errors import DataError, UsageError
from core.files import atomic_write
from core.parsing import build, parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

SPLITS = ("train", "validation", "test")
DOMAIN_FILE = "domain.json"
WRITE_LOCK = ".write.lock"  # in the directory, held by the command that changes the domain
FORMAT = "umt-domain"
FORMAT_VERSION = 1
MAX_SAMPLE_RATE = 384_000  # Hz
MAX_LEVEL_DB = 200.0  # far beyond what 16 bits hold; as a gain, floats still hold it
LONGEST_NAME = 64
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Part:
    """A stretch of a track that belongs to one split; samples at the prepared rate.

    Attributes:
        split: "train", "validation" or "test".
        start: First sample.
        stop: One past the last sample.
    """

    split: str
    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split = {self.split!r}: expected one of {', '.join(SPLITS)}")
        if not 0 <= self.start < self.stop:
            raise ValueError(f"no samples from {self.start} to {self.stop}")


@dataclass(frozen=True)
class Track:
    """One recording of a domain, stored as mono int16.

    Attributes:
        file: Name of the `.npy` file in the domain's directory, int16 (T,).
        source: Path of the recording below the prepared directory, with "/" separators.
        source_sha256: Content hash of the recording, in hexadecimal.
        source_size: Its size in bytes.
        source_mtime_ns: Its modification time in nanoseconds.
        n_samples: T, at the domain's sample rate.
        level_db: Gated level of the stored samples in dBFS.
        parts: What belongs to which split: one part, or several where a single track
            was cut into blocks. Ascending, disjoint.
        notes: Name of the file that holds the notes of its score (`core.data.score`); "" where
            there is none.
    """

    file: str
    source: str
    source_sha256: str
    source_size: int
    source_mtime_ns: int
    n_samples: int
    level_db: float
    parts: tuple[Part, ...]
    notes: str = ""

    def __post_init__(self) -> None:
        # Parts that ascend, do not overlap and stay inside have their ends in order.
        ends = [0, *(end for part in self.parts for end in (part.start, part.stop)), self.n_samples]
        if not self.parts or ends != sorted(ends):
            raise ValueError(f"parts of {self.source!r} overlap or leave the track")
        for key, name in (("file", self.file), ("notes", self.notes)):
            if Path(name).name != name or "\0" in name:
                raise ValueError(f"{key} = {name!r}: expected a name without a directory")
        if not -MAX_LEVEL_DB <= self.level_db <= MAX_LEVEL_DB:
            raise ValueError(f"level_db = {self.level_db}: expected at most ±{MAX_LEVEL_DB:g} dBFS")


@dataclass(frozen=True)
class Domain:
    """All prepared tracks of one domain.

    Attributes:
        name: The domain, which is the name of its directory.
        sample_rate: Of every track, in Hz.
        tracks: Sorted by source.
        directory: Holds the tracks' `.npy` files.
        prepared_from: Absolute path of the recordings' directory; "" when not known.
        renditions: The same performances by other instruments, as inputs of the encoder: a
            track `x.wav` has the renditions whose source lies below `x/`, each aligned with
            it sample for sample. None where there are none.
    """

    name: str
    sample_rate: int
    tracks: tuple[Track, ...]
    directory: Path
    prepared_from: str = ""
    renditions: Domain | None = None

    def minutes(self, split: str) -> float:
        """Return how much audio the split holds, in minutes."""
        samples = sum(part.stop - part.start for part in self._parts(split))
        return samples / self.sample_rate / 60

    def n_tracks(self, split: str) -> int:
        """Return how many tracks have some part in the split."""
        return sum(any(part.split == split for part in track.parts) for track in self.tracks)

    def renditions_of_tracks(self) -> dict[str, tuple[Track, ...]]:
        """Return each track's renditions, by the track's source; tracks without are left out."""
        if self.renditions is None:
            return {}
        below: dict[str, tuple[Track, ...]] = {}
        for rendition in self.renditions.tracks:
            parent = str(PurePosixPath(rendition.source).parent)
            below[parent] = (*below.get(parent, ()), rendition)
        stems = {
            track.source: str(PurePosixPath(track.source).with_suffix("")) for track in self.tracks
        }
        return {source: below[stem] for source, stem in stems.items() if stem in below}

    def _parts(self, split: str) -> list[Part]:
        return [part for track in self.tracks for part in track.parts if part.split == split]


def check_domain_name(name: str) -> str:
    """Return a domain's name, NFC normalised, if it can be one.

    The name has to work as a directory, as the value of `--to`, in a comma separated list and
    as the name of a torch submodule: letters and digits of any script, "-", "_" and inner
    spaces; at most 64 characters; no "-" at the start.

    Raises:
        UsageError: It cannot.
    """
    name = unicodedata.normalize("NFC", name)
    good = all(char in " -_" or unicodedata.category(char)[0] in "LMN" for char in name)
    if not good or not 0 < len(name) <= LONGEST_NAME or name != name.strip() or name[0] == "-":
        raise UsageError(
            f"{name!r} cannot be a domain's name: letters, digits, '-', '_' and inner spaces are "
            f"accepted, at most {LONGEST_NAME}; give another one with --name"
        )
    return name


def directory_name(directory: Path) -> str:
    """Return the name that a directory goes by, also for "." and "..", NFC normalised."""
    named = directory if directory.name not in ("", "..") else directory.resolve()
    return unicodedata.normalize("NFC", named.name)


def load_domain(directory: Path) -> Domain:
    """Load one prepared domain and check that its tracks are there.

    Args:
        directory: The domain's directory, which holds `domain.json`.

    Raises:
        DataError: The directory is no prepared domain, is damaged, incomplete or newer.
    """
    domain = read_domain_file(directory)
    check_files(domain)
    return domain


def load_domains(
    data: Path, names: Sequence[str] | None, *, renditions: Path | None = None
) -> list[Domain]:
    """Load prepared domains, sorted by name.

    Args:
        data: The directory that `umt prep` wrote, with one directory a domain.
        names: The domains wanted; None for all of them.
        renditions: A directory like `data`, with other instruments' renditions of the
            domains' tracks; see `Domain.renditions`. It need not have all of the domains.

    Raises:
        DataError: There are none, one of the names is unknown, or one cannot be loaded; or
            the renditions do not fit.
    """
    found = _find_domains(data)
    wanted = found if names is None else [unicodedata.normalize("NFC", name) for name in names]
    for name in wanted:
        if name not in found:
            known = ", ".join(sorted(found))
            raise DataError(f"no domain {name!r} in {data}; it has {known}")
    domains = [load_domain(found[name]) for name in sorted(set(wanted))]
    if renditions is None:
        return domains
    found = _find_domains(renditions)
    if found.keys().isdisjoint(domain.name for domain in domains):
        raise DataError(f"{renditions} has renditions of {', '.join(sorted(found))} only")
    return [
        _with_renditions(domain, load_domain(found[domain.name]))
        if domain.name in found
        else domain
        for domain in domains
    ]


def _find_domains(data: Path) -> dict[str, Path]:
    found = {directory_name(file.parent): file.parent for file in data.glob(f"*/{DOMAIN_FILE}")}
    if not found:
        raise DataError(f"no prepared domain in {data}; make one with `umt prep DIR --out {data}`")
    return found


def _with_renditions(domain: Domain, renditions: Domain) -> Domain:
    if renditions.sample_rate != domain.sample_rate:
        raise DataError(
            f"{renditions.directory} was prepared at {renditions.sample_rate} Hz and "
            f"{domain.directory} at {domain.sample_rate}; prepare it again with "
            f"--rate {domain.sample_rate}"
        )
    paired = replace(domain, renditions=renditions)
    if not paired.renditions_of_tracks():
        source = PurePosixPath(domain.tracks[0].source)
        raise DataError(
            f"{renditions.directory} has no rendition of a track of {domain.directory}: those of "
            f"{source} belong into a directory {source.with_suffix('')}/"
        )
    return paired


def read_domain_file(directory: Path) -> Domain:
    """Read `domain.json` without looking at the tracks' files.

    Raises:
        DataError: It is missing, damaged or newer than this program.
    """
    file = directory / DOMAIN_FILE
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{directory} is not a prepared domain: it has no {DOMAIN_FILE}; run `umt prep`"
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    try:
        content = parse_json(text, "", error=_DamagedError)
        version = content.get("version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise DataError(f"{file} has format {version}, newer than this umt reads; update umt")
        parsed = build(_DomainFile, content, "", error=_DamagedError)
    except _DamagedError as error:
        raise DataError(
            f"{file} is damaged ({error}); delete {directory} and run `umt prep` on its recordings"
        ) from error
    try:
        name = check_domain_name(directory_name(directory))
    except UsageError as error:
        raise DataError(f"{directory}: {error}; or rename the directory") from error
    return Domain(name, parsed.sample_rate, parsed.tracks, directory, parsed.prepared_from)


class _DamagedError(DataError):
    """The content of `domain.json` is not that of a domain."""


@dataclass(frozen=True)
class _DomainFile:
    """The content of `domain.json`."""

    format: Literal["umt-domain"]
    version: Literal[1]
    sample_rate: int
    prepared_from: str
    tracks: tuple[Track, ...]

    def __post_init__(self) -> None:
        if not 0 < self.sample_rate <= MAX_SAMPLE_RATE:
            raise ValueError(f"sample_rate = {self.sample_rate}: at most {MAX_SAMPLE_RATE} Hz")
        if not self.tracks:
            raise ValueError("no tracks")
        for key in ("file", "source"):
            if len({getattr(track, key) for track in self.tracks}) < len(self.tracks):
                raise ValueError(f"two tracks with one {key}")


def write_domain_file(domain: Domain) -> None:
    """Write `domain.json`, complete or not at all.

    Raises:
        DataError: It cannot be written.
    """
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "sample_rate": domain.sample_rate,
        "prepared_from": domain.prepared_from,
        "tracks": [asdict(track) for track in domain.tracks],
    }
    file = domain.directory / DOMAIN_FILE
    try:
        with atomic_write(file) as part:
            # ASCII with escapes: keeps even file names that are no valid Unicode.
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")
    except OSError as error:
        raise cannot_write(file, error) from error


def cannot_write(path: Path, error: OSError) -> DataError:
    """Return the error for a file of a domain that cannot be written."""
    advice = "choose another --out"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "allow more open files (ulimit -n), or add --jobs 1"
    elif error.errno in DISK_FULL:
        advice = f"free some space and run this again, it goes on from here; or {advice}"
    return DataError(f"cannot write {path}: {error.strerror}; {advice}")


def is_disk_full(error: DataError) -> bool:
    """Return whether something could not be written for lack of space."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_FULL
