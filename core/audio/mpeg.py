"""Read mp3 files that do not say how long they are.

libsndfile takes the length of such a file from the bit rate of its first frame, and stops
there: a file of variable bit rate that begins loud loses most of its sound. Here such files
are recognised, and presented as so long that the estimate never comes first.
"""

from __future__ import annotations

import io
from typing import BinaryIO

# Names of the headers that count frames: LAME's and FhG's, in the first frame.
_LENGTH_HEADERS = (b"Xing", b"Info", b"VBRI")
_FIRST_FRAME_BYTES = 4096  # the longest frame is 1441 bytes; tags may be padded
# Bit rates differ by a factor of 40 at most: 320 against 8 kbit/s.
_STRETCH = 64
_ID3V1_BYTES = 128


def states_length(stream: BinaryIO) -> bool:
    """Say whether an mp3 file has a header with its number of frames.

    Args:
        stream: Able to seek; left anywhere.

    Returns:
        False when libsndfile can only estimate the length.
    """
    stream.seek(0)
    head = stream.read(10)
    first_frame = 0
    if head[:3] == b"ID3" and len(head) == 10:  # its size has seven bits in each byte
        first_frame = 10 + sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    stream.seek(first_frame)
    frame = stream.read(_FIRST_FRAME_BYTES)
    return any(name in frame for name in _LENGTH_HEADERS)


class StretchedStream(io.RawIOBase):
    """A stream that claims to be 64 times as long as it is; nothing follows its real end.

    The last 128 claimed bytes read as zeros, because decoders look for a tag there.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._claimed = stream.seek(0, io.SEEK_END) * _STRETCH + _ID3V1_BYTES
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to any place within the claimed length."""
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._claimed}
        self._position = origins[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # all that libsndfile passes
        """Fill a buffer from the real stream, or with the zeros at the claimed end."""
        wanted = len(buffer)
        if self._position >= self._claimed - _ID3V1_BYTES:
            data = bytes(min(wanted, max(self._claimed - self._position, 0)))
        else:
            self._stream.seek(self._position)
            data = self._stream.read(wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
