"""Prepared domains on disk: `DATA/NAME/domain.json` beside one `.npy` file a track.

In: the folder of a domain. Out: `Domain`, `Track` and `Part` values, checked; and back.
The folder's name is the domain's name. Does not read audio: see `core.data.prepare`.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from core.errors import DataError, UsageError
from core.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence

SPLITS = ("train", "validation", "test")
DOMAIN_FILE = "domain.json"
FORMAT_VERSION = 1
BYTES_PER_SAMPLE = 2  # int16
LONGEST_NAME = 64


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
        if self.split not in SPLITS or not 0 <= self.start < self.stop:
            raise ValueError(f"not a part of a track: {self}")


@dataclass(frozen=True)
class Track:
    """One recording of a domain, stored as mono int16.

    Attributes:
        file: Name of the `.npy` file in the domain's folder, int16 (T,).
        source: Path of the recording below the prepared directory, with "/" separators.
        source_sha256: Content hash of the recording, in hexadecimal.
        source_size: Its size in bytes.
        source_mtime_ns: Its modification time in nanoseconds.
        n_samples: T, at the domain's sample rate.
        level_db: Gated level of the stored samples in dBFS.
        parts: What belongs to which split: one part, or several where a single track
            was cut into blocks. Ascending, disjoint.
    """

    file: str
    source: str
    source_sha256: str
    source_size: int
    source_mtime_ns: int
    n_samples: int
    level_db: float
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        ends = [0, *(end for part in self.parts for end in (part.start, part.stop)), self.n_samples]
        if not self.parts or ends != sorted(ends):
            raise ValueError(f"parts overlap or leave the track: {self.source}")
        if Path(self.file).name != self.file:
            raise ValueError(f"not a file name: {self.file}")


@dataclass(frozen=True)
class Domain:
    """All prepared tracks of one domain.

    Attributes:
        name: The domain, which is the name of its folder.
        sample_rate: Of every track, in Hz.
        tracks: Sorted by source.
        directory: The folder that holds the tracks' `.npy` files.
        prepared_from: Absolute path of the recordings' directory; "" when not known.
        takes: The same performances by other instruments, for the encoder to hear: a track
            `x.wav` has the takes whose source lies below `x/`, each aligned with it sample
            for sample.
    """

    name: str
    sample_rate: int
    tracks: tuple[Track, ...]
    directory: Path
    prepared_from: str = ""
    takes: Domain | None = None

    def minutes(self, split: str) -> float:
        """Return how much audio the split holds, in minutes."""
        samples = sum(part.stop - part.start for part in self._parts(split))
        return samples / self.sample_rate / 60

    def n_tracks(self, split: str) -> int:
        """Return how many tracks have some part in the split."""
        return sum(any(part.split == split for part in track.parts) for track in self.tracks)

    def takes_of_tracks(self) -> dict[str, tuple[Track, ...]]:
        """Return each track's takes, by the track's source; tracks without are left out."""
        if self.takes is None:
            return {}
        below: dict[str, tuple[Track, ...]] = {}
        for take in self.takes.tracks:
            folder = str(PurePosixPath(take.source).parent)
            below[folder] = (*below.get(folder, ()), take)
        stems = {
            track.source: str(PurePosixPath(track.source).with_suffix("")) for track in self.tracks
        }
        return {source: below[stem] for source, stem in stems.items() if stem in below}

    def _parts(self, split: str) -> list[Part]:
        return [part for track in self.tracks for part in track.parts if part.split == split]


def check_domain_name(name: str) -> str:
    """Return a domain's name, NFC normalised, if it can be one.

    The name has to work as a folder, as the value of `--to`, in a comma separated list and
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
    """Return the name that a directory goes by, also for "." and ".."."""
    named = directory if directory.name not in ("", "..") else directory.resolve()
    return unicodedata.normalize("NFC", named.name)


def load_domain(directory: Path) -> Domain:
    """Load one prepared domain and check that its tracks are there.

    Args:
        directory: The domain's folder, which holds `domain.json`.

    Raises:
        DataError: The folder is no prepared domain, is damaged, incomplete or newer.
    """
    domain = read_domain_file(directory)
    for track in domain.tracks:
        if not is_stored(track, directory):
            raise DataError(
                f"{directory / track.file} is missing or too short; "
                "run the same `umt prep` again to restore it"
            )
    return domain


def load_domains(
    data: Path, names: Sequence[str] | None, *, takes: Path | None = None
) -> list[Domain]:
    """Load prepared domains, sorted by name.

    Args:
        data: The folder that `umt prep` wrote, with one folder a domain.
        names: The domains wanted; None for all of them.
        takes: A folder like `data`, with other instruments' takes of the domains' tracks;
            see `Domain.takes`. It need not have all of the domains.

    Raises:
        DataError: There are none, one of the names is unknown, or one cannot be loaded; or
            the takes do not fit.
    """
    found = _find_domains(data)
    wanted = found if names is None else [unicodedata.normalize("NFC", name) for name in names]
    for name in wanted:
        if name not in found:
            known = ", ".join(sorted(found))
            raise DataError(f"no domain {name!r} in {data}; it has {known}")
    domains = [load_domain(found[name]) for name in sorted(set(wanted))]
    if takes is None:
        return domains
    found = _find_domains(takes)
    if found.keys().isdisjoint(domain.name for domain in domains):
        raise DataError(f"{takes} has takes of {', '.join(sorted(found))} only")
    return [
        _with_takes(domain, load_domain(found[domain.name])) if domain.name in found else domain
        for domain in domains
    ]


def _find_domains(data: Path) -> dict[str, Path]:
    found = {directory_name(file.parent): file.parent for file in data.glob(f"*/{DOMAIN_FILE}")}
    if not found:
        raise DataError(f"no prepared domain in {data}; make one with `umt prep DIR --out {data}`")
    return found


def _with_takes(domain: Domain, takes: Domain) -> Domain:
    if takes.sample_rate != domain.sample_rate:
        raise DataError(
            f"{takes.directory} was prepared at {takes.sample_rate} Hz and {domain.directory} at "
            f"{domain.sample_rate}; prepare it again with --rate {domain.sample_rate}"
        )
    paired = replace(domain, takes=takes)
    if not paired.takes_of_tracks():
        raise DataError(
            f"{takes.directory} has no take of a track of {domain.directory}: the takes of "
            f"{domain.tracks[0].source} belong into a folder "
            f"{PurePosixPath(domain.tracks[0].source).with_suffix('')}/"
        )
    return paired


def is_stored(track: Track, directory: Path) -> bool:
    """Return whether the track's samples are in the folder, judged by the file's size."""
    file = directory / track.file
    return file.is_file() and file.stat().st_size > track.n_samples * BYTES_PER_SAMPLE


def read_domain_file(directory: Path) -> Domain:
    """Read `domain.json` without looking at the tracks' files.

    Raises:
        DataError: It is missing, damaged or newer than this program.
    """
    file = directory / DOMAIN_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{directory} is not a prepared domain: it has no {DOMAIN_FILE}; run `umt prep`"
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(file, error) from error
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise DataError(f"{file} has format {version}, newer than this umt reads; update umt")
    try:
        return _parse(content, directory)
    except UsageError as error:
        raise DataError(f"{directory}: {error}; or rename the folder") from error
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(file, error) from error


def write_domain_file(domain: Domain) -> None:
    """Write `domain.json` under a temporary name and rename it.

    Raises:
        DataError: It cannot be written.
    """
    content = {
        "format": "umt-domain",
        "version": FORMAT_VERSION,
        "sample_rate": domain.sample_rate,
        "prepared_from": domain.prepared_from,
        "tracks": [asdict(track) for track in domain.tracks],
    }
    file = domain.directory / DOMAIN_FILE
    try:
        with atomic_write(file) as temporary:
            # ASCII with escapes: keeps even file names that are no valid Unicode.
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")
    except OSError as error:
        raise DataError(f"cannot write {file}: {error.strerror}") from error


def remove_leftovers(domain: Domain) -> None:
    """Remove samples that `domain.json` does not name."""
    named = {track.file for track in domain.tracks}
    for file in domain.directory.glob("*.npy"):
        if file.name not in named:
            file.unlink(missing_ok=True)


def _parse(content: dict[str, Any], directory: Path) -> Domain:
    if content["format"] != "umt-domain" or content["version"] != FORMAT_VERSION:
        raise ValueError("not a umt domain")
    tracks = [
        Track(**{**entry, "parts": tuple(Part(**part) for part in entry["parts"])})
        for entry in content["tracks"]
    ]
    if not tracks or content["sample_rate"] < 1:
        raise ValueError("no tracks, or no sample rate")
    name = check_domain_name(directory_name(directory))
    origin = str(content["prepared_from"])
    return Domain(name, content["sample_rate"], tuple(tracks), directory, origin)


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} is damaged ({error}); delete {file.parent} and run `umt prep` on its recordings"
    )
