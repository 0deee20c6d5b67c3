"""Put 16-bit samples into bytes: our own WAV, and other formats through libsndfile.

WAV is our own because libsndfile can neither write to a pipe nor put the INFO chunk before
data of unknown length (after it, it would be played as sound). The layout, with 32-bit sizes;
the parts in brackets only where they are needed:

    RIFF size WAVE [JUNK 28] fmt 16 [LIST INFO ISFT ICMT] data size …      up to 4 GB
    RF64 -1   WAVE  ds64 28  fmt 16 [LIST INFO ISFT ICMT] data -1   …      past it
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Protocol

import soundfile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.audio.provenance import Provenance

MAX_RIFF_BYTES = 0xFFFFFFFE  # the largest size a RIFF header can state; -1 means unknown
_UNKNOWN = 0xFFFFFFFF
_SAMPLE_BYTES = 2
_DS64_BYTES = 28
_WRITE_SAMPLES = 1 << 16  # libsndfile's Vorbis encoder keeps a whole write on the stack


class Encoder(Protocol):
    """One output being written."""

    def write(self, codes: NDArray[np.int16]) -> None:
        """Append int16 (T,)."""

    def finish(self) -> None:
        """Complete the file."""

    def abandon(self) -> None:
        """Leave the file as it is, after an error."""


class WavEncoder:
    """WAV: sequential, corrected at the end where the stream can seek."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        sample_rate: int,
        n_samples: int | None,
        provenance: Provenance | None,
    ) -> None:
        self._stream = stream
        self._is_seekable = can_seek(stream)
        self._origin = stream.tell() if self._is_seekable else 0
        self._announced = n_samples
        self._n_written = 0
        # Room to turn the file into RF64 later, if it may grow and can be corrected.
        self._has_room = self._is_seekable and n_samples is None
        self._chunks = _format_chunk(sample_rate) + _info_chunk(provenance)
        header = self._header(n_samples)
        self._header_bytes = len(header)
        stream.write(header)

    def write(self, codes: NDArray[np.int16]) -> None:
        """Append int16 (T,)."""
        self._n_written += len(codes)
        assert self._is_seekable or self._announced is None or self._n_written <= self._announced, (
            f"{self._n_written} samples written to a pipe that was promised {self._announced}"
        )
        self._stream.write(codes.astype("<i2", copy=False).tobytes())

    def finish(self) -> None:
        """Correct the header if its length was not right, where that can be done."""
        if self._is_seekable and self._n_written != self._announced:
            header = self._header(self._n_written)
            assert len(header) == self._header_bytes, "announced as short, and past 4 GB"
            end = self._stream.tell()
            self._stream.seek(self._origin)
            self._stream.write(header)
            self._stream.seek(end)
        self._stream.flush()

    def abandon(self) -> None:
        """Do nothing: what is written can be read up to where it ends."""

    def _header(self, n_samples: int | None) -> bytes:
        """Build everything before the first sample."""
        room = 8 + _DS64_BYTES
        n_bytes = (n_samples or 0) * _SAMPLE_BYTES
        riff_size = 4 + len(self._chunks) + 8 + n_bytes + room * self._has_room
        if riff_size > MAX_RIFF_BYTES:
            riff_size += room * (not self._has_room)
            sizes = struct.pack("<QQQI", riff_size, n_bytes, n_samples, 0)
            start = _chunk_head(b"RF64", _UNKNOWN) + b"WAVE"
            start += _chunk_head(b"ds64", _DS64_BYTES) + sizes
            return start + self._chunks + _chunk_head(b"data", _UNKNOWN)
        if n_samples is None:
            riff_size = n_bytes = _UNKNOWN
        start = _chunk_head(b"RIFF", riff_size) + b"WAVE"
        if self._has_room:
            start += _chunk_head(b"JUNK", _DS64_BYTES) + bytes(_DS64_BYTES)
        return start + self._chunks + _chunk_head(b"data", n_bytes)


class SndfileEncoder:
    """Any other format, through libsndfile; the stream must be able to seek."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        sample_rate: int,
        coding: tuple[str, str],
        provenance: Provenance | None,
    ) -> None:
        file, encoding = coding
        stream.flush()
        # A descriptor where there is one: errors in soundfile's callbacks become tracebacks on
        # the terminal, and the sound is lost.
        try:
            target: BinaryIO | int = os.dup(stream.fileno())
        except OSError:
            target = stream
        self._file = soundfile.SoundFile(target, "w", sample_rate, 1, format=file, subtype=encoding)
        if provenance is not None:
            with suppress(soundfile.LibsndfileError):  # au, voc and w64 have no comments
                self._file.comment = provenance.to_json()

    def write(self, codes: NDArray[np.int16]) -> None:
        """Append int16 (T,)."""
        try:
            for start in range(0, len(codes), _WRITE_SAMPLES):
                self._file.write(codes[start : start + _WRITE_SAMPLES])
        except AssertionError as error:  # soundfile's, when fewer samples were written than given
            raise OSError(errno.ENOSPC, "no space left?") from error

    def finish(self) -> None:
        """Write what libsndfile still holds, and the header."""
        self._file.close()

    def abandon(self) -> None:
        """Let libsndfile go."""
        with suppress(soundfile.LibsndfileError):
            self._file.close()


def can_seek(stream: BinaryIO) -> bool:
    """Say whether a header can be corrected: not on a pipe, and not after the shell's >>."""
    if not stream.seekable():
        return False
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream in memory
        return True
    return not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND


def _chunk_head(name: bytes, size: int) -> bytes:
    return name + struct.pack("<I", size)


def _format_chunk(sample_rate: int) -> bytes:
    """Build the `fmt ` chunk of mono 16-bit PCM."""
    byte_rate = sample_rate * _SAMPLE_BYTES
    body = struct.pack("<HHIIHH", 1, 1, sample_rate, byte_rate, _SAMPLE_BYTES, 16)
    return _chunk_head(b"fmt ", len(body)) + body


def _info_chunk(provenance: Provenance | None) -> bytes:
    """Build the LIST chunk that names the program and carries the provenance."""
    if provenance is None:
        return b""
    body = b"INFO"
    for name, text in ((b"ISFT", provenance.tool), (b"ICMT", provenance.to_json())):
        value = text.encode() + b"\0"
        body += _chunk_head(name, len(value)) + value + b"\0" * (len(value) % 2)
    return _chunk_head(b"LIST", len(body)) + body
