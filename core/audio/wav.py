"""Read RIFF/RF64 WAV, also from pipes, from the first byte to the last.

Our own parser, because libsndfile needs to seek and so cannot read a pipe. Files are read by
it too, so that a file and a pipe give the same samples. Plain PCM and float only; other
encodings raise `OtherEncodingError`, and the caller turns to libsndfile.

Headers of unfinished, cut or joined recordings contradict the file. What follows from that is
read where it is certain, and logged in one line otherwise. `core.audio.wav_writer` writes WAV.
"""

from __future__ import annotations

import io
import logging
import select
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from core.audio.tags import NO_TAGS, Tags, cleaned
from core.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_logger = logging.getLogger(__name__)

_STARTS = (b"RIFF", b"RF64", b"BW64")  # the last two with 64-bit sizes, alike but for the name
PCM, FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # format tags
_DTYPES = {
    (PCM, 1): "u1",  # 8-bit WAV is the only unsigned one
    (PCM, 2): "<i2",
    (PCM, 3): "u1",  # three bytes a sample, put together by hand
    (PCM, 4): "<i4",
    (FLOAT, 4): "<f4",
    (FLOAT, 8): "<f8",
}
# The GUID of a plain encoding in WAVE_FORMAT_EXTENSIBLE, after its two bytes of format tag.
_PLAIN_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
UNKNOWN_SIZE = 0xFFFFFFFF  # of data whose length is not known, or stands in ds64
# A writer that cannot seek back announces as much as fits: ffmpeg 0xFFFFFFFF, sox 0x7FFFF000
# less its header. On a pipe no such figure is a length.
_NOT_A_LENGTH = 0x7FFF0000
_SKIP_BYTES = 1 << 16
_MAX_CHUNKS = 10_000  # a file of zeros is an endless row of empty chunks
_MAX_FORMAT_BYTES = 1 << 12  # 40 in the longest known layout
_MAX_INFO_BYTES = 1 << 20  # more is not a comment; it is skipped unread
# Pictures and edit lists before the sound take a few megabytes. A damaged size takes gigabytes,
# which a pipe would have to deliver before the first sample.
_MAX_SKIPPED_BYTES = 1 << 26
_MAX_KEPT_BYTES = 1 << 20  # before the format; they are kept for libsndfile
_TRAILER_SECONDS = 1.0  # to wait for what may follow the data on a pipe
_TOLERATED_SECONDS = 0.01  # less than a header may be out without a remark

Bits = Literal["16", "24", "float"]  # of a sample, as it is written
BITS: tuple[Bits, ...] = ("16", "24", "float")

INFO_FIELDS = {b"INAM": "title", b"IART": "artist", b"IPRD": "album", b"ICMT": "comment"}


class OtherEncodingError(Exception):
    """The stream is not plain PCM or float WAV; `taken` holds the bytes already read."""

    def __init__(self, taken: bytes) -> None:
        super().__init__("not plain PCM or float WAV")
        self.taken = taken


class ByteStream:
    """Bytes of a pipe or file in order, with a limit to the time that nothing arrives.

    Attributes:
        stream: Where they come from.
        position: Bytes taken so far.
    """

    def __init__(self, stream: BinaryIO, *, is_fresh: bool = False) -> None:
        """Begin to read.

        Args:
            stream: Read forwards, apart from `skip`.
            is_fresh: Whether nothing has been read from it, so that its buffer is empty.
        """
        self.stream = stream
        # One read of the operating system at a time; a buffer that `select` does not know of
        # stays empty that way.
        self._read_some = getattr(stream, "read1", stream.read)
        self._may_hold_bytes = not is_fresh
        self.position = 0

    def take(
        self, n_bytes: int, *, at_least: int | None = None, timeout_seconds: float | None = None
    ) -> bytes:
        """Take this many bytes, fewer at the end of the stream only.

        Args:
            n_bytes: How many.
            at_least: How many are enough where no more have arrived; None for all.
            timeout_seconds: How long nothing may arrive; None for any time.

        Raises:
            TimeoutError: Nothing arrived for so long.
        """
        pieces = []
        wanted = n_bytes
        spare = 0 if at_least is None else n_bytes - at_least
        while wanted > spare:
            if timeout_seconds is not None and not self._may_hold_bytes:
                self._await(timeout_seconds)
            piece = self._read_some(wanted)
            self._may_hold_bytes = False
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        data = b"".join(pieces)
        self.position += len(data)
        return data

    def skip(self, n_bytes: int) -> None:
        """Pass over bytes: by seeking if the stream can, else by reading them."""
        if n_bytes > 0 and self.stream.seekable():
            self.stream.seek(n_bytes, 1)
            self.position += n_bytes
            return
        while n_bytes > 0 and (piece := self.take(min(n_bytes, _SKIP_BYTES))):
            n_bytes -= len(piece)

    def _await(self, seconds: float) -> None:
        try:
            descriptor = self.stream.fileno()
        except OSError:  # in memory: all of it is there
            return
        try:
            is_ready = bool(select.select([descriptor], [], [], seconds)[0])
        except OSError:  # Windows waits for sockets only: the read itself will wait
            return
        if not is_ready:
            raise TimeoutError(f"nothing arrived for {seconds:g} s")


@dataclass(frozen=True)
class WavFormat:
    """How samples stand in the data.

    Attributes:
        sample_rate: Hz.
        n_channels: Channels, interleaved.
        encoding: Format tag and bytes a sample of one channel.
    """

    sample_rate: int
    n_channels: int
    encoding: tuple[int, int]

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.n_channels * self.encoding[1]


class WavReader:
    """A WAV file or stream whose header has been read.

    Attributes:
        format: Rate, channels and encoding.
        n_samples: Samples per channel that will be read; None when not known.
        tags: From INFO chunks; of a pipe only from those before the data.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        label: str,
        file_bytes: int | None = None,
        timeout_seconds: float | None = None,
        is_logged: bool = True,
    ) -> None:
        """Read up to the first sample.

        Args:
            stream: Read forwards only.
            label: How messages call it.
            file_bytes: Size of the file, which then can seek; None for a pipe.
            timeout_seconds: How long nothing may arrive; None for any time. With a limit, nothing
                may have been read from the stream before.
            is_logged: Whether contradictions are logged; not when a file is read again.

        Raises:
            OtherEncodingError: Not RIFF/RF64 WAVE, or neither PCM nor float.
            AudioError: A WAV header that is cut off or contradicts itself.
        """
        self._bytes = ByteStream(stream, is_fresh=timeout_seconds is not None)
        self._label = label
        self._file_bytes = file_bytes
        self._timeout = timeout_seconds
        self._warn = _logger.warning if is_logged else _logger.debug
        self._taken = bytearray()  # kept only until the encoding is known
        self._format: WavFormat | None = None
        self._riff_start = 0
        self._unread: int | None = 0
        self._has_stated_length = False
        self.tags = NO_TAGS
        start = self._take(12)
        if start[:4] not in _STARTS or start[8:] != b"WAVE":
            raise OtherEncodingError(bytes(self._taken))
        self._read_header(start)
        n_bytes = self._unread
        self.n_samples = None if n_bytes is None else n_bytes // self.format.sample_bytes
        if self._file_bytes is not None:
            self._look_past_the_data()

    @property
    def format(self) -> WavFormat:
        """Rate, channels and encoding."""
        assert self._format is not None
        return self._format

    def read(self, n_samples: int, *, at_least: int | None = None) -> NDArray[np.float32]:
        """Read the next samples; waits for them.

        Args:
            n_samples: Samples per channel wanted.
            at_least: How many are waited for; None for all.

        Returns:
            float32 (T, C), in [-1, 1] for PCM. T is less than what is waited for at the end of a
            recording only, and 0 at the end of the last.

        Raises:
            TimeoutError: Nothing arrived for as long as was allowed.
            AudioError: Another recording follows, in another format.
        """
        at_least = n_samples if at_least is None else at_least
        data = self._read_data(n_samples, at_least)
        while not data and self._next_recording():
            data = self._read_data(n_samples, at_least)
        return _to_float(data, self.format.encoding).reshape(-1, self.format.n_channels)

    def skip_samples(self, n_samples: int) -> None:
        """Pass over the first samples of a file, which holds as many."""
        left = n_samples
        while left > 0:
            assert self._unread is not None
            n_skipped = min(left, self._unread // self.format.sample_bytes)
            self._bytes.skip(n_skipped * self.format.sample_bytes)
            self._unread -= n_skipped * self.format.sample_bytes
            left -= n_skipped
            if left and not self._next_recording():
                return

    def _read_data(self, n_samples: int, at_least: int) -> bytes:
        """Read whole samples of the current recording; none at its end."""
        size = self.format.sample_bytes
        wanted, enough = n_samples * size, at_least * size
        if self._unread is not None:
            wanted, enough = min(wanted, self._unread), min(enough, self._unread)
        data = self._bytes.take(wanted, at_least=enough, timeout_seconds=self._timeout)
        if len(data) % size and len(data) >= enough:  # the rest of a sample is on its way
            data += self._bytes.take(-len(data) % size, timeout_seconds=self._timeout)
        if self._unread is not None:
            self._unread -= len(data)
            if len(data) < enough and self._unread:
                self._report_missing(self._unread)
                self._unread = 0
        return data[: len(data) - len(data) % self.format.sample_bytes]

    def _report_missing(self, n_bytes: int) -> None:
        seconds = n_bytes / self.format.sample_bytes / self.format.sample_rate
        if seconds > _TOLERATED_SECONDS and self._has_stated_length:
            self._warn(
                "%s: is cut off: the last %.2f s that its header counts are missing",
                self._label,
                seconds,
            )

    def _take(self, n_bytes: int) -> bytes:
        """Read header bytes; those before the format are kept."""
        data = self._bytes.take(n_bytes, timeout_seconds=self._timeout)
        if self._format is None:
            self._taken += data
        return data

    def _read_header(self, start: bytes) -> None:
        """Read the chunks between "WAVE" and the samples."""
        self._riff_size = struct.unpack("<I", start[4:8])[0]
        self._riff_start = self._bytes.position - 12
        ds64_data_size: int | None = None
        n_skipped = n_chunks = 0
        before = self._format
        has_format = False
        while len(head := self._take(8)) == 8 and n_chunks < _MAX_CHUNKS:
            n_chunks += 1
            name, size = head[:4], struct.unpack("<I", head[4:])[0]
            if name == b"data":
                if not has_format:
                    raise AudioError(f"{self._label}: WAV data without a format before it")
                self._start_data(size, ds64_data_size)
                return
            if name == b"fmt ":
                own = self._parse_format(self._read_chunk(name, size, _MAX_FORMAT_BYTES))
                if before is not None and own != before:
                    raise AudioError(
                        f"{self._label}: joins recordings of {before.sample_rate} Hz and "
                        f"{own.sample_rate} Hz, or of other formats; convert each by itself"
                    )
                self._format, has_format = own, True
                self._taken.clear()
            elif name == b"ds64":
                sizes = self._read_chunk(name, size, _MAX_FORMAT_BYTES)
                if len(sizes) >= 16:
                    ds64_data_size = struct.unpack("<Q", sizes[8:16])[0]
            elif name == b"LIST" and size <= _MAX_INFO_BYTES:
                self.tags = self.tags.filled_from(_parse_info(self._read_chunk(name, size, size)))
            else:
                n_skipped += size
                self._skip_chunk(name, size, n_skipped)
        raise AudioError(f"{self._label}: ends inside its WAV header; it is cut off or damaged")

    def _read_chunk(self, name: bytes, size: int, largest: int) -> bytes:
        """Read a chunk's body and the byte that makes its length even."""
        if size > largest:
            raise AudioError(
                f"{self._label}: damaged WAV header ({name.decode('latin-1').strip()} of {size} "
                "bytes)"
            )
        return self._take(size + size % 2)[:size]

    def _skip_chunk(self, name: bytes, size: int, n_skipped: int) -> None:
        limit = _MAX_KEPT_BYTES if self._format is None else _MAX_SKIPPED_BYTES
        if self._file_bytes is None and n_skipped > limit:
            raise AudioError(
                f"{self._label}: its WAV header puts {n_skipped} bytes before the sound "
                f"({cleaned(name.decode('latin-1'))}); at most {limit} are read from a pipe: "
                "name the file instead"
            )
        if self._format is None and self._file_bytes is None:
            self._take(size + size % 2)
        else:
            self._bytes.skip(size + size % 2)

    def _parse_format(self, chunk: bytes) -> WavFormat:
        """Take rate, channels and encoding from the body of a `fmt ` chunk."""
        if len(chunk) < 16:
            raise AudioError(f"{self._label}: damaged WAV header (format of {len(chunk)} bytes)")
        tag, n_channels, rate, byte_rate, block, bits = struct.unpack("<HHIIHH", chunk[:16])
        if tag == _EXTENSIBLE and chunk[26:40] == _PLAIN_GUID_TAIL:
            tag = struct.unpack("<H", chunk[24:26])[0]
        if tag not in (PCM, FLOAT):
            raise OtherEncodingError(bytes(self._taken))
        if not (n_channels and rate and bits):
            raise AudioError(
                f"{self._label}: damaged WAV header ({n_channels} channels of {bits} bits at "
                f"{rate} Hz)"
            )
        # A sample of 20 bits stands in three bytes, in their upper bits.
        width = -(-bits // 8)
        if (tag, width) not in _DTYPES:
            raise OtherEncodingError(bytes(self._taken))
        if block != width * n_channels:
            self._check_block(block, n_channels, width, byte_rate == rate * n_channels * width)
        return WavFormat(rate, n_channels, (tag, width))

    def _check_block(
        self, block: int, n_channels: int, width: int, rate_agrees_with_bits: bool
    ) -> None:
        """Decide what holds where the block size contradicts bits and channels.

        A block too small for its samples is certainly wrong. A larger one might be right, and
        the bits or channels wrong, unless the bytes a second agree with these.
        """
        facts = f"blocks of {block} bytes for {n_channels} × {8 * width} bits"
        if block > n_channels * width and not rate_agrees_with_bits:
            raise AudioError(
                f"{self._label}: its WAV header contradicts itself ({facts}), and the sound "
                "cannot be told from noise; export it again"
            )
        _logger.info("%s: its WAV header contradicts itself (%s)", self._label, facts)

    def _start_data(self, size: int, ds64_size: int | None) -> None:
        """Decide how many bytes of samples follow; sets `_unread`, None when not known."""
        stated: int | None = size if size < UNKNOWN_SIZE else None
        if size == UNKNOWN_SIZE and ds64_size is not None:
            stated = ds64_size if 0 < ds64_size < 1 << 62 else None
        self._has_stated_length = stated is not None
        if self._file_bytes is None:
            is_length = stated is not None and (ds64_size is not None or stated < _NOT_A_LENGTH)
            self._unread = stated if stated and is_length else None
            return
        rest = max(self._file_bytes - self._bytes.position, 0)
        if stated is None or (stated > rest and ds64_size is None and stated >= _NOT_A_LENGTH):
            self._unread, self._has_stated_length = rest, False
        elif stated == 0 and rest and not self._is_chunk_at(self._bytes.position):
            self._warn(
                "%s: its header says that it holds no sound, as an interrupted recorder leaves "
                "it; read to the end of the file",
                self._label,
            )
            self._unread = rest
        else:
            if stated > rest:
                self._report_missing(stated - rest)
            self._unread = min(stated, rest)

    def _is_chunk_at(self, position: int) -> bool:
        """Whether a file has a chunk there that ends within it."""
        head = self._peek(position, 8)
        if len(head) < 8 or not _is_name(head[:4]):
            return False
        assert self._file_bytes is not None
        size = struct.unpack("<I", head[4:])[0]
        return bool(position + 8 + size <= self._file_bytes or head[:4] in _STARTS)

    def _peek(self, position: int, n_bytes: int) -> bytes:
        stream = self._bytes.stream
        here = stream.tell()
        stream.seek(here + position - self._bytes.position)
        data = stream.read(n_bytes)
        stream.seek(here)
        return data

    def _look_past_the_data(self) -> None:
        """Find what follows a file's first recording: tags, other recordings, left-over bytes."""
        stream, here, position = self._bytes.stream, self._bytes.stream.tell(), self._bytes.position
        unread, stated = self._unread, self._has_stated_length
        assert unread is not None
        assert self.n_samples is not None
        self._bytes.skip(unread)
        while self._next_recording():
            assert self._unread is not None
            self.n_samples += self._unread // self.format.sample_bytes
            self._bytes.skip(self._unread)
        stream.seek(here)
        self._bytes.position = position
        self._unread, self._has_stated_length = unread, stated

    def _next_recording(self) -> bool:
        """Read what follows the data; return whether that leads to another recording.

        `cat a.wav b.wav > c.wav` makes such a file. On a pipe this keeps the program that writes
        it from SIGPIPE, but does not wait long for the end.
        """
        if self._unread is None:
            return False
        if (self._bytes.position - self._riff_start) % 2:  # the byte that makes a length even
            self._take_trailing(1)
        for _ in range(_MAX_CHUNKS):
            if len(head := self._take_trailing(8)) < 8:
                break
            name, size = head[:4], struct.unpack("<I", head[4:])[0]
            if name in _STARTS:
                if self._file_bytes is None:
                    # Its length would have to stand in the header of what is made of it.
                    self._warn(
                        "%s: another recording follows the first in the pipe, and is not read; "
                        "name the file instead",
                        self._label,
                    )
                if self._take_trailing(4) != b"WAVE" or self._file_bytes is None:
                    return False
                self._read_header(head + b"WAVE")
                return True
            if not _is_name(name):
                self._report_left_over(head)
                return False
            if name == b"LIST" and size <= _MAX_INFO_BYTES:
                self.tags = self.tags.filled_from(_parse_info(self._take_trailing(size)))
                self._take_trailing(size % 2)
            elif self._file_bytes is None:
                self._drain(size + size % 2)
            else:
                self._bytes.skip(size + size % 2)
        return False

    def _drain(self, n_bytes: int) -> None:
        """Read a trailing chunk of a pipe."""
        while n_bytes > 0 and (piece := self._take_trailing(min(n_bytes, _SKIP_BYTES))):
            n_bytes -= len(piece)

    def _take_trailing(self, n_bytes: int) -> bytes:
        try:
            return self._bytes.take(n_bytes, timeout_seconds=_TRAILER_SECONDS)
        except TimeoutError:
            return b""

    def _report_left_over(self, head: bytes) -> None:
        """Name bytes after the data that are neither chunks nor the zeros that fill a block."""
        if self._file_bytes is None or not any(head):
            return
        n_bytes = self._file_bytes - self._bytes.position + len(head)
        seconds = n_bytes / self.format.sample_bytes / self.format.sample_rate
        if seconds > _TOLERATED_SECONDS:
            self._warn(
                "%s: %d bytes after the sound that its header counts are not read (%.2f s if they "
                "are sound, too)",
                self._label,
                n_bytes,
                seconds,
            )


def report_contradictions(stream: BinaryIO, label: str) -> None:
    """Log what a WAV file of any encoding lacks of what its header counts, or has beyond.

    Args:
        stream: Able to seek; left anywhere.
        label: How messages call it.
    """
    size = stream.seek(0, io.SEEK_END)
    position = 12
    for _ in range(_MAX_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            return
        stated = struct.unpack("<I", head[4:])[0]
        rest = size - position - 8
        if head[:4] == b"data" and rest < stated < _NOT_A_LENGTH:
            _logger.warning(
                "%s: is cut off: the last %d of the %d bytes of sound that its header counts are "
                "missing",
                label,
                stated - rest,
                stated,
            )
        position += 8 + stated + stated % 2
        if head[:4] == b"data":
            stream.seek(position)
            after = stream.read(4)
            if any(after) and not _is_name(after):
                _logger.warning(
                    "%s: %d bytes after the sound that its header counts are not read",
                    label,
                    size - position,
                )
            return


def _is_name(name: bytes) -> bool:
    """Whether four bytes can be the name of a chunk."""
    return all(0x20 <= byte < 0x7F for byte in name)


def _parse_info(chunk: bytes) -> Tags:
    """Take the texts from the body of a LIST chunk."""
    position = 4
    found: dict[str, str] = {}
    while chunk[:4] == b"INFO" and position + 8 <= len(chunk):
        size = struct.unpack("<I", chunk[position + 4 : position + 8])[0]
        name = INFO_FIELDS.get(chunk[position : position + 4])
        if name:
            text = chunk[position + 8 : position + 8 + size].split(b"\0", 1)[0]
            found.setdefault(name, _decode(text))
        position += 8 + size + size % 2
    return Tags(**found)


def _decode(text: bytes) -> str:
    """Decode a text whose encoding the format leaves open: UTF-8, or what Windows wrote."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace")


def _to_float(data: bytes, encoding: tuple[int, int]) -> NDArray[np.float32]:
    """Scale like libsndfile does, so that all formats of one recording give the same samples."""
    tag, width = encoding
    codes = np.frombuffer(data, dtype=_DTYPES[encoding])
    if tag == FLOAT:
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
