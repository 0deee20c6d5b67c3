"""Open any audio source as one float32 stream, mono or stereo, and read it block by block.

In: a path, a pipe or an open file, at any rate and channel count. Out: blocks of about one
second, however long the source is. Levels are not touched here (`core.audio.levels`).
"""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np

from core.audio.downmix import Downmix
from core.audio.file_readers import NotRecognisedError
from core.audio.provenance import Provenance
from core.audio.resampling import resample_blocks
from core.audio.sources import open_path, open_stream
from core.audio.wav import OtherEncodingError
from core.errors import AudioError, UsageError, input_label

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from core.audio.file_readers import FileReader

_logger = logging.getLogger(__name__)

MIN_SAMPLE_RATE = 1_000  # Hz
MAX_SAMPLE_RATE = 384_000  # Hz
MAX_CHANNELS = 8
# Headers of mp3 files that were cut or joined are often a few frames out: not worth an error.
MAX_MISSING_SECONDS = 0.5


class AudioInput:
    """One float32 stream; a context manager, made by `open_audio`.

    Attributes:
        name: The path as typed, or "-" for stdin.
        path: The file; None for a stream.
        sample_rate: Native rate in Hz.
        n_channels: Native channels, before the downmix (see `core.audio.downmix`).
        is_stereo: Whether blocks have two channels; else they are mono.
        n_samples: Native samples that `blocks` will give; None when not known in advance. A
            live stream that breaks off gives fewer.
        is_live: Can be read only once, in order.
        tags: Title, artist, album and comment.
        provenance: From the comment, when umt wrote it.
    """

    def __init__(
        self,
        reader: FileReader,
        *,
        name: str,
        path: Path | None,
        start_seconds: float,
        seconds: float | None,
        mono: bool,
        resources: ExitStack,
    ) -> None:
        self.name = name
        self.path = path
        self.sample_rate = reader.sample_rate
        self.n_channels = reader.n_channels
        self.is_stereo = not mono and reader.n_channels == 2
        self.is_live = reader.is_live
        self.tags = reader.tags
        self.provenance = _read_provenance(reader.tags.comment, input_label(name))
        self._reader = reader
        self._was_read = False
        self._reported_cancellation = False
        self._check_format()
        self._start = round(start_seconds * self.sample_rate)
        self._limit = None if seconds is None else max(1, round(seconds * self.sample_rate))
        self.n_samples = self._known_length(reader.n_samples)
        # Last: what is refused above is the caller's to close.
        self._resources = resources.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release what was opened or spooled for this input."""
        self._resources.close()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Read the samples from the beginning; a live input only once.

        Returns:
            Blocks of float32 (T,), or (T, 2) if stereo, about one second each, nominally in
            [-1, 1].

        Raises:
            AudioError: While reading: damaged or missing data, NaN or infinite samples, no
                samples at all, or a start past the end.
        """
        assert not (self.is_live and self._was_read), f"{self.name} can be read only once"
        self._was_read = True
        return self._read()

    def _read(self) -> Iterator[NDArray[np.float32]]:
        position, chunks = self._reader.read(self._start)
        stop = math.inf if self._limit is None else self._start + self._limit
        downmix = Downmix(self.n_channels, self.sample_rate, self._report_cancellation)
        with closing(chunks):  # ffmpeg stops with it
            while position < stop and (chunk := self._next(chunks)) is not None:
                first = max(self._start - position, 0)
                last = int(min(stop - position, len(chunk)))
                if first < last:
                    self._check_samples(chunk[first:last], position + first)
                    if self.is_stereo:
                        yield chunk[first:last]
                    elif len(mono := downmix.push(chunk[first:last])):
                        yield mono
                position += len(chunk)
        if len(mono := downmix.finish()):
            yield mono
        n_missing = self._count_missing(position)
        if n_missing:
            yield np.zeros((n_missing, 2) if self.is_stereo else n_missing, np.float32)

    def _next(self, chunks: Generator[NDArray[np.float32]]) -> NDArray[np.float32] | None:
        try:
            return next(chunks, None)
        except AudioError as error:
            raise AudioError(f"{input_label(self.name)}: {error}") from error
        except (NotRecognisedError, OtherEncodingError) as error:
            raise AudioError(
                f"{input_label(self.name)}: has changed since it was opened; try again"
            ) from error

    def _check_samples(self, chunk: NDArray[np.float32], position: int) -> None:
        """Check that all samples of float32 (T, C) are finite, and that their sum is."""
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(chunk.sum()):  # a tenth of the time of looking at each sample
                return
            is_finite = np.isfinite(chunk.sum(axis=1))
        if not is_finite.all():
            seconds = (position + int(np.argmin(is_finite))) / self.sample_rate
            raise AudioError(
                f"{input_label(self.name)}: NaN or infinite sample at {seconds:.3f} s; "
                "the file is damaged: export it again"
            )

    def _report_cancellation(self) -> None:
        if not self._reported_cancellation:
            _logger.warning(
                "%s: its channels are of opposite polarity and cancel each other in the mix; one "
                "is turned round where they do",
                input_label(self.name),
            )
        self._reported_cancellation = True

    def _check_format(self) -> None:
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            raise AudioError(
                f"{input_label(self.name)}: sample rate {self.sample_rate} Hz; {MIN_SAMPLE_RATE} "
                f"to {MAX_SAMPLE_RATE} Hz are read: resample it first"
            )
        if not 1 <= self.n_channels <= MAX_CHANNELS:
            raise AudioError(
                f"{input_label(self.name)}: {self.n_channels} channels; 1 to {MAX_CHANNELS} are "
                "read: mix it down first"
            )

    def _known_length(self, total: int | None) -> int | None:
        """Turn the source's length into that of the part asked for."""
        if total is None:
            return None
        self._check_end(total)
        rest = total - self._start
        return rest if self._limit is None else min(rest, self._limit)

    def _check_end(self, total: int) -> None:
        """Check that a source of `total` samples holds what was asked for."""
        if total == 0:
            raise AudioError(f"{input_label(self.name)}: contains no samples")
        if total <= self._start:
            raise AudioError(
                f"{input_label(self.name)}: cannot start at {self._start / self.sample_rate:g} s; "
                f"it lasts {total / self.sample_rate:g} s"
            )

    def _count_missing(self, end: int) -> int:
        """Compare where a source really ended with what it announced."""
        if self.n_samples is None or self.is_live:
            self._check_end(end)
            return 0
        announced = self._start + self.n_samples
        n_missing = max(announced - end, 0)
        if n_missing > MAX_MISSING_SECONDS * self.sample_rate:
            raise AudioError(
                f"{input_label(self.name)}: breaks off at {end / self.sample_rate:.1f} s of the "
                f"{announced / self.sample_rate:.1f} s it announces; get a whole copy, or convert "
                "what there is with ffmpeg"
            )
        return n_missing


def open_audio(
    source: str | Path | BinaryIO,
    *,
    name: str | None = None,
    start_seconds: float = 0.0,
    seconds: float | None = None,
    mono: bool = True,
    is_reread: bool = False,
) -> AudioInput:
    """Open an audio file or stream.

    Args:
        source: A path, or a binary stream, which stays the caller's to close. A stream that
            cannot seek is read as it arrives if it is WAV, else spooled to a temporary file.
        name: How to call it; by default the path, or "-" for a stream.
        start_seconds: Where to begin.
        seconds: How much to read; by default all.
        mono: Whether channels are mixed; else two stay two, and other numbers are mixed.
        is_reread: Whether it must be possible to read it again: a pipe is spooled then.

    Returns:
        The input, positioned at `start_seconds`.

    Raises:
        AudioError: Not audio, empty, damaged, missing, or shorter than `start_seconds`; or of
            a kind that needs ffmpeg where there is none.
        UsageError: A negative start or a length that is not positive.

    Example:
        >>> import io, soundfile
        >>> file = io.BytesIO()
        >>> soundfile.write(file, np.zeros((24_000, 2)), 24_000, format="wav")
        >>> _ = file.seek(0)
        >>> with open_audio(file, start_seconds=0.5, mono=False) as audio:
        ...     audio.sample_rate, audio.n_samples, [block.shape for block in audio.blocks()]
        (24000, 12000, [(12000, 2)])
    """
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise UsageError(f"start {start_seconds:g} s; it must be 0 or more")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"length {seconds:g} s; it must be more than 0")
    path = Path(source) if isinstance(source, str | Path) else None
    if name is None:
        name = "-" if path is None else str(source)
    with ExitStack() as resources:
        if isinstance(source, str | Path):
            reader = open_path(Path(source), name, resources, is_reread=is_reread)
        else:
            reader = open_stream(source, name, resources, is_reread=is_reread)
        return AudioInput(
            reader,
            name=name,
            path=path,
            start_seconds=start_seconds,
            seconds=seconds,
            mono=mono,
            resources=resources,
        )


def read_audio(
    source: str | Path | BinaryIO, sample_rate: int, *, mono: bool = True
) -> NDArray[np.float32]:
    """Read a short source whole.

    Args:
        source: As for `open_audio`.
        sample_rate: Wanted rate in Hz.
        mono: As for `open_audio`.

    Returns:
        float32, resampled: (T,), or (2, T) of stereo that is not mixed.

    Raises:
        AudioError: As for `open_audio` and `AudioInput.blocks`.

    Example:
        >>> import io, soundfile
        >>> file = io.BytesIO()
        >>> soundfile.write(file, np.zeros((24_000, 2)), 24_000, format="wav")
        >>> _ = file.seek(0)
        >>> read_audio(file, 16_000, mono=False).shape
        (2, 16000)
    """
    with open_audio(source, mono=mono) as audio:
        blocks = resample_blocks(audio.blocks(), audio.sample_rate, sample_rate)
        return np.ascontiguousarray(np.concatenate(list(blocks)).T)


def _read_provenance(comment: str, label: str) -> Provenance | None:
    """Read umt's note in a comment; one that is damaged is logged and ignored."""
    try:
        return Provenance.from_json(comment)
    except AudioError as error:
        _logger.warning("%s: what it says of its making is ignored (%s)", label, error)
        return None
