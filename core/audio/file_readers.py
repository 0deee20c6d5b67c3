"""Get samples out of bytes: WAV by our own parser, other formats with libsndfile.

In: a source that can be opened again, or a live stream. Out: blocks of float32 (T, C) at the
native rate. Which reader a source gets is decided in `core.audio.sources`; downmixing, cutting and
the checks of samples are in `core.audio.reader`.

Decoders silently stop at the end of what a header counts. Each reader here compares that with the
file: what was joined is read whole, and what cannot be read is logged in one line.
"""

from __future__ import annotations

import ctypes
import io
import logging
import os
import platform
import threading
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import soundfile

from core.audio import mpeg
from core.audio.joined import Span, copied, find_parts, is_ogg_complete
from core.audio.tags import Tags
from core.audio.wav import WavReader, report_contradictions
from core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    Blocks = Generator[NDArray[np.float32]]
    OpenStream = Callable[[], AbstractContextManager[BinaryIO]]

_logger = logging.getLogger(__name__)

_BLOCK_SECONDS = 1
_LIVE_BLOCK_SECONDS = 0.1  # at most, of what is there
_LEAST_LIVE_SECONDS = 0.005  # for which somebody may be waiting
_LENGTH_UNKNOWN = 1 << 60  # libsndfile gives 2**63 - 1
# Bytes of a file that need not be samples: headers, tags, pictures, what a decoder reads ahead.
_TOLERATED_BYTES = 1 << 16
_TOLERATED_SHARE = 0.02
_PCM_BYTES = {
    **{"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4},
    **{"FLOAT": 4, "DOUBLE": 8},
}


class NotRecognisedError(Exception):
    """The reader cannot read this kind of file; another one may."""


class FileReader(Protocol):
    """One source of samples.

    Attributes:
        sample_rate: Hz.
        n_channels: Channels.
        n_samples: Samples per channel in all; None when not known in advance.
        tags: Title, artist, album and comment.
        is_live: Can be read only once.
    """

    sample_rate: int
    n_channels: int
    n_samples: int | None
    tags: Tags
    is_live: bool

    def read(self, start: int) -> tuple[int, Blocks]:
        """Return where reading begins, at `start` or before it, and blocks of float32 (T, C)."""


class WavFileReader:
    """A WAV file of plain PCM or float; see `FileReader`."""

    def __init__(self, open_stream: OpenStream, label: str) -> None:
        self._open_stream = open_stream
        self._label = label
        self.is_live = False
        with self._open(is_logged=True) as wav:
            self.sample_rate = wav.format.sample_rate
            self.n_channels = wav.format.n_channels
            self.n_samples: int | None = wav.n_samples
            self.tags = wav.tags

    def read(self, start: int) -> tuple[int, Blocks]:
        """Return `start` and the blocks."""
        return start, self._blocks(start)

    def _blocks(self, start: int) -> Blocks:
        with self._open(is_logged=False) as wav:
            wav.skip_samples(start)
            yield from read_in_blocks(wav, _BLOCK_SECONDS)

    @contextmanager
    def _open(self, *, is_logged: bool) -> Iterator[WavReader]:
        with self._open_stream() as stream:
            file_bytes = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            yield WavReader(stream, label=self._label, file_bytes=file_bytes, is_logged=is_logged)


class LiveWavReader:
    """A WAV stream on a pipe, block by block as it arrives; see `FileReader`."""

    def __init__(self, wav: WavReader) -> None:
        self._wav = wav
        self.is_live = True
        self.sample_rate = wav.format.sample_rate
        self.n_channels = wav.format.n_channels
        self.n_samples: int | None = wav.n_samples
        self.tags = wav.tags

    def read(self, start: int) -> tuple[int, Blocks]:  # noqa: ARG002 - a pipe begins where it is
        """Return 0 and the blocks."""
        return 0, read_in_blocks(self._wav, _LIVE_BLOCK_SECONDS, at_least=_LEAST_LIVE_SECONDS)


class SndfileReader:
    """Whatever libsndfile reads, from a stream that can seek; see `FileReader`.

    Files that consist of several recordings, and mp3 files that contradict their headers, are
    decoded from copies of their parts.
    """

    def __init__(self, open_stream: OpenStream, label: str) -> None:
        self._open_stream = open_stream
        self._label = label
        self.is_live = False
        with open_stream() as stream:
            spans = find_parts(stream)
        self._parts = [_Part([span]) for span in spans] if len(spans) > 1 else []
        with self._open_first() as file:
            self.sample_rate: int = file.samplerate
            self.n_channels: int = file.channels
            self.n_samples = _known_length(file)
            self.tags = _tags_of(file)
            self._kind: str = file.format
            n_pcm_bytes = file.frames * file.channels * _PCM_BYTES.get(file.subtype, 0)
        self._can_seek = self._kind not in ("OGG", "MP3")
        with open_stream() as stream:
            self._compare_with_file(stream, n_pcm_bytes)
        if self._parts:
            self._can_seek = False
            self._read_part_headers()
        elif self.n_samples == 0 and self._kind in ("OGG", "FLAC", "MP3"):
            # ffmpeg reads what is there.
            raise NotRecognisedError("its length is missing: cut off?")

    def read(self, start: int) -> tuple[int, Blocks]:
        """Return where reading begins and the blocks."""
        start = start if self._can_seek else 0
        return start, self._blocks(start)

    def _compare_with_file(self, stream: BinaryIO, n_pcm_bytes: int) -> None:
        """Log what the header counts and the file lacks, and the other way round."""
        if self._kind == "MP3":
            self._count_frames(stream)
        elif self._kind == "OGG" and not is_ogg_complete(stream):
            _logger.warning("%s: ends without its last page; it may be cut off", self._label)
        elif self._parts:
            return
        elif self._kind in ("WAV", "WAVEX", "RF64"):
            report_contradictions(stream, self._label)
        elif self._kind in ("AIFF", "AU", "CAF", "W64", "VOC") and n_pcm_bytes:
            self._report_left_over(stream.seek(0, io.SEEK_END) - n_pcm_bytes, stream)
            self._report_cut(stream)

    def _count_frames(self, stream: BinaryIO) -> None:
        """Decode an MP3 file from copies of its parts, unless its header counts them rightly."""
        self.tags = mpeg.read_id3(stream)
        parts = mpeg.scan(stream)
        is_plain = len(parts) == 1 and parts[0].states_its_length and len(parts[0].spans) == 1
        self._parts = [] if is_plain else [_mpeg_part(part) for part in parts]

    def _read_part_headers(self) -> None:
        """Add up the parts' lengths, and check that they fit together."""
        total: int | None = 0
        with self._open_stream() as stream:
            for number, part in enumerate(self._parts, 1):
                try:
                    with part.opened(stream) as file:
                        found = (file.samplerate, file.channels)
                        length = _known_length(file)
                except NotRecognisedError as error:
                    raise AudioError(
                        f"{self._label}: joins {len(self._parts)} recordings, of which number "
                        f"{number} cannot be read ({error}); get a whole copy"
                    ) from error
                if found != (self.sample_rate, self.n_channels):
                    raise AudioError(
                        f"{self._label}: joins recordings of {self.sample_rate} Hz, "
                        f"{self.n_channels} channels and {found[0]} Hz, {found[1]} channels; "
                        "convert each by itself"
                    )
                total = None if total is None or length is None else total + length
        self.n_samples = total

    def _blocks(self, start: int) -> Blocks:
        if self._parts:
            with self._open_stream() as stream:
                for part in self._parts:
                    with part.opened(stream) as file:
                        yield from self._read_all(file)
            return
        with self._open_stream() as stream, _opened(stream) as file:
            if start:
                file.seek(start)
            yield from self._read_all(file)
            if self._kind == "FLAC":
                self._report_undecoded(stream)

    def _read_all(self, file: soundfile.SoundFile) -> Blocks:
        n_samples = _BLOCK_SECONDS * self.sample_rate
        while True:
            try:
                with _quiet_decoders:
                    block = file.read(n_samples, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                reason = error.error_string.removeprefix("Error : ").rstrip(".")
                raise AudioError(f"cannot be decoded ({reason}); get a whole copy") from error
            if not len(block):
                return
            yield cast("NDArray[np.float32]", block)

    @contextmanager
    def _open_first(self) -> Iterator[soundfile.SoundFile]:
        """Open the file, or its first part where it has several."""
        with self._open_stream() as stream:
            opened = self._parts[0].opened(stream) if self._parts else _opened(stream)
            with opened as file:
                yield file

    def _report_undecoded(self, stream: BinaryIO) -> None:
        """Log what lies behind the place where the decoder stopped reading."""
        try:
            position = os.lseek(stream.fileno(), 0, os.SEEK_CUR)
        except OSError:  # a stream in memory
            return
        self._report_left_over(os.fstat(stream.fileno()).st_size - position, stream)

    def _report_left_over(self, n_bytes: int, stream: BinaryIO) -> None:
        size = stream.seek(0, io.SEEK_END)
        if n_bytes > max(_TOLERATED_BYTES, _TOLERATED_SHARE * size):
            _logger.warning(
                "%s: %d of its %d bytes are not part of the sound that its header counts, and "
                "are not read",
                self._label,
                n_bytes,
                size,
            )

    def _report_cut(self, stream: BinaryIO) -> None:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        announced = _announced_bytes(stream.read(24))
        if announced > size:
            _logger.warning(
                "%s: is cut off: the last %d of the %d bytes that its header counts are missing",
                self._label,
                announced - size,
                announced,
            )


def _announced_bytes(head: bytes) -> int:
    """Return the size of the file that its first 24 bytes state; 0 if they state none."""
    if head[:4] == b"FORM":
        return 8 + int.from_bytes(head[4:8], "big")
    if head[:4] == b"riff":  # Sony's Wave64
        return int.from_bytes(head[16:24], "little")
    if head[:4] == b".snd" and head[8:12] != b"\xff" * 4:
        return int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big")
    return 0


class _Part:
    """One recording of a file that holds several."""

    def __init__(self, spans: list[Span], before: bytes = b"") -> None:
        self._spans = spans
        self._before = before

    @contextmanager
    def opened(self, stream: BinaryIO) -> Iterator[soundfile.SoundFile]:
        """Open a copy of the part."""
        with copied(stream, self._spans, self._before) as copy, _opened(copy) as file:
            yield file


def _mpeg_part(part: mpeg.MpegPart) -> _Part:
    if part.states_its_length:
        return _Part([part.header_span, *part.spans])
    return _Part(part.spans, mpeg.true_header(part))


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc] # soundfile is untyped
    """A file that soundfile does not reposition after each block.

    It does so with files that can seek, and in mp3 and ogg seeking is not exact: blocks read
    one after the other would not join up.
    """

    def seekable(self) -> bool:
        """Say no; `seek` itself still works."""
        return False


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[soundfile.SoundFile]:
    with ExitStack() as stack:
        with _quiet_decoders:
            try:
                file = stack.enter_context(_ForwardFile(_without_name(stream)))
            except soundfile.LibsndfileError as error:
                raise NotRecognisedError(error.error_string) from error
        yield file


def _known_length(file: soundfile.SoundFile) -> int | None:
    return file.frames if file.frames < _LENGTH_UNKNOWN else None


def _tags_of(file: soundfile.SoundFile) -> Tags:
    return Tags(file.title, file.artist, file.album, file.comment)


def _without_name(stream: BinaryIO) -> BinaryIO | int:
    """Return a descriptor for libsndfile to read and close; a stream in memory as it is.

    Given a name, libsndfile guesses headerless formats by the extension: text called x.au
    plays as noise. Given a Python stream, it swallows Ctrl-C in its callbacks.
    """
    try:
        descriptor = os.dup(stream.fileno())
    except OSError:
        return stream
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def read_in_blocks(wav: WavReader, seconds: float, *, at_least: float | None = None) -> Blocks:
    """Yield what is left of a WAV in blocks of this length, or of what has arrived by then."""
    rate = wav.format.sample_rate
    most = max(1, round(seconds * rate))
    least = most if at_least is None else max(1, round(at_least * rate))
    while len(block := wav.read(most, at_least=least)):
        yield block


class _QuietDecoders:
    """Silences the C library's `stderr`, to which libmpg123 writes a line for every damaged frame.

    The variable is pointed at /dev/null meanwhile. File descriptor 2 stays as it is, and with it
    everything that Python writes, on other threads too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_users = 0
        self._original: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._n_users += 1
            if self._n_users == 1 and (found := _c_stderr()):
                variable, nowhere = found
                self._original, variable.value = variable.value, nowhere

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_users -= 1
            if self._n_users == 0 and (found := _c_stderr()):
                found[0].value = self._original


@cache
def _c_stderr() -> tuple[ctypes.c_void_p, int] | None:
    """Return the C library's variable and a stream to /dev/null; None where it cannot be set."""
    names = {"Linux": "stderr", "Darwin": "__stderrp"}
    system = platform.system()
    # musl keeps the variable in memory that cannot be written.
    if system not in names or (system == "Linux" and platform.libc_ver()[0] != "glibc"):
        return None
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    nowhere = library.fopen(os.devnull.encode(), b"w")
    return (ctypes.c_void_p.in_dll(library, names[system]), nowhere) if nowhere else None


_quiet_decoders = _QuietDecoders()
