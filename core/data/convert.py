"""Convert one recording to a mono int16 `.npy` at the prepared rate.

In: a file that `core.audio` reads. Out: a memory-mappable `.npy`, int16 (T,), complete or absent.
Memory does not grow with the length of the file.

A recording that goes above full scale (floating point files, decoded mp3) is scaled down as
a whole, so that its highest sample is full scale: clipping would add distortion that a model
learns.
"""

from __future__ import annotations

import hashlib
import math
import re
import stat
import unicodedata
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from core.audio.levels import measure_level_db
from core.audio.reader import open_audio
from core.audio.resampling import resample_blocks
from core.data.domain import cannot_write
from core.data.samples import FULL_SCALE, SAMPLE_TYPE, open_samples
from core.errors import AudioError, DataError
from core.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

    from numpy.typing import NDArray

    from core.data.domain import Track

HIGHEST_SAMPLE = 32767
SHORTEST_SECONDS = 1.0
CONVERSION = 1  # raise it when the stored samples would come out differently
READABLE_STEM = 40  # characters; at four bytes each the file name stays under 255
HASHED_BYTES = 1 << 20  # at a time


@dataclass(frozen=True)
class SourceFile:
    """One recording, as it was found on the disk.

    Attributes:
        path: Where to read it.
        relative: Its path below the prepared directory, with "/" separators.
        size: Bytes.
        mtime_ns: Modification time in nanoseconds.
    """

    path: Path
    relative: str
    size: int
    mtime_ns: int

    @classmethod
    def find(cls, path: Path, relative: str) -> SourceFile:
        """Look at a file.

        Raises:
            OSError: It is gone, cannot be looked at, or is a device or a pipe.
        """
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a link to a device never ends
            raise OSError(None, "is a device or a pipe, not a file", str(path))
        return cls(path, relative, state.st_size, state.st_mtime_ns)

    def is_source_of(self, track: Track) -> bool:
        """Return whether the track was made from this file as it is, judged by size and date."""
        return (track.source_size, track.source_mtime_ns) == (self.size, self.mtime_ns)

    def as_source_of(self, track: Track) -> Track:
        """Return the track with this file as its source; the content is the same."""
        return replace(
            track, source=self.relative, source_size=self.size, source_mtime_ns=self.mtime_ns
        )


@dataclass(frozen=True)
class Stored:
    """A recording as it now stands in the domain's directory.

    Attributes:
        file: Name of the `.npy` file.
        n_samples: At the prepared rate.
        level_db: Gated level of the stored samples in dBFS.
        gain_db: What the recording was scaled by; 0 unless it went above full scale.
    """

    file: str
    n_samples: int
    level_db: float
    gain_db: float


@dataclass(frozen=True)
class Rejected:
    """A recording that was not stored.

    Attributes:
        reason: Why, for the user.
        is_failure: It could not be read; False where it is only of no use for training.
    """

    reason: str
    is_failure: bool


def hash_recording(recording: SourceFile, stop: Event) -> str | Rejected:
    """Return the SHA-256 of the recording's bytes, or why they cannot be read.

    Args:
        recording: The recording.
        stop: Set by another thread to end the work.

    Raises:
        CancelledError: `stop` was set.
    """
    digest = hashlib.sha256()
    try:
        with recording.path.open("rb") as file:
            while block := file.read(HASHED_BYTES):
                _check(stop)
                digest.update(block)
    except OSError as error:
        return _unreadable(error, recording)
    return digest.hexdigest()


def store_recording(
    recording: SourceFile, sha256: str, directory: Path, sample_rate: int, stop: Event
) -> Stored | Rejected:
    """Convert one recording into the domain's directory.

    A complete file that an interrupted run left for the same content is used as it is.

    Args:
        recording: The recording.
        sha256: Hash of its content.
        directory: The domain's directory; exists.
        sample_rate: To store at, in Hz.
        stop: Set by another thread to end the work.

    Raises:
        CancelledError: `stop` was set.
        DataError: The directory cannot be written (full disk, no permission).
    """
    target = directory / _file_name(recording.relative, sha256, sample_rate)
    try:
        n_samples, gain = _stored_length(target), 1.0
        if n_samples is None:
            n_samples, gain = _convert(recording, target, sample_rate, stop)
        level_db = float(measure_level_db(_stored_blocks(target, sample_rate, stop), sample_rate))
        if not math.isfinite(level_db):
            target.unlink()
            return Rejected("there is no sound in it", is_failure=False)
    except _RejectedError as error:
        return error.rejected
    except OSError as error:
        raise cannot_write(target, error) from error
    return Stored(target.name, n_samples, level_db, 20 * math.log10(gain))


class _RejectedError(Exception):
    def __init__(self, rejected: Rejected) -> None:
        super().__init__(rejected.reason)
        self.rejected = rejected


def _check(stop: Event) -> None:
    if stop.is_set():
        raise CancelledError


def _unreadable(error: Exception, recording: SourceFile) -> Rejected:
    reason = error.strerror if isinstance(error, OSError) else None
    # The log names the file beside the reason.
    return Rejected(reason or str(error).removeprefix(f"{recording.path}: "), is_failure=True)


def _convert(
    recording: SourceFile, target: Path, sample_rate: int, stop: Event
) -> tuple[int, float]:
    """Write the `.npy`; return its length and the gain."""
    with atomic_write(target) as part, part.open("wb") as file:
        gain = 1.0
        n_samples, peak = _write_samples(file, _read(recording, sample_rate, stop), gain)
        if peak > 1.0:
            # The peak is known only now: write again, scaled.
            gain = HIGHEST_SAMPLE / FULL_SCALE / peak
            n_samples, _ = _write_samples(file, _read(recording, sample_rate, stop), gain)
        if n_samples < SHORTEST_SECONDS * sample_rate:
            seconds = n_samples / sample_rate
            reason = f"it is {seconds:.2f} s long, shorter than {SHORTEST_SECONDS:g} s"
            raise _RejectedError(Rejected(reason, is_failure=False))
        _check_unchanged(recording)
    return n_samples, gain


def _read(recording: SourceFile, sample_rate: int, stop: Event) -> Iterator[NDArray[np.float32]]:
    """Yield float32 (T,) at the prepared rate; any failure in here is the recording's."""
    try:
        with open_audio(recording.path) as audio:
            for block in resample_blocks(audio.blocks(), audio.sample_rate, sample_rate):
                _check(stop)
                yield block
    except (AudioError, OSError) as error:
        raise _RejectedError(_unreadable(error, recording)) from error


def _check_unchanged(recording: SourceFile) -> None:
    try:
        is_same = SourceFile.find(recording.path, recording.relative) == recording
    except OSError:
        is_same = False
    if not is_same:
        reason = "changed while it was being read; run `umt prep` again"
        raise _RejectedError(Rejected(reason, is_failure=True))


def _write_samples(
    file: BinaryIO, blocks: Iterator[NDArray[np.float32]], gain: float
) -> tuple[int, float]:
    """Write header and samples from the beginning of the file; return their length and peak."""
    file.seek(0)
    file.truncate()
    _write_header(file, 0)
    data_offset = file.tell()
    n_samples, peak = 0, 0.0
    for block in blocks:
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
        scaled = np.rint(block * np.float32(gain * FULL_SCALE))
        file.write(scaled.clip(-FULL_SCALE, HIGHEST_SAMPLE).astype(SAMPLE_TYPE).tobytes())
        n_samples += block.size
    file.seek(0)
    _write_header(file, n_samples)
    assert file.tell() == data_offset  # NumPy reserves room for any length
    return n_samples, peak


def _write_header(file: BinaryIO, n_samples: int) -> None:
    header = {"descr": SAMPLE_TYPE, "fortran_order": False, "shape": (n_samples,)}
    np.lib.format.write_array_header_1_0(file, header)


def _stored_length(target: Path) -> int | None:
    """Return the length of a complete `.npy`, None if there is none."""
    try:
        return open_samples(target).size
    except DataError:
        return None


def _stored_blocks(target: Path, sample_rate: int, stop: Event) -> Iterator[NDArray[np.float32]]:
    """Yield the stored samples as float32 (T,), a second at a time.

    Read rather than mapped: mapped pages would count as this process's memory.
    """
    with target.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        while (block := np.fromfile(file, dtype=SAMPLE_TYPE, count=sample_rate)).size:
            _check(stop)
            yield block.astype(np.float32) / np.float32(FULL_SCALE)


def _file_name(relative: str, sha256: str, sample_rate: int) -> str:
    """Return a readable name, unique to the content and the way of converting.

    A domain holds each content once, so two tracks never share a name.
    """
    stem = unicodedata.normalize("NFC", PurePosixPath(relative).stem)
    readable = re.sub(r"[^\w-]+", "_", stem)[:READABLE_STEM].strip("_") or "track"
    key = f"{sha256} {sample_rate} {CONVERSION}"
    digest = hashlib.sha256(key.encode("ascii")).hexdigest()
    return f"{readable}-{digest[:10]}.npy"
