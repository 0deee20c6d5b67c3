"""Find recordings that were joined end to end in one file, as `cat a.flac b.flac > c.flac` does.

In: a file. Out: the start and end of each part. Decoders stop after the first part without a
warning; `core.audio.file_readers` decodes them one after the other from copies. MPEG audio has a
module of its own (`core.audio.mpeg`), and so has WAV.
"""

from __future__ import annotations

import io
import re
import struct
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO

from core.errors import AudioError
from core.files import temporary_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Span = tuple[int, int]  # start and end in bytes

# How a file of each kind begins, with what has to follow: eight bytes do not occur by chance.
_STARTS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"fLaC[\x00\x80]\x00\x00\x22",
        rb"FORM.{4}AIF[CF]",
        rb"caff\x00\x01\x00\x00desc\x00{7}\x20",
        rb"\.snd\x00\x00[\x00-\x10].{5}\x00{3}[\x01-\x1b]\x00",
        rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00",
        rb"Creative Voice File\x1a",
        rb"RIF[FX].{4}WAVEfmt ",
    )
)
_OGG_PAGE = re.compile(rb"OggS\x00([\x00-\x07])", re.DOTALL)
_OGG_FIRST_PAGE, _OGG_LAST_PAGE = 0x02, 0x04
_MAX_OGG_PAGE = 65_307  # bytes
_BLOCK_BYTES = 1 << 20
_OVERLAP_BYTES = 32  # longer than any of the markers
_MAX_BOXES = 10_000


def find_parts(stream: BinaryIO) -> list[Span]:
    """Find the recordings in a file that libsndfile reads.

    Args:
        stream: Able to seek; left anywhere.

    Returns:
        One span for most files; the whole file, where its kind is not known here.
    """
    stream.seek(0)
    head = stream.read(_OVERLAP_BYTES)
    if head.startswith(b"OggS"):
        return _ogg_parts(stream)
    for pattern in _STARTS:
        if pattern.match(head):
            return _spans([position for position, _ in _matches(stream, pattern)], stream)
    return _spans([], stream)


def _ogg_parts(stream: BinaryIO) -> list[Span]:
    """Find the logical streams that are chained in an Ogg file.

    Those that are played together begin together; a beginning after other pages is the next
    link of the chain.
    """
    starts: list[int] = []
    was_first = False
    for position, match in _matches(stream, _OGG_PAGE):
        is_first = bool(match[1][0] & _OGG_FIRST_PAGE)
        if is_first and not was_first:
            starts.append(position)
        was_first = is_first
    return _spans(starts, stream)


def is_ogg_complete(stream: BinaryIO) -> bool:
    """Whether the last page of an Ogg file is marked as the last.

    Args:
        stream: Able to seek; left anywhere.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(size - 2 * _MAX_OGG_PAGE, 0))
    flags = [match[1][0] for match in _OGG_PAGE.finditer(stream.read())]
    return bool(flags and flags[-1] & _OGG_LAST_PAGE)


def mp4_parts(stream: BinaryIO) -> list[Span]:
    """Find the recordings in an MP4 file (m4a, mov): each begins with a box `ftyp`.

    Args:
        stream: Able to seek; left anywhere.
    """
    size = stream.seek(0, io.SEEK_END)
    starts: list[int] = []
    position = 0
    for _ in range(_MAX_BOXES):
        stream.seek(position)
        head = stream.read(16)
        if len(head) < 8:
            break
        n_bytes, name = struct.unpack(">I4s", head[:8])
        if name == b"ftyp":
            starts.append(position)
        if n_bytes == 1 and len(head) == 16:
            n_bytes = struct.unpack(">Q", head[8:])[0]
        if n_bytes < 8 or position + n_bytes > size:  # 0: the last box, up to the end
            break
        position += n_bytes
    return _spans(starts, stream)


@contextmanager
def copied(stream: BinaryIO, spans: Iterable[Span], before: bytes = b"") -> Iterator[BinaryIO]:
    """Copy parts of a file into a temporary file.

    A file rather than a view: through one, libsndfile would call back into Python, where it
    swallows Ctrl-C; and ffmpeg takes nothing but files.

    Args:
        stream: Able to seek; left anywhere.
        spans: What to copy.
        before: What to put in front.

    Yields:
        The file, at its beginning; its `name` is a path.

    Raises:
        AudioError: There is no room for it.
    """
    with temporary_file(error=AudioError) as file:
        file.write(before)
        for start, stop in spans:
            stream.seek(start)
            left = stop - start
            while left > 0 and (piece := stream.read(min(left, _BLOCK_BYTES))):
                file.write(piece)
                left -= len(piece)
        file.rewind()
        yield file.stream


def _matches(stream: BinaryIO, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, re.Match[bytes]]]:
    """Yield where a pattern occurs in a file, reading it once."""
    stream.seek(0)
    before = b""
    position = found = 0
    while piece := stream.read(_BLOCK_BYTES):
        block = before + piece
        offset = position - len(before)
        for match in pattern.finditer(block):
            if offset + match.start() >= found:
                found = offset + match.end()
                yield offset + match.start(), match
        position += len(piece)
        before = block[-_OVERLAP_BYTES:]


def _spans(starts: list[int], stream: BinaryIO) -> list[Span]:
    size = stream.seek(0, io.SEEK_END)
    if len(starts) < 2:
        return [(0, size)]
    return list(pairwise([*starts, size]))
