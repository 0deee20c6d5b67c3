"""Write RIFF/RF64 WAV, also to pipes.

Our own, because libsndfile cannot write to a pipe, and puts the INFO chunk after data of unknown
length, where it would be played as sound. The layout, with 32-bit sizes; the parts in brackets
only where they are needed:

    RIFF size WAVE [JUNK 28] fmt 16 [fact 4] [LIST INFO …] data size …      up to 4 GB
    RF64 -1   WAVE  ds64 28  fmt 16 [fact 4] [LIST INFO …] data -1   …      past it
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, cast

from core.audio.wav import FLOAT, INFO_FIELDS, PCM, UNKNOWN_SIZE, Bits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.audio.tags import Tags

MAX_RIFF_BYTES = 0xFFFFFFFE  # the largest size a RIFF header can state
_DS64_BYTES = 28
_SAMPLE_BYTES: dict[Bits, int] = {"16": 2, "24": 3, "float": 4}


class WavWriter:
    """Write WAV; the header is corrected at the end where the stream can seek."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        sample_rate: int,
        n_channels: int,
        n_samples: int | None,
        tags: Tags,
        software: str,
        can_seek: bool,
        bits: Bits = "16",
    ) -> None:
        self._stream = stream
        self._bits = bits
        self._sample_bytes = n_channels * _SAMPLE_BYTES[bits]  # of all channels
        self._is_seekable = can_seek
        self._origin = stream.tell() if self._is_seekable else 0
        self._announced = n_samples
        self._n_written = 0
        # Room to turn the file into RF64 later, if it may grow and can be corrected.
        self._has_room = self._is_seekable and n_samples is None
        self._format = _format_chunk(sample_rate, n_channels, bits)
        self._info = _info_chunk(tags, software)
        header = self._header(n_samples)
        self._header_bytes = len(header)
        stream.write(header)

    def write(self, codes: NDArray[np.generic]) -> None:
        """Append samples, (T,) or (T, C): int16, int32 of 24 bits, or float32, by `bits`."""
        self._n_written += len(codes)
        assert self._is_seekable or self._announced is None or self._n_written <= self._announced, (
            f"{self._n_written} samples written to a pipe that was promised {self._announced}"
        )
        if self._bits == "24":
            codes = codes.astype("<i4", order="C", copy=False)
            low_bytes = codes.view("u1").reshape(-1, 4)[:, :3]
            self._stream.write(low_bytes.tobytes())
        else:
            dtype = "<i2" if self._bits == "16" else "<f4"
            self._stream.write(codes.astype(dtype, copy=False).tobytes())

    def finish(self) -> None:
        """Fill the data up to even bytes; correct the header where it was wrong and can be."""
        # On a pipe of unknown length the byte would be half a sample.
        is_known = self._is_seekable or self._announced == self._n_written
        if is_known and self._n_written * self._sample_bytes % 2:
            self._stream.write(b"\0")
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
        n_bytes = (n_samples or 0) * self._sample_bytes
        chunks = self._format + self._info
        if self._bits == "float":  # which has to state its length besides
            stated = UNKNOWN_SIZE if n_samples is None else min(n_samples, UNKNOWN_SIZE)
            chunks = self._format + _chunk_head(b"fact", 4) + struct.pack("<I", stated) + self._info
        riff_size = 4 + len(chunks) + 8 + n_bytes + n_bytes % 2 + room * self._has_room
        if riff_size > MAX_RIFF_BYTES:
            riff_size += room * (not self._has_room)
            sizes = struct.pack("<QQQI", riff_size, n_bytes, n_samples, 0)
            start = _chunk_head(b"RF64", UNKNOWN_SIZE) + b"WAVE"
            start += _chunk_head(b"ds64", _DS64_BYTES) + sizes
            return start + chunks + _chunk_head(b"data", UNKNOWN_SIZE)
        if n_samples is None:
            riff_size = n_bytes = UNKNOWN_SIZE
        start = _chunk_head(b"RIFF", riff_size) + b"WAVE"
        if self._has_room:
            start += _chunk_head(b"JUNK", _DS64_BYTES) + bytes(_DS64_BYTES)
        return start + chunks + _chunk_head(b"data", n_bytes)


def _chunk_head(name: bytes, size: int) -> bytes:
    return name + struct.pack("<I", size)


def _format_chunk(sample_rate: int, n_channels: int, bits: Bits) -> bytes:
    """Build the `fmt ` chunk of PCM or float."""
    n_bytes = n_channels * _SAMPLE_BYTES[bits]
    tag = FLOAT if bits == "float" else PCM
    rates = (sample_rate, sample_rate * n_bytes)
    body = struct.pack("<HHIIHH", tag, n_channels, *rates, n_bytes, 8 * _SAMPLE_BYTES[bits])
    return _chunk_head(b"fmt ", len(body)) + body


def _info_chunk(tags: Tags, software: str) -> bytes:
    """Build the LIST chunk that names the program and carries the tags."""
    texts = [(b"ISFT", software)]
    texts += [(name, cast("str", getattr(tags, field))) for name, field in INFO_FIELDS.items()]
    body = b"INFO"
    for name, text in texts:
        if text:
            value = text.encode("utf-8", "replace") + b"\0"
            body += _chunk_head(name, len(value)) + value + b"\0" * (len(value) % 2)
    return b"" if body == b"INFO" else _chunk_head(b"LIST", len(body)) + body
