"""The stored samples of prepared domains: one memory-mapped `.npy` a track, int16 (T,).

In: a track, or the path of its file. Out: its samples, checked against what `domain.json` has of
them. Commands that read samples for long hold a lock, so that `umt prep` does not remove them.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from core.errors import DataError
from core.files import exclusive_lock, shared_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from core.data.domain import Domain, Track

SAMPLE_TYPE = "<i2"
FULL_SCALE = 32768  # what soundfile divides by, so 16-bit sources at the same rate stay exact
READ_LOCK = ".read.lock"  # in a domain's directory, shared by the commands that read samples


def track_samples(directory: Path, track: Track) -> NDArray[np.int16]:
    """Map the samples of a track.

    Args:
        directory: The domain's.
        track: The track.

    Returns:
        int16 (T,), at the domain's sample rate; read only.

    Raises:
        DataError: The file is missing, damaged or another one.
    """
    path = directory / track.file
    samples = open_samples(path)
    if len(samples) != track.n_samples:
        raise DataError(
            f"{path} holds {len(samples)} samples, not {track.n_samples}; run the same `umt prep` "
            "again to restore it"
        )
    return samples


def check_files(domain: Domain) -> None:
    """Check that the samples of a domain's tracks, and the notes of their scores, are there.

    Raises:
        DataError: A file is missing, or its samples are damaged.
    """
    for track in domain.tracks:
        track_samples(domain.directory, track)
        if track.notes and not (notes := domain.directory / track.notes).is_file():
            raise DataError(f"{notes} is missing; run the same `umt prep` again to restore it")


def open_samples(path: Path) -> NDArray[np.int16]:
    """Map a file of samples.

    Returns:
        int16 (T,), read only.

    Raises:
        DataError: The file is missing or damaged, or holds another kind of array.
    """
    try:
        samples = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        reason = "is missing"
    except Exception as error:  # whatever NumPy's parser of headers makes of foreign bytes
        reason = f"cannot be read ({_first_line(error)})"
    else:
        if samples.dtype.str == SAMPLE_TYPE and samples.ndim == 1:
            return samples
        reason = f"holds {samples.dtype} of {samples.ndim} dimensions, not int16 of one"
    raise DataError(f"{path} {reason}; run the same `umt prep` again to restore it")


@contextmanager
def reading(domains: Sequence[Domain]) -> Iterator[None]:
    """Keep `umt prep` from removing samples of these domains while the block runs.

    Raises:
        DataError: A track's samples were removed or damaged before the block began.
    """
    used = [*domains, *(domain.renditions for domain in domains if domain.renditions is not None)]
    with ExitStack() as locks:
        # Locked first: what is found after that stays.
        for domain in used:
            locks.enter_context(shared_lock(domain.directory / READ_LOCK))
        for domain in used:
            check_files(domain)
        yield


def remove_unnamed_samples(domain: Domain) -> bool:
    """Remove samples and notes that `domain.json` does not name, unless some command reads it.

    Returns:
        Whether there are none any more.
    """
    named = {name for track in domain.tracks for name in (track.file, track.notes)}
    unnamed = [file for file in domain.directory.glob("*.npy") if file.name not in named]
    if not unnamed:
        return True
    in_use = DataError(f"{domain.directory} is in use")
    try:
        with exclusive_lock(domain.directory / READ_LOCK, in_use):
            for file in unnamed:
                file.unlink(missing_ok=True)
    except (DataError, OSError):
        return False
    return True


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]
