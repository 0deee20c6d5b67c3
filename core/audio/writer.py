"""Write audio, block by block, to files and pipes.

In: float32 blocks, (T,) of one channel or (T, C) of C. Out: WAV through `core.audio.wav_writer`, or
any other format that libsndfile writes, of 16 or 24 bits or float. Existing files are replaced:
names are the caller's business.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self

import numpy as np
import soundfile

from core.audio.resampling import Resampler
from core.audio.tags import NO_TAGS, Tags
from core.audio.wav import BITS, Bits
from core.audio.wav_writer import WavWriter
from core.errors import AudioError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

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
# The only rates of an encoding, ascending. At others the sound is resampled to the next one up.
_RATES = {
    "OPUS": (8_000, 12_000, 16_000, 24_000, 48_000),
    "MPEG_LAYER_III": (
        *(8_000, 11_025, 12_000, 16_000, 22_050, 24_000),
        *(32_000, 44_100, 48_000),
    ),
}
_PCM: dict[Bits, str] = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
_WRITE_SAMPLES = 1 << 16  # libsndfile's Vorbis encoder keeps a whole write on the stack
_PROBE_BYTES = 1 << 12


def output_format(path: Path, *, rate: int | None = None, bits: Bits | None = None) -> str:
    """Choose the format that a file's extension stands for.

    Args:
        path: The output file.
        rate: The rate that the file has to have, Hz; None for any.
        bits: As for `open_writer`; None for any.

    Returns:
        A value for `open_writer`'s `format`.

    Raises:
        UsageError: An extension that cannot be written, or not with this rate or these bits;
            lists those that can.
    """
    extension = path.suffix[1:].lower()
    if extension not in _FORMATS:
        asked = f".{extension}" if extension else "a name without extension"
        raise UsageError(f"{path}: cannot write {asked}; writable: {', '.join(_FORMATS)}")
    rates = _RATES.get((_FORMATS[extension] or ("", ""))[1])
    if rate is not None and rates is not None and rate not in rates:
        raise UsageError(f"{path}: {extension} has rates of {', '.join(map(str, rates))} Hz only")
    if bits is not None:
        _coding(extension, bits)
    return extension


def _coding(name: str, bits: Bits | None) -> tuple[str, str] | None:
    """Return libsndfile's format and encoding of a format with so many bits; None for our WAV.

    Raises:
        UsageError: The format does not have them.
    """
    if bits is not None and bits not in BITS:
        raise UsageError(f"bits={bits!r}: expected one of {', '.join(BITS)}")
    coding = _FORMATS[name]
    if bits is None or coding is None:
        return coding
    if coding[1] == "PCM_16" and soundfile.check_format(coding[0], _PCM[bits]):
        return coding[0], _PCM[bits]
    if coding[1] != "PCM_16":
        raise UsageError(f"{name} stores no bits of samples; leave out --bits, or write wav")
    possible = [own for own in BITS if soundfile.check_format(coding[0], _PCM[own])]
    raise UsageError(f"{name} does not store {bits} bits; possible: {', '.join(possible)}")


class FileWriter(Protocol):
    """One output being written."""

    def write(self, codes: NDArray[np.generic]) -> None:
        """Append samples, (T,) or (T, C): int16, int32 of 24 bits, or float32."""

    def finish(self) -> None:
        """Complete the file."""

    def abandon(self) -> None:
        """Leave the file as it is, after an error."""


class SndfileWriter:
    """Any format but WAV, through libsndfile; the stream must be able to seek."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        sample_rate: int,
        n_channels: int,
        coding: tuple[str, str],
        tags: Tags,
    ) -> None:
        file, encoding = coding
        stream.flush()
        # A descriptor where there is one: errors in soundfile's callbacks become tracebacks on
        # the terminal, and the sound is lost.
        try:
            self._descriptor: int | None = stream.fileno()
        except OSError:
            self._descriptor = None
        target = stream if self._descriptor is None else os.dup(self._descriptor)
        with self._with_true_reason():
            self._file = soundfile.SoundFile(
                target, "w", sample_rate, n_channels, format=file, subtype=encoding
            )
        for item in dataclasses.fields(tags):
            text = getattr(tags, item.name)
            if text:
                with suppress(soundfile.LibsndfileError):  # au, voc and w64 have none
                    setattr(self._file, item.name, text)

    def write(self, codes: NDArray[np.generic]) -> None:
        """Append samples, (T,) or (T, C): int16, int32 of 24 bits, or float32."""
        if codes.dtype == np.int32:  # of which libsndfile takes the upper bits
            codes = np.left_shift(codes, 8)
        with self._with_true_reason():
            for start in range(0, len(codes), _WRITE_SAMPLES):
                self._file.write(codes[start : start + _WRITE_SAMPLES])

    def finish(self) -> None:
        """Write what libsndfile still holds, and the header."""
        with self._with_true_reason():
            self._file.close()

    def abandon(self) -> None:
        """Let libsndfile go."""
        with suppress(soundfile.LibsndfileError):
            self._file.close()

    @contextmanager
    def _with_true_reason(self) -> Iterator[None]:
        """Find out why the system refused to write; libsndfile forgets its error number."""
        try:
            yield
        except (soundfile.LibsndfileError, AssertionError) as error:
            # The assertion is soundfile's, when fewer samples were written than given.
            if self._descriptor is not None:
                os.write(self._descriptor, bytes(_PROBE_BYTES))  # fails as libsndfile's did
            if isinstance(error, AssertionError):
                raise OSError(errno.EIO, "fewer samples written than given") from error
            raise


class AudioWriter:
    """An audio file being written; a context manager, made by `open_writer`.

    Attributes:
        n_written: Samples written so far, at the rate that they are given in.
    """

    def __init__(
        self,
        writer: FileWriter,
        *,
        label: str,
        bits: Bits,
        resampler: Resampler | None,
        resources: ExitStack,
    ) -> None:
        self.n_written = 0
        self._bits = bits
        self._writer = writer
        self._label = label
        self._resampler = resampler
        self._resources = resources

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        with _as_audio_error(self._label), self._resources:
            # After an error the file is of no use, and completing it could fail again.
            if error_type is not None:
                self._writer.abandon()
                return
            if self._resampler is not None:
                self._writer.write(_to_codes(self._resampler.finish(), self._bits))
            self._writer.finish()

    def write(self, block: NDArray[np.float32]) -> None:
        """Append samples.

        Args:
            block: float32 (T,) or (T, C) in [-1, 1]; rounded to the file's bits, clipped beyond.

        Raises:
            AudioError: NaN or infinite samples, or the destination cannot be written.
            BrokenPipeError: Nobody reads the pipe any more.
        """
        if not np.isfinite(block).all():
            raise AudioError(f"{self._label}: the sound to be written has NaN or infinite samples")
        self.n_written += len(block)
        resampled = block if self._resampler is None else self._resampler.push(block)
        with _as_audio_error(self._label):
            self._writer.write(_to_codes(resampled, self._bits))


def open_writer(
    destination: Path | BinaryIO,
    *,
    sample_rate: int,
    n_samples: int | None,
    provenance: Provenance | None,
    n_channels: int = 1,
    tags: Tags = NO_TAGS,
    format: str = "wav",  # noqa: A002 - the word that users and soundfile use
    name: str | None = None,
    bits: Bits | None = None,
) -> AudioWriter:
    """Start an audio file.

    Args:
        destination: A path, or a binary stream, which stays the caller's to close. Streams
            need not be able to seek for WAV.
        sample_rate: Hz; where the format does not have that rate, the file gets the next one up.
        n_samples: How many samples will be written; None when not known. A file is corrected
            at the end if it was wrong; a pipe cannot be, and takes at most as many.
        provenance: Put into the file's comment tag, if the format has one.
        n_channels: C; blocks are (T,) for one, (T, C) for more.
        tags: Title, artist and album for the file; the comment is left to the provenance.
        format: As `output_format` returns it.
        name: What messages call it; by default the path, or "the output".
        bits: Of a sample; None for 16, or whatever a lossy format has.

    Returns:
        The writer; leaving its context completes the file.

    Raises:
        AudioError: The destination cannot be written, or not at this rate.
        UsageError: A format that cannot be written, or not to a pipe.
    """
    if format not in _FORMATS:
        raise UsageError(f"cannot write {format!r}; writable: {', '.join(_FORMATS)}")
    coding = _coding(format, bits)
    label = name or (str(destination) if isinstance(destination, Path) else "the output")
    tags = dataclasses.replace(tags, comment="" if provenance is None else provenance.to_json())
    with ExitStack() as resources, _as_audio_error(label):
        if isinstance(destination, Path):
            stream: BinaryIO = resources.enter_context(destination.open("wb"))
        else:
            stream = destination
        writer: FileWriter
        file_rate = sample_rate
        if coding is None:
            writer = WavWriter(
                stream,
                sample_rate=sample_rate,
                n_channels=n_channels,
                n_samples=n_samples,
                tags=tags,
                software="" if provenance is None else provenance.tool,
                can_seek=can_seek(stream),
                bits=bits or "16",
            )
        elif can_seek(stream):
            rates = _RATES.get(coding[1], (sample_rate,))
            file_rate = next((rate for rate in rates if rate >= sample_rate), rates[-1])
            writer = SndfileWriter(
                stream, sample_rate=file_rate, n_channels=n_channels, coding=coding, tags=tags
            )
        else:
            raise UsageError(f"cannot write {format} to a pipe; write wav, or name a file with -o")
        resampler = None
        if file_rate != sample_rate:
            resampler = Resampler(sample_rate, file_rate, n_channels)
        return AudioWriter(
            writer,
            label=label,
            bits=bits or "16",
            resampler=resampler,
            resources=resources.pop_all(),
        )


def can_seek(stream: BinaryIO) -> bool:
    """Whether a header can be corrected: not on a pipe, and not after the shell's >>.

    Windows does not tell how a file was opened; >> leaves a wrong header there.
    """
    if not stream.seekable():
        return False
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream in memory
        return True
    return fcntl is None or not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND


def _to_codes(block: NDArray[np.float32], bits: Bits) -> NDArray[np.generic]:
    """Return samples as they are stored: int16, int32 of 24 bits, or float32."""
    if bits == "float":
        return block
    full_scale = 32768 if bits == "16" else 1 << 23
    codes: NDArray[np.generic] = np.clip(
        np.rint(block * np.float32(full_scale)), -full_scale, full_scale - 1
    ).astype(np.int16 if bits == "16" else np.int32)
    return codes


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
