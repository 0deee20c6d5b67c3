"""Choose how to decode a path or a stream, and copy to disk what cannot be read in passing.

In: what a user named or piped. Out: a `Decoder`, or an `AudioError` that says what is wrong.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from numpy.lib.format import MAGIC_PREFIX

from core.audio.decoders import (
    Decoder,
    FfmpegDecoder,
    LiveWavDecoder,
    NotRecognisedError,
    SndfileDecoder,
)
from core.audio.formats import FFMPEG_EXTENSIONS, SNDFILE_EXTENSIONS, has_ffmpeg
from core.audio.wav import OtherEncodingError, WavStream
from core.errors import AudioError, input_label

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack

_SPOOL_BYTES = 1 << 20
_READABLE = f"{', '.join(SNDFILE_EXTENSIONS[:6])} …"


def decode_path(path: Path, name: str, resources: ExitStack) -> Decoder:
    """Open a file, a named pipe or the shell's <(command).

    Args:
        path: The file.
        name: How messages call it.
        resources: Gets what must live as long as the decoder.

    Returns:
        A decoder that has read the header.

    Raises:
        AudioError: Missing, empty, a directory, not audio, or in need of ffmpeg.
    """
    try:
        if path.is_dir():
            raise AudioError(f"{name}: is a directory; name the files in it")
        stream = resources.enter_context(path.open("rb"))
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return decode_stream(stream, name, resources)
        if not stream.read(1):
            raise AudioError(f"{name}: is empty (0 bytes); an audio file is needed")
        stream.close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name}: cannot be opened ({reason}); check the path") from error
    return _decode_seekable(lambda: path.open("rb"), path, name, resources)


def decode_stream(stream: BinaryIO, name: str, resources: ExitStack) -> Decoder:
    """Open a binary stream: in place if it can seek, live if it is WAV, else spooled.

    Args:
        stream: Not closed here.
        name: How messages call it.
        resources: Gets what must live as long as the decoder.

    Returns:
        A decoder that has read the header.

    Raises:
        AudioError: Empty, not audio, or in need of ffmpeg; or no room to spool it.
    """
    if stream.seekable():
        stream.seek(0)
        if not stream.read(1):
            raise AudioError(f"{input_label(name)}: is empty (0 bytes); audio was expected")
        return _decode_seekable(lambda: nullcontext(_rewound(stream)), None, name, resources)
    try:
        return LiveWavDecoder(WavStream(stream, label=input_label(name)))
    except OtherEncodingError as error:
        if not error.taken:
            raise AudioError(f"{input_label(name)}: is empty; audio was expected") from error
        spooled = _spool(error.taken, stream, name, resources)
    return _decode_seekable(lambda: spooled.open("rb"), spooled, name, resources)


def _rewound(stream: BinaryIO) -> BinaryIO:
    """Go back to the beginning, also when libsndfile has moved the descriptor meanwhile."""
    stream.seek(0, os.SEEK_END)  # drops the buffer, which a seek within it would keep
    stream.seek(0)
    return stream


def _decode_seekable(
    open_stream: Callable[[], AbstractContextManager[BinaryIO]],
    path: Path | None,
    name: str,
    resources: ExitStack,
) -> Decoder:
    """Choose libsndfile, or ffmpeg for what it does not know."""
    with open_stream() as stream:
        is_array = stream.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX
    if is_array:  # long ones hold what an MP3 decoder takes for frames
        raise AudioError(
            f"{input_label(name)}: is a NumPy array, not audio; `umt decode` takes latents"
        )
    try:
        return SndfileDecoder(open_stream)
    except NotRecognisedError as error:
        reason = str(error).removeprefix("Error : ").rstrip(".")
    if not has_ffmpeg():
        if name.rpartition(".")[2].lower() in FFMPEG_EXTENSIONS:
            hint = "install ffmpeg, through which it can be read, or convert it to wav"
        else:
            hint = f"readable: {_READABLE}; install ffmpeg to read other containers"
        raise AudioError(f"{input_label(name)}: cannot be read as audio ({reason}); {hint}")
    if path is None:  # ffmpeg is given a name, never our stdin
        with open_stream() as stream:
            path = _spool(b"", stream, name, resources)
    try:
        return FfmpegDecoder(path)
    except NotRecognisedError:
        raise AudioError(
            f"{input_label(name)}: cannot be read as audio ({reason}); "
            f"readable: {_READABLE}, and whatever ffmpeg reads"
        ) from None


def _spool(taken: bytes, stream: BinaryIO, name: str, resources: ExitStack) -> Path:
    """Copy a stream, and the bytes already read from it, to a file that goes with the input."""
    try:
        file = resources.enter_context(tempfile.NamedTemporaryFile(prefix="umt-"))  # noqa: SIM115 - it is one
        file.write(taken)
        shutil.copyfileobj(stream, file, _SPOOL_BYTES)
        file.flush()
    except OSError as error:
        raise AudioError(
            f"{input_label(name)}: cannot be copied to {tempfile.gettempdir()} "
            f"({error.strerror}); set TMPDIR to a directory with room"
        ) from error
    return Path(file.name)
