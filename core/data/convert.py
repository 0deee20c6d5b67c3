"""Convert one recording to a mono int16 `.npy` at the prepared rate.

In: a file that `core.audio` reads. Out: a memory-mappable `.npy`, int16 (T,), written under a
temporary name and renamed when complete. Memory does not grow with the length of the file.

A recording that goes above full scale (floating point files, decoded mp3) is scaled down as
a whole, so that its highest sample is full scale: clipping would add sounds that a model learns.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from core.audio.levels import measure_level_db
from core.audio.provenance import file_sha256
from core.audio.reader import open_audio, resample_blocks
from core.data.recordings import Source
from core.data.workers import check_stop
from core.errors import AudioError, DataError
from core.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL_SCALE = 32768  # what soundfile divides by, so 16-bit sources at the same rate stay exact
HIGHEST_SAMPLE = 32767
SHORTEST_SECONDS = 1.0
CONVERSION = 1  # raise it when the stored samples would come out differently
READABLE_STEM = 40  # characters; at four bytes each the file name stays under 255


@dataclass(frozen=True)
class Stored:
    """A recording as it now stands in the domain's folder.

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


def hash_source(source: Source) -> str | Rejected:
    """Return the SHA-256 of the recording's bytes, or why they cannot be read."""
    check_stop()
    try:
        return file_sha256(source.path)
    except OSError as error:
        return _unreadable(error, source)


def store_track(
    source: Source, sha256: str, directory: Path, sample_rate: int
) -> Stored | Rejected:
    """Convert one recording into the domain's folder.

    A complete file that an interrupted run left for the same content is used as it is.

    Args:
        source: The recording.
        sha256: Hash of its content.
        directory: The domain's folder; exists.
        sample_rate: To store at, in Hz.

    Raises:
        DataError: The folder cannot be written (full disk, no permission).
    """
    target = directory / _file_name(source.relative, sha256, sample_rate)
    try:
        n_samples, gain = _stored_length(target), 1.0
        if n_samples is None:
            n_samples, gain = _convert(source, target, sample_rate)
        level_db = float(measure_level_db(_stored_blocks(target, sample_rate), sample_rate))
        if not math.isfinite(level_db):
            target.unlink()
            return Rejected("it is silent from beginning to end", is_failure=False)
    except _RejectedError as error:
        return error.rejected
    except OSError as error:
        raise DataError(
            f"cannot write {target}: {error.strerror}; make room or choose another --out"
        ) from error
    return Stored(target.name, n_samples, level_db, 20 * math.log10(gain))


class _RejectedError(Exception):
    def __init__(self, rejected: Rejected) -> None:
        super().__init__(rejected.reason)
        self.rejected = rejected


def _unreadable(error: Exception, source: Source) -> Rejected:
    reason = error.strerror if isinstance(error, OSError) else None
    # The report names the file beside the reason.
    return Rejected(reason or str(error).removeprefix(f"{source.path}: "), is_failure=True)


def _convert(source: Source, target: Path, sample_rate: int) -> tuple[int, float]:
    """Write the `.npy`; return its length and the gain."""
    with atomic_write(target) as temporary, temporary.open("wb") as handle:
        gain = 1.0
        n_samples, peak = _write_samples(handle, _read(source, sample_rate), gain)
        if peak > 1.0:
            # The peak is known only now: write again, scaled.
            gain = HIGHEST_SAMPLE / FULL_SCALE / peak
            n_samples, _ = _write_samples(handle, _read(source, sample_rate), gain)
        if n_samples < SHORTEST_SECONDS * sample_rate:
            seconds = n_samples / sample_rate
            reason = f"it is {seconds:.2f} s long, shorter than {SHORTEST_SECONDS:g} s"
            raise _RejectedError(Rejected(reason, is_failure=False))
        _check_unchanged(source)
    return n_samples, gain


def _read(source: Source, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield the recording at the prepared rate, float32 (T,); what fails here is the source's."""
    try:
        with open_audio(source.path) as audio:
            for block in resample_blocks(audio.blocks(), audio.sample_rate, sample_rate):
                check_stop()
                yield block
    except (AudioError, OSError) as error:
        raise _RejectedError(_unreadable(error, source)) from error


def _check_unchanged(source: Source) -> None:
    try:
        is_same = Source.find(source.path, source.relative) == source
    except OSError:
        is_same = False
    if not is_same:
        reason = "changed while it was being read; run `umt prep` again"
        raise _RejectedError(Rejected(reason, is_failure=True))


def _write_samples(
    handle: BinaryIO, blocks: Iterator[np.ndarray], gain: float
) -> tuple[int, float]:
    """Write header and samples from the beginning of the file; return their length and peak."""
    handle.seek(0)
    handle.truncate()
    _write_header(handle, 0)
    data_offset = handle.tell()
    n_samples, peak = 0, 0.0
    for block in blocks:
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
        scaled = np.rint(block * np.float32(gain * FULL_SCALE))
        handle.write(scaled.clip(-FULL_SCALE, HIGHEST_SAMPLE).astype("<i2").tobytes())
        n_samples += block.size
    handle.seek(0)
    _write_header(handle, n_samples)
    assert handle.tell() == data_offset  # NumPy reserves room for any length
    return n_samples, peak


def _write_header(handle: BinaryIO, n_samples: int) -> None:
    header = {"descr": "<i2", "fortran_order": False, "shape": (n_samples,)}
    np.lib.format.write_array_header_1_0(handle, header)


def _stored_length(target: Path) -> int | None:
    """Return the length of a complete `.npy`, None if there is none."""
    try:
        return int(np.load(target, mmap_mode="r").size)
    except (OSError, ValueError, EOFError):
        return None


def _stored_blocks(target: Path, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield the stored samples as float32 (T,), a second at a time.

    Read rather than mapped: mapped pages would count as this process's memory.
    """
    with target.open("rb") as handle:
        np.lib.format.read_magic(handle)
        np.lib.format.read_array_header_1_0(handle)
        while (block := np.fromfile(handle, dtype="<i2", count=sample_rate)).size:
            check_stop()
            yield block.astype(np.float32) / FULL_SCALE


def _file_name(relative: str, sha256: str, sample_rate: int) -> str:
    """Return a readable name, unique to the content and the way of converting.

    A domain holds each content once, so two tracks never share a name.
    """
    stem = unicodedata.normalize("NFC", PurePosixPath(relative).stem)
    readable = re.sub(r"[^\w-]+", "_", stem)[:READABLE_STEM].strip("_") or "track"
    key = f"{sha256} {sample_rate} {CONVERSION}"
    digest = hashlib.sha256(key.encode("ascii")).hexdigest()
    return f"{readable}-{digest[:10]}.npy"
