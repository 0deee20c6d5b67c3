"""Choose how to decode a path or a stream, and copy to disk what cannot be read in passing.

In: what a user named or piped. Out: a `FileReader`, or an `AudioError` that names what is wrong.
WAV on a pipe is read as it arrives; any other stream that cannot seek is copied to a temporary
file first.
"""

from __future__ import annotations

import os
import stat
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from numpy.lib.format import MAGIC_PREFIX

from core.audio.ffmpeg import FfmpegReader
from core.audio.file_readers import (
    FileReader,
    LiveWavReader,
    NotRecognisedError,
    SndfileReader,
    WavFileReader,
)
from core.audio.formats import FFMPEG_EXTENSIONS, SNDFILE_EXTENSIONS, has_ffmpeg
from core.audio.wav import OtherEncodingError, WavReader
from core.errors import AudioError, input_label
from core.files import temporary_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack

_SPOOL_BYTES = 1 << 20
# How long a stream that looks like nothing is copied: /dev/zero has no end.
_MAX_UNKNOWN_BYTES = 1 << 26
_KNOWN_STARTS = (
    *(b"fLaC", b"OggS", b"ID3", b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff"),
    *(b".snd", b"riff", b"Creative Voice File", b"\x1a\x45\xdf\xa3", b"MAC ", b"wvPk", b"TTA1"),
    *(b"MPCK", b"MP+", b"FLV", b"#!AMR", b"DSD ", b".RMF", b"tBaK", b"\x0bw", b"\x00\x00\x01\xba"),
    b"\x30\x26\xb2\x75",  # ASF
)
_SNIFFED_BYTES = 512
_PLAYLISTS = {
    **{b"#extm3u": "m3u", b"ffconcat version": "ffconcat", b"[playlist]": "pls"},
    **{b"[reference]": "asx", b"<asx": "asx", b"<smil": "smil"},
}
_READABLE = f"{', '.join(SNDFILE_EXTENSIONS[:6])} …"


def open_path(
    path: Path, name: str, resources: ExitStack, *, is_reread: bool = False
) -> FileReader:
    """Open a file, a named pipe or the shell's <(command).

    Args:
        path: The file.
        name: How messages call it.
        resources: Gets what must live as long as the reader.
        is_reread: Whether it must be possible to read it again: a pipe is spooled then.

    Returns:
        A reader that has read the header.

    Raises:
        AudioError: Missing, empty, a directory, not audio, or in need of ffmpeg.
    """
    try:
        if path.is_dir():
            raise AudioError(f"{name}: is a directory; name the files in it")
        stream = resources.enter_context(path.open("rb"))
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return open_stream(stream, name, resources, is_reread=is_reread)
        if not stream.read(1):
            raise AudioError(f"{name}: is empty (0 bytes); an audio file is needed")
        stream.close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name}: cannot be opened ({reason}); check the path") from error
    return _open_seekable(lambda: path.open("rb"), path, name, resources)


def open_stream(
    stream: BinaryIO, name: str, resources: ExitStack, *, is_reread: bool = False
) -> FileReader:
    """Open a binary stream: in place if it can seek, live if it is WAV, else spooled.

    Args:
        stream: Not closed here.
        name: How messages call it.
        resources: Gets what must live as long as the reader.
        is_reread: As for `open_path`.

    Returns:
        A reader that has read the header.

    Raises:
        AudioError: Empty, not audio, or in need of ffmpeg; or no room to spool it.
    """
    if stream.seekable():
        stream.seek(0)
        if not stream.read(1):
            raise AudioError(f"{input_label(name)}: is empty (0 bytes); audio was expected")
        return _open_seekable(lambda: nullcontext(_rewound(stream)), None, name, resources)
    label = input_label(name)
    try:
        if not is_reread:
            return LiveWavReader(WavReader(stream, label=label))
        taken = stream.read(_SNIFFED_BYTES)
    except OtherEncodingError as error:
        taken = error.taken
    if not taken:
        raise AudioError(f"{label}: is empty; audio was expected")
    spooled = _spool(taken, stream, label, resources)
    return _open_seekable(lambda: spooled.open("rb"), spooled, name, resources)


def _rewound(stream: BinaryIO) -> BinaryIO:
    """Go back to the beginning, also when libsndfile has moved the descriptor meanwhile."""
    stream.seek(0, os.SEEK_END)  # drops the buffer, which a seek within it would keep
    stream.seek(0)
    return stream


def _open_seekable(
    reopen: Callable[[], AbstractContextManager[BinaryIO]],
    path: Path | None,
    name: str,
    resources: ExitStack,
) -> FileReader:
    """Choose our own WAV parser, libsndfile, or ffmpeg for what neither of them reads."""
    label = input_label(name)
    with reopen() as stream:
        _refuse_by_content(stream.read(_SNIFFED_BYTES), label)
    try:
        return WavFileReader(reopen, label)
    except OtherEncodingError:
        pass
    try:
        return SndfileReader(reopen, label)
    except NotRecognisedError as error:
        reason = str(error).removeprefix("Error : ").rstrip(".")
    if not has_ffmpeg():
        if name.rpartition(".")[2].lower() in FFMPEG_EXTENSIONS:
            hint = "install ffmpeg, through which it can be read, or convert it to wav"
        else:
            hint = f"readable: {_READABLE}; install ffmpeg to read other containers"
        raise AudioError(f"{label}: cannot be read as audio ({reason}); {hint}")
    if path is None:  # ffmpeg is given a name, never our stdin
        with reopen() as stream:
            path = _spool(b"", stream, label, resources)
    try:
        return FfmpegReader(path, label)
    except NotRecognisedError as error:
        raise AudioError(
            f"{label}: cannot be read as audio ({error}); "
            f"readable: {_READABLE}, and the sound of films and other containers"
        ) from None


def _refuse_by_content(head: bytes, label: str) -> None:
    """Raise an error for what decoders would take for audio, or for a list of it."""
    if head.startswith(MAGIC_PREFIX):  # long ones hold what an MP3 decoder takes for frames
        raise AudioError(f"{label}: is a NumPy array, not audio; `umt decode` takes latents")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, kind in _PLAYLISTS.items():
        if text.startswith(start):
            raise AudioError(f"{label}: is a playlist ({kind}), not audio; name the files it lists")


def _spool(taken: bytes, stream: BinaryIO, label: str, resources: ExitStack) -> Path:
    """Copy a stream, and the bytes already read from it, to a file that goes with the input."""
    file = resources.enter_context(temporary_file(error=AudioError))
    file.write(taken)
    n_bytes, head = len(taken), taken
    while piece := stream.read(_SPOOL_BYTES):
        head = head if len(head) >= _SNIFFED_BYTES else (head + piece)[:_SNIFFED_BYTES]
        n_bytes += len(piece)
        if n_bytes > _MAX_UNKNOWN_BYTES and not _is_known(head):
            raise AudioError(
                f"{label}: cannot be read as audio; the first {n_bytes >> 20} MB look like nothing "
                f"that is known: {_READABLE}; name the file instead of piping it"
            )
        file.write(piece)
    file.rewind()
    return Path(file.stream.name)


def _is_known(head: bytes) -> bool:
    """Whether a file that begins so is of a kind that can be audio."""
    is_mpeg = head[:1] == b"\xff" and head[1:2] >= b"\xe0"
    return (
        head.startswith(_KNOWN_STARTS)
        or is_mpeg
        or head[4:8] == b"ftyp"
        or head[::188][:2] == b"GG"
    )
