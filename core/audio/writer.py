"""Write mono audio, block by block, to files and pipes.

In: float32 (T,) blocks. Out: 16-bit WAV, or any format libsndfile writes; how the bytes look
is `core.audio.encoders`. Existing files are replaced: names are the caller's business.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np
import soundfile

from core.audio.encoders import Encoder, SndfileEncoder, WavEncoder, can_seek
from core.errors import AudioError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from core.audio.provenance import Provenance

# Extension: libsndfile's format and encoding; None is our own WAV.
_FORMATS: dict[str, tuple[str, str] | None] = {
    "wav": None,
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "opus": ("OGG", "OPUS"),
    "aiff": ("AIFF", "PCM_16"),
    "aif": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "oga": ("OGG", "VORBIS"),
    "rf64": ("RF64", "PCM_16"),
    "snd": ("AU", "PCM_16"),
    "voc": ("VOC", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "wave": None,
}


def output_format(path: Path) -> str:
    """Choose the format that a file's extension stands for.

    Args:
        path: The output file.

    Returns:
        A value for `open_writer`'s `format`.

    Raises:
        UsageError: An extension that cannot be written; lists those that can.
    """
    extension = path.suffix[1:].lower()
    if extension not in _FORMATS:
        asked = f".{extension}" if extension else "a name without extension"
        raise UsageError(f"{path}: cannot write {asked}; writable: {', '.join(_FORMATS)}")
    return extension


class AudioWriter:
    """An audio file being written; a context manager, made by `open_writer`.

    Attributes:
        n_written: Samples written so far.
    """

    def __init__(self, encoder: Encoder, *, label: str, resources: ExitStack) -> None:
        self.n_written = 0
        self._encoder = encoder
        self._label = label
        self._resources = resources

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        with _as_audio_error(self._label), self._resources:
            # After an error the file is of no use, and completing it could fail again.
            if error_type is None:
                self._encoder.finish()
            else:
                self._encoder.abandon()

    def write(self, block: NDArray[np.float32]) -> None:
        """Append samples.

        Args:
            block: float32 (T,) in [-1, 1]; rounded to 16 bits, clipped beyond.

        Raises:
            AudioError: NaN or infinite samples, or the destination cannot be written.
            BrokenPipeError: Nobody reads the pipe any more.
        """
        if not np.isfinite(block).all():
            raise AudioError(f"{self._label}: the sound to be written has NaN or infinite samples")
        codes = np.clip(np.rint(block * np.float32(32768)), -32768, 32767).astype(np.int16)
        with _as_audio_error(self._label):
            self._encoder.write(codes)
        self.n_written += len(codes)


def open_writer(
    destination: Path | BinaryIO,
    *,
    sample_rate: int,
    n_samples: int | None,
    provenance: Provenance | None,
    format: str = "wav",  # noqa: A002 - the word that users and soundfile use
) -> AudioWriter:
    """Start an audio file.

    Args:
        destination: A path, or a binary stream, which stays the caller's to close. Streams
            need not be able to seek for WAV.
        sample_rate: Hz.
        n_samples: How many samples will be written; None when not known. A file is corrected
            at the end if it was wrong; a pipe cannot be, and takes at most as many.
        provenance: Put into the file's comment tag, if the format has one.
        format: As `output_format` returns it.

    Returns:
        The writer; leaving its context completes the file.

    Raises:
        AudioError: The destination cannot be written, or not at this rate.
        UsageError: A format that cannot be written, or not to a pipe.
    """
    if format not in _FORMATS:
        raise UsageError(f"cannot write {format!r}; writable: {', '.join(_FORMATS)}")
    coding = _FORMATS[format]
    label = str(destination) if isinstance(destination, Path) else "the output"
    with ExitStack() as resources, _as_audio_error(label):
        if isinstance(destination, Path):
            stream: BinaryIO = resources.enter_context(destination.open("wb"))
        else:
            stream = destination
        encoder: Encoder
        if coding is None:
            encoder = WavEncoder(
                stream, sample_rate=sample_rate, n_samples=n_samples, provenance=provenance
            )
        elif can_seek(stream):
            encoder = SndfileEncoder(
                stream, sample_rate=sample_rate, coding=coding, provenance=provenance
            )
        else:
            raise UsageError(f"cannot write {format} to a pipe; write wav, or name a file with -o")
        return AudioWriter(encoder, label=label, resources=resources.pop_all())


@contextmanager
def _as_audio_error(label: str) -> Iterator[None]:
    """Turn what goes wrong on a disk or in libsndfile into a message; a closed pipe is neither."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AudioError(f"{label}: cannot be written ({error.strerror})") from error
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        raise AudioError(f"{label}: cannot be written ({reason}); try wav") from error
