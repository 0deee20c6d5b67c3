"""The three ways to get samples out of bytes: libsndfile, ffmpeg, and WAV as it arrives.

In: a source that can be opened again, or a live stream. Out: blocks of float32 (T, C) at the
native rate. What they do not do: downmix, cut, check samples; `core.audio.reader` does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol, cast

import soundfile

from core.audio.mpeg import StretchedStream, states_length
from core.audio.wav import OtherEncodingError, WavStream, read_wav_comment
from core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Blocks = Generator[NDArray[np.float32]]

_BLOCK_SECONDS = 1
_LIVE_BLOCK_SECONDS = 0.1  # for which somebody may be waiting
_LENGTH_UNKNOWN = 1 << 60  # libsndfile says 2**63 - 1


class NotRecognisedError(Exception):
    """The decoder does not know this kind of file; another one may."""


class Decoder(Protocol):
    """One source of samples.

    Attributes:
        sample_rate: Hz.
        n_channels: Channels.
        n_samples: Samples per channel in all; None when not known in advance.
        comment: The comment tag, if any.
        is_live: Can be read only once.
    """

    sample_rate: int
    n_channels: int
    n_samples: int | None
    comment: str | None
    is_live: bool

    def read(self, start: int) -> tuple[int, Blocks]:
        """Return where reading begins, at `start` or before it, and blocks of float32 (T, C)."""


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc] # soundfile is untyped
    """A file that soundfile does not reposition after each block.

    It does so with files that can seek, and in mp3 and ogg seeking is not exact: blocks read
    one after the other would not join up.
    """

    def seekable(self) -> bool:
        """Say no; `seek` itself still works."""
        return False


class SndfileDecoder:
    """Whatever libsndfile reads, from a stream that can seek."""

    def __init__(self, open_stream: Callable[[], AbstractContextManager[BinaryIO]]) -> None:
        self._open_stream = open_stream
        self._is_stretched = False
        self.is_live = False
        with self._open() as file:
            self.sample_rate: int = file.samplerate
            self.n_channels: int = file.channels
            self.n_samples: int | None = file.frames if file.frames < _LENGTH_UNKNOWN else None
            self.comment: str | None = file.comment or None
            kind = file.format
        self._can_seek = kind not in ("OGG", "MP3")
        if self.n_samples == 0 and kind in ("OGG", "FLAC", "MP3"):
            raise NotRecognisedError(
                "its length is missing: cut off?"
            )  # ffmpeg reads what is there
        with open_stream() as stream:
            if kind in ("WAV", "WAVEX", "RF64"):
                self.comment = read_wav_comment(stream) or self.comment
            elif kind == "MP3" and not states_length(stream):
                self._is_stretched = True
                self.n_samples = None

    def read(self, start: int) -> tuple[int, Blocks]:
        """Return where reading begins and the blocks."""
        start = start if self._can_seek else 0
        return start, self._blocks(start)

    def _blocks(self, start: int) -> Blocks:
        with self._open() as file:
            if start:
                file.seek(start)
            while len(block := self._read_block(file)):
                yield block

    def _read_block(self, file: soundfile.SoundFile) -> NDArray[np.float32]:
        try:
            n_samples = _BLOCK_SECONDS * self.sample_rate
            return cast(
                "NDArray[np.float32]", file.read(n_samples, dtype="float32", always_2d=True)
            )
        except soundfile.LibsndfileError as error:
            reason = error.error_string.removeprefix("Error : ").rstrip(".")
            raise AudioError(f"cannot be decoded ({reason}); get a whole copy") from error

    @contextmanager
    def _open(self) -> Iterator[soundfile.SoundFile]:
        with self._open_stream() as stream:
            try:
                file = _ForwardFile(
                    StretchedStream(stream) if self._is_stretched else _without_name(stream)
                )
            except soundfile.LibsndfileError as error:
                raise NotRecognisedError(error.error_string) from error
            with file:
                yield file


class LiveWavDecoder:
    """A WAV stream on a pipe, block by block as it arrives."""

    def __init__(self, wav: WavStream) -> None:
        self._wav = wav
        self.is_live = True
        self.sample_rate = wav.sample_rate
        self.n_channels = wav.n_channels
        self.n_samples = wav.n_samples
        self.comment = wav.comment

    def read(self, start: int) -> tuple[int, Blocks]:  # noqa: ARG002 - a pipe begins where it is
        """Return 0 and the blocks."""
        return 0, _wav_blocks(self._wav, _LIVE_BLOCK_SECONDS)


class FfmpegDecoder:
    """The first audio stream of any file that ffmpeg opens, at its native rate."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_live = False
        self.n_samples: int | None = None  # containers tell a duration, but not to the sample
        self.comment: str | None = None
        with self._run() as (process, log):
            wav = _open_output(process, log)
            self.sample_rate = wav.sample_rate
            self.n_channels = wav.n_channels

    def read(self, start: int) -> tuple[int, Blocks]:  # noqa: ARG002 - seeking is not exact
        """Return 0 and the blocks."""
        return 0, self._blocks()

    def _blocks(self) -> Blocks:
        with self._run() as (process, log):
            with closing(_wav_blocks(_open_output(process, log), _BLOCK_SECONDS)) as blocks:
                yield from blocks
            if process.wait() != 0:
                raise AudioError(f"cannot be decoded ({_last_line(log)}); get a whole copy")

    @contextmanager
    def _run(self) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        """Start ffmpeg with WAV on its stdout; stop it on leaving."""
        program = shutil.which("ffmpeg")
        if program is None:
            raise NotRecognisedError("ffmpeg is not installed")
        command = [program, "-nostdin", "-v", "error"]
        # Files only: a playlist must not make us go to the network.
        command += ["-protocol_whitelist", "file", "-i", f"file:{self._path}", "-map", "0:a:0"]
        command += ["-f", "wav", "-c:a", "pcm_f32le", "pipe:1"]
        with (
            tempfile.TemporaryFile() as log,
            subprocess.Popen(  # noqa: S603 - no shell, and the path cannot be an option
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            ) as process,
        ):
            try:
                yield process, log
            finally:
                process.kill()


def _open_output(process: subprocess.Popen[bytes], log: IO[bytes]) -> WavStream:
    """Read the header of ffmpeg's output; there is none when it failed."""
    assert process.stdout is not None
    try:
        return WavStream(cast("BinaryIO", process.stdout), label="ffmpeg's output")
    except OtherEncodingError as error:
        process.wait()
        raise NotRecognisedError(_last_line(log)) from error


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").splitlines()
    return lines[-1].strip() if lines else "no sound in it"


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


def _wav_blocks(wav: WavStream, seconds: float) -> Blocks:
    while len(block := wav.read(max(1, round(seconds * wav.sample_rate)))):
        yield block
