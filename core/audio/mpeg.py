"""Find the frames of MPEG audio files (mp3), and the texts of their ID3 tags.

libsndfile trusts the length in the first frame, and estimates it from the bit rate where there is
none. Of files that were joined, cut or edited it silently loses the rest. `scan` counts the frames
instead. A file that contradicts its header is decoded from a copy of its frames with a true header
in front (`true_header`).
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from core.audio.tags import NO_TAGS, Tags

if TYPE_CHECKING:
    from collections.abc import Iterator

# kbit/s by MPEG version (1, or 2 and 2.5) and layer.
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {
    1: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    3: (11_025, 12_000, 8_000),
}
_START_BYTES = 64
# What a frame or a tag begins with; the third byte of a frame has a bit rate in it.
_SYNC = re.compile(rb"\xff[\xe2-\xff][\x10-\xef]|ID3|APETAGEX")
_SYNC_BYTES = 1 << 12
_MAX_TRIES = 100_000  # to find the next frame; the rest of such a file is no MPEG
_TOLERATED_FRAMES = 2  # encoders count the header's own frame, or do not
_MAX_ID3_BYTES = 1 << 24  # of which texts are read; pictures are larger
_ID3_FIELDS = {
    **{"TIT2": "title", "TPE1": "artist", "TALB": "album", "COMM": "comment"},
    **{"TT2": "title", "TP1": "artist", "TAL": "album", "COM": "comment"},  # ID3v2.2
}
_ID3_CODECS = ("latin-1", "utf-16", "utf-16-be", "utf-8")


@dataclass(frozen=True)
class FrameHeader:
    """The four bytes that begin each frame.

    Attributes:
        sample_rate: Hz.
        n_channels: 1 or 2.
        n_samples: Samples per channel in the frame.
        n_bytes: Length of the frame with its header.
        side_bytes: Bytes between the header and where a length header would stand.
        version: MPEG 1, 2, or 3 for 2.5.
        layer: 1 to 3.
    """

    sample_rate: int
    n_channels: int
    n_samples: int
    n_bytes: int
    side_bytes: int
    version: int
    layer: int

    @property
    def kind(self) -> tuple[int, int, int]:
        """What stays the same within a recording."""
        return self.version, self.layer, self.sample_rate


@dataclass
class MpegPart:
    """One recording in an MPEG file.

    Attributes:
        header: Of its first frame.
        head: The four bytes of that header.
        stated_frames: Frames that its length header counts; None without one.
        n_frames: Frames that hold sound.
        spans: Start and end of each run of frames with nothing between them; the frame with
            the length header is not among them.
        header_span: Start and end of that frame.
    """

    header: FrameHeader
    head: bytes
    stated_frames: int | None
    header_span: tuple[int, int]
    n_frames: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)

    @property
    def states_its_length(self) -> bool:
        """Whether a decoder that trusts the length header gets all that is there."""
        return (
            self.stated_frames is not None
            and self.n_frames <= self.stated_frames + _TOLERATED_FRAMES
        )

    def add(self, start: int, stop: int) -> None:
        """Add a frame with sound."""
        self.n_frames += 1
        if self.spans and self.spans[-1][1] == start:
            self.spans[-1] = (self.spans[-1][0], stop)
        else:
            self.spans.append((start, stop))


@lru_cache(maxsize=1024)  # a recording has a few different ones, many times
def parse_frame_header(head: bytes) -> FrameHeader | None:
    """Parse the four bytes that begin a frame; None if they do not."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version = {0: 3, 2: 2, 3: 1}.get(head[1] >> 3 & 3)
    layer = 4 - (head[1] >> 1 & 3)
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version is None or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None  # 0 would be a free bit rate, which nobody writes
    sample_rate = _SAMPLE_RATES[version][rate]
    bits = 1000 * _BIT_RATES[min(version, 2), layer][bit_rate - 1]
    padding = head[2] >> 1 & 1
    n_channels = 1 if head[3] >> 6 == 3 else 2
    if layer == 1:
        n_samples, n_bytes = 384, (12 * bits // sample_rate + padding) * 4
    else:
        n_samples = 576 if layer == 3 and version > 1 else 1152
        n_bytes = n_samples // 8 * bits // sample_rate + padding
    side = {(True, 2): 32, (True, 1): 17, (False, 2): 17, (False, 1): 9}[version == 1, n_channels]
    return FrameHeader(sample_rate, n_channels, n_samples, n_bytes, side, version, layer)


def scan(stream: BinaryIO) -> list[MpegPart]:
    """Find the recordings in an MPEG file by walking from frame to frame.

    Each length header begins a recording, as files joined end to end have several.

    Args:
        stream: Able to seek; left anywhere.

    Returns:
        The recordings; none if the file does not consist of frames.
    """
    parts: list[MpegPart] = []
    for position, start, header in _frames(stream):
        length = _stated_frames(start, header)
        if not parts or length is not None or header.kind != parts[-1].header.kind:
            end = position + (0 if length is None else header.n_bytes)
            parts.append(MpegPart(header, start[:4], length, (position, end)))
        if length is None:
            parts[-1].add(position, position + header.n_bytes)
    return [part for part in parts if part.n_frames]


def true_header(part: MpegPart) -> bytes:
    """Build the frame that states how many frames follow it, as libsndfile expects it."""
    # Of the highest bit rate, so that it is long enough.
    head = bytearray(part.head)
    head[1] |= 1  # without a checksum
    head[2] = 0xE0 | head[2] & 0x0C
    header = parse_frame_header(bytes(head))
    assert header is not None
    body = bytes(header.side_bytes) + b"Info" + struct.pack(">II", 1, part.n_frames)
    return (bytes(head) + body).ljust(header.n_bytes, b"\0")


def read_id3(stream: BinaryIO) -> Tags:
    """Read the texts of the ID3v2 tag that begins a file.

    Not through libsndfile: its decoder writes about damaged tags on stderr.

    Args:
        stream: Able to seek; left anywhere.
    """
    stream.seek(0)
    n_bytes = _id3_bytes(stream.read(10))
    if not 10 < n_bytes <= _MAX_ID3_BYTES:
        return NO_TAGS
    stream.seek(0)
    tag = stream.read(n_bytes)
    version, flags, body = tag[3], tag[5], tag[10:]
    if flags & 0x80 and version < 4:  # zeros were put after 0xFF, so that no frame seems to begin
        body = body.replace(b"\xff\0", b"\xff")
    if flags & 0x40 and version > 2:  # an extended header comes first
        size = struct.unpack(">I", body[:4].ljust(4, b"\0"))[0]
        body = body[_syncsafe(body[:4]) if version == 4 else size + 4 :]
    found: dict[str, str] = {}
    for name, content in _id3_frames(body, version):
        key = _ID3_FIELDS.get(name)
        if key and len(content) > 1:
            text = _id3_text(content[1:], content[0], is_comment=key == "comment")
            found[key] = found.get(key) or text
    return Tags(**found)


def _frames(stream: BinaryIO) -> Iterator[tuple[int, bytes, FrameHeader]]:
    """Yield position, first bytes and header of each frame, past tags and damaged stretches.

    The first bytes are 64, or all.
    """
    size = stream.seek(0, io.SEEK_END)
    position = n_tries = 0
    is_in_step = False  # whether a frame ended here
    while position + 4 <= size and n_tries < _MAX_TRIES:
        stream.seek(position)
        start = stream.read(_START_BYTES)
        header = parse_frame_header(start[:4])
        if header is not None and (is_in_step or _is_followed(stream, position, header, size)):
            if position + header.n_bytes > size:
                return  # cut off
            yield position, start, header
            position += header.n_bytes
            is_in_step = True
            continue
        is_in_step = False
        n_tries += 1
        tag_bytes = _id3_bytes(start[:10]) or _ape_bytes(stream, position)
        position = position + tag_bytes if tag_bytes else _next_sync(stream, position + 1, size)


def _is_followed(stream: BinaryIO, position: int, header: FrameHeader, size: int) -> bool:
    """Whether two more frames of its kind, or the end of the file, follow where this one ends."""
    following: FrameHeader | None = header
    for _ in range(2):
        assert following is not None
        position += following.n_bytes
        if position == size:
            return True
        stream.seek(position)
        following = parse_frame_header(stream.read(4))
        if following is None or following.kind != header.kind:
            return False
    return True


def _next_sync(stream: BinaryIO, position: int, size: int) -> int:
    """Return the next place where a frame or a tag could begin; the size if there is none."""
    while position < size:
        stream.seek(position)
        block = stream.read(_SYNC_BYTES)
        if match := _SYNC.search(block):
            return position + match.start()
        position += max(len(block) - 7, 1)  # a tag's name may begin in what is left
    return size


def _stated_frames(start: bytes, header: FrameHeader) -> int | None:
    """Return what a frame that only states a length counts; None for a frame with sound."""
    if header.layer != 3:
        return None
    place = 4 + header.side_bytes
    if start[place : place + 4] in (b"Xing", b"Info"):
        flags, n_frames = struct.unpack(">II", start[place + 4 : place + 12].ljust(8, b"\0"))
        return int(n_frames) if flags & 1 else 0
    if start[36:40] == b"VBRI":
        return int(struct.unpack(">I", start[50:54].ljust(4, b"\0"))[0])
    return None


def _id3_bytes(head: bytes) -> int:
    """Return the length of the ID3v2 tag that begins so; 0 if none does."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    footer = 10 if head[5] & 0x10 else 0
    return 10 + _syncsafe(head[6:10]) + footer


def _ape_bytes(stream: BinaryIO, position: int) -> int:
    """Return the length of the APE tag that begins there; 0 if none does."""
    stream.seek(position)
    head = stream.read(16)
    if head[:8] != b"APETAGEX" or len(head) < 16:
        return 0
    n_bytes = 32 + int(struct.unpack("<I", head[12:16])[0])
    size = stream.seek(0, io.SEEK_END)
    return n_bytes if position + n_bytes <= size else 0


def _syncsafe(size: bytes) -> int:
    """Return a size that has seven bits in each byte."""
    value = 0
    for byte in size:
        value = value << 7 | byte & 127
    return value


def _id3_frames(body: bytes, version: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of an ID3v2 tag's frames."""
    n_name, n_head = (3, 6) if version == 2 else (4, 10)
    position = 0
    while position + n_head <= len(body) and body[position]:
        name = body[position : position + n_name].decode("latin-1")
        size_bytes = body[position + n_name : position + 2 * n_name]
        size = _syncsafe(size_bytes) if version == 4 else int.from_bytes(size_bytes, "big")
        position += n_head
        yield name, body[position : position + size]
        position += size


def _id3_text(content: bytes, encoding: int, *, is_comment: bool) -> str:
    """Decode a text; a comment has a language and a description before it."""
    if encoding >= len(_ID3_CODECS):
        return ""
    content = content[3 * is_comment :]
    try:
        # Many writers, LAME in libsndfile among them, put UTF-8 where the tag states Latin-1.
        text = content.decode("utf-8" if encoding == 0 else _ID3_CODECS[encoding])
    except UnicodeError:
        text = content.decode(_ID3_CODECS[encoding], "replace")
    pieces = text.split("\0")
    return pieces[1].lstrip("\ufeff") if is_comment and len(pieces) > 1 else pieces[0]
