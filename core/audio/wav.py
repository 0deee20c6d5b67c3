"""Read a WAV file in one pass, from the first byte to the last, without ever seeking.

In: a byte stream such as a pipe. Out: blocks of samples as they arrive. libsndfile needs to
seek, so it cannot do this. Plain PCM and float only; a stream in another encoding raises
`OtherEncodingError`, which carries the bytes read so far, and the caller gives it to libsndfile.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from core.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_DTYPES = {
    (_PCM, 1): "u1",  # 8-bit WAV is the only unsigned one
    (_PCM, 2): "<i2",
    (_PCM, 3): "u1",  # three bytes a sample, put together by hand
    (_PCM, 4): "<i4",
    (_FLOAT, 4): "<f4",
    (_FLOAT, 8): "<f8",
}
# The GUID of a plain encoding in WAVE_FORMAT_EXTENSIBLE, after its two bytes of format tag.
_PLAIN_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# A writer that cannot seek back announces as much as fits: ffmpeg 0xFFFFFFFF, sox 0x7FFFF000
# less its header. No such figure is a length.
_NOT_A_LENGTH = 0x7FFF0000
_SKIP_BYTES = 1 << 16
_MAX_INFO_BYTES = 1 << 20  # more is not a comment; it is skipped unread
_MAX_TRAILER_BYTES = 1 << 20


class OtherEncodingError(Exception):
    """The stream is not plain PCM or float WAV; `taken` holds the bytes already read."""

    def __init__(self, taken: bytes) -> None:
        super().__init__("not plain PCM or float WAV")
        self.taken = taken


class WavStream:
    """A WAV stream whose header has been read.

    Attributes:
        sample_rate: Hz.
        n_channels: Channels, interleaved in the stream.
        n_samples: Samples per channel that the header announces; None when it does not know.
        comment: The INFO comment that stands before the data, if any.
    """

    def __init__(self, stream: BinaryIO, *, label: str) -> None:
        """Read up to the first sample.

        Args:
            stream: Read forwards only.
            label: How messages call it.

        Raises:
            OtherEncodingError: Not RIFF/RF64 WAVE, or neither PCM nor float.
            AudioError: A WAV header that is cut off or contradicts itself.
        """
        self._stream = stream
        self._label = label
        self._taken = bytearray()  # kept only until the encoding is known
        self._position = 0
        self.comment: str | None = None
        self.sample_rate = self.n_channels = 0
        self._encoding: tuple[int, int] | None = None
        self._ds64_data_size: int | None = None
        start = self._read(12)
        if start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
            raise OtherEncodingError(bytes(self._taken))
        self._riff_size = struct.unpack("<I", start[4:8])[0]
        n_bytes = self._read_chunks()
        self._unread = n_bytes
        self.n_samples = None if n_bytes is None else n_bytes // self._sample_bytes

    @property
    def _sample_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        assert self._encoding is not None
        return self.n_channels * self._encoding[1]

    def read(self, n_samples: int) -> NDArray[np.float32]:
        """Read the next samples; waits for them.

        Args:
            n_samples: Samples per channel wanted.

        Returns:
            float32 (T, C), in [-1, 1] for PCM. T is less than `n_samples` at the end of the
            data only; a stream that ends early is read as far as it goes.
        """
        wanted = n_samples * self._sample_bytes
        if self._unread is not None:
            wanted = min(wanted, self._unread)
        data = self._read(wanted)
        if self._unread is not None:
            self._unread -= len(data)
            if self._unread < self._sample_bytes:
                self._read_trailer()
        data = data[: len(data) - len(data) % self._sample_bytes]
        assert self._encoding is not None
        return _to_float(data, self._encoding).reshape(-1, self.n_channels)

    def _read(self, n_bytes: int) -> bytes:
        """Read this many bytes, fewer at the end of the stream only."""
        pieces = []
        wanted = n_bytes
        while wanted > 0 and (piece := self._stream.read(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        data = b"".join(pieces)
        self._position += len(data)
        if self._encoding is None:
            self._taken += data
        return data

    def _read_chunks(self) -> int | None:
        """Read chunks up to the start of the data; return the data's size, None if unknown."""
        while len(head := self._read(8)) == 8:
            name, size = head[:4], struct.unpack("<I", head[4:])[0]
            if name == b"data":
                if self._encoding is None:
                    raise AudioError(f"{self._label}: WAV data without a format before it")
                return self._data_size(size)
            if name == b"fmt ":
                self._read_format(self._read_chunk(size))
            elif name == b"ds64":
                sizes = self._read_chunk(size)
                if len(sizes) >= 16:
                    self._ds64_data_size = struct.unpack("<Q", sizes[8:16])[0]
            elif name == b"LIST" and size <= _MAX_INFO_BYTES:
                self.comment = _find_comment(self._read_chunk(size)) or self.comment
            else:
                self._skip(size + size % 2)
        raise AudioError(f"{self._label}: ends inside its WAV header; it is cut off or damaged")

    def _read_chunk(self, size: int) -> bytes:
        """Read a chunk's body and the byte that makes its length even."""
        return self._read(size + size % 2)[:size]

    def _skip(self, n_bytes: int) -> None:
        while n_bytes > 0 and (piece := self._read(min(n_bytes, _SKIP_BYTES))):
            n_bytes -= len(piece)

    def _read_format(self, chunk: bytes) -> None:
        """Take rate, channels and encoding from the `fmt ` chunk."""
        if len(chunk) < 16:
            raise AudioError(f"{self._label}: damaged WAV header (format of {len(chunk)} bytes)")
        tag, self.n_channels, self.sample_rate, _, block, _ = struct.unpack("<HHIIHH", chunk[:16])
        if tag == _EXTENSIBLE and chunk[26:40] == _PLAIN_GUID_TAIL:
            tag = struct.unpack("<H", chunk[24:26])[0]
        # The container's width, not the valid bits: 20 bits in three bytes are scaled as 24.
        width = block // max(self.n_channels, 1)
        if (tag, width) not in _DTYPES or block != width * self.n_channels:
            raise OtherEncodingError(bytes(self._taken))
        self._encoding = (tag, width)
        self._taken.clear()

    def _data_size(self, size: int) -> int | None:
        if size == 0xFFFFFFFF and self._ds64_data_size is not None:
            return self._ds64_data_size if 0 < self._ds64_data_size < 1 << 62 else None
        return size if 0 < size < _NOT_A_LENGTH else None

    def _read_trailer(self) -> None:
        """Read the chunks after the data, or the program that writes them gets SIGPIPE."""
        trailer = self._riff_size + 8 - self._position
        if 0 < trailer <= _MAX_TRAILER_BYTES:
            self._skip(trailer)


def read_wav_comment(stream: BinaryIO) -> str | None:
    """Read the INFO comment that stands before a WAV file's data.

    libsndfile gives up on comments of 2048 bytes and more.

    Returns:
        The comment; None if there is none or the stream is not a plain WAV file.
    """
    try:
        return WavStream(stream, label="").comment
    except (OtherEncodingError, AudioError):
        return None


def _find_comment(chunk: bytes) -> str | None:
    """Return the text of ICMT in the body of a LIST chunk."""
    position = 4
    while chunk[:4] == b"INFO" and position + 8 <= len(chunk):
        size = struct.unpack("<I", chunk[position + 4 : position + 8])[0]
        if chunk[position : position + 4] == b"ICMT":
            text = chunk[position + 8 : position + 8 + size]
            return text.split(b"\0", 1)[0].decode("utf-8", "replace")
        position += 8 + size + size % 2
    return None


def _to_float(data: bytes, encoding: tuple[int, int]) -> NDArray[np.float32]:
    """Scale like libsndfile does, so that a pipe and a file give the same samples."""
    tag, width = encoding
    codes = np.frombuffer(data, dtype=_DTYPES[encoding])
    if tag == _FLOAT:
        with np.errstate(over="ignore"):  # infinities are refused with a message further up
            return codes.astype(np.float32)
    if width == 1:
        return (codes.astype(np.float32) - 128) / np.float32(128)
    if width == 3:
        shifted = np.zeros((len(codes) // 3, 4), np.uint8)
        shifted[:, 1:] = codes.reshape(-1, 3)
        codes = shifted.view("<i4").reshape(-1)
    full_scale = 2 ** (15 if width == 2 else 31)
    return codes.astype(np.float32) / np.float32(full_scale)
