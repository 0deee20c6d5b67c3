"""Latent arrays between encode and decode: read, check, write, join and mix them.

In and out: plain `.npy`, shape (L, D): L latent frames of D numbers; or (2, L, D) of two channels.
Nothing here knows which model made an array; only its width D can be compared.

In a file of two channels the second one lies behind the first, as NumPy orders an array of that
shape (and so does Fortran's order not keep frames together), while they are worked on frame by
frame, in blocks (l, 2, D). A pipe of two channels is therefore stored in a temporary file first.
That costs no time: an array states its length at its beginning, so nothing of it was written before
its music had ended.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from tokenize import TokenError
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np
from numpy.lib import format as npy

from core.arrays import as_latents, first_bad_frame, is_latent_shape, to_array
from core.errors import LatentsError, UsageError, input_label
from core.files import temporary_file
from core.parsing import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

BLOCK_FRAMES = 20  # of stored latents, handed on together
MAX_LATENT_DIM = 1 << 16
_SPOOLED_BYTES = 1 << 20
_MAX_FRAMES = 1 << 40
_MAX_HEADER_BYTES = 1 << 14
_ACCEPTED = (
    "umt reads .npy of float16, float32 or float64, shape (frames, D) or (2, frames, D), from "
    "`umt encode`"
)


class LatentsInput:
    """Latents in a `.npy` file or stream, made by `open_latents`; a context manager.

    Attributes:
        name: The path as typed, or "-" for stdin.
        n_frames: L.
        latent_dim: D.
        is_stereo: Whether there are two channels.
    """

    def __init__(self, source: Path | BinaryIO, name: str) -> None:
        self.name = name
        self._label = input_label(name)
        self._source = source
        # Of a file no descriptor stays open between passes: a batch may have thousands.
        with self._as_latents_error(), ExitStack() as resources:
            if isinstance(source, Path) and not source.is_file():
                self._source = resources.enter_context(source.open("rb"))  # pipes open only once
            with self._opened() as stream:
                self._header = _read_header(stream, self._label)
                self.n_frames, self.latent_dim = self._header.shape[-2:]
                self.is_stereo = len(self._header.shape) == 3
                if isinstance(self._source, Path):
                    self._check_size(stream)
            self._resources = resources.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release what was opened."""
        self._resources.close()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Read the latents from the beginning; those of a stream only once.

        Yields:
            float32 (l, D), or (l, 2, D) of two channels, in C order, all finite.

        Raises:
            LatentsError: Cut off, longer than the header announces, not finite, or changed
                since it was opened.
        """
        with self._as_latents_error(), self._opened() as stream:
            if isinstance(self._source, Path) and self._header != _read_header(stream, self._label):
                raise LatentsError(f"{self._label}: changed while it was read; start again")
            for block, start in self._stored_blocks(stream):
                with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
                    latents = np.ascontiguousarray(block, dtype=np.float32)
                if not np.isfinite(latents).all():
                    frame = start + first_bad_frame(latents)
                    raise LatentsError(
                        f"{self._label}: NaN or infinite values, first in frame {frame}; decoders "
                        "need finite numbers"
                    )
                yield latents
            if stream.read(1):
                raise LatentsError(f"{self._label}: followed by something else; encode it again")

    def read(self) -> NDArray[np.float32]:
        """Read all latents, float32 (L, D) or (2, L, D); errors as `blocks`."""
        return to_array(np.concatenate(list(self.blocks())))

    def _stored_blocks(self, stream: BinaryIO) -> Iterator[tuple[NDArray[np.generic], int]]:
        """Yield what is stored in blocks, and the first frame of each."""
        shape, dtype = self._header.shape, self._header.dtype
        if self._header.is_fortran:  # columns stored one after the other cannot be read by frames
            data = self._read(stream, self._header.n_bytes, 0)
            whole = np.frombuffer(data, dtype).reshape(shape, order="F")
            yield np.moveaxis(whole, -2, 0), 0
        elif self.is_stereo:
            yield from self._stored_channels(stream)
        else:
            for start, n_frames in self._cuts():
                n_done, n_bytes = (n * shape[1] * dtype.itemsize for n in (start, n_frames))
                data = self._read(stream, n_bytes, n_done)
                yield np.frombuffer(data, dtype).reshape(n_frames, -1), start

    def _stored_channels(self, stream: BinaryIO) -> Iterator[tuple[NDArray[np.generic], int]]:
        """Yield both channels side by side, of which one is stored after the other."""
        header = self._header
        with ExitStack() as resources:
            file, first = stream, 0
            if isinstance(self._source, Path):
                first = stream.tell()
            else:
                temporary = resources.enter_context(temporary_file(error=LatentsError))
                for done in range(0, header.n_bytes, _SPOOLED_BYTES):
                    n_bytes = min(_SPOOLED_BYTES, header.n_bytes - done)
                    temporary.write(self._read(stream, n_bytes, done))
                temporary.rewind()
                file = temporary.stream
            frame_bytes = self.latent_dim * header.dtype.itemsize
            for start, n_frames in self._cuts():
                channels = []
                for channel in range(2):
                    place = (channel * self.n_frames + start) * frame_bytes
                    file.seek(first + place)
                    data = self._read(file, n_frames * frame_bytes, place)
                    channels.append(np.frombuffer(data, header.dtype).reshape(n_frames, -1))
                yield np.stack(channels, axis=1), start

    def _cuts(self) -> Iterator[tuple[int, int]]:
        """Yield first frame and number of frames of each block."""
        for start in range(0, self.n_frames, BLOCK_FRAMES):
            yield start, min(BLOCK_FRAMES, self.n_frames - start)

    def _read(self, stream: BinaryIO, n_bytes: int, n_done: int) -> bytes:
        """Read so many bytes, of which others were read before."""
        data = _read_exactly(stream, n_bytes)
        if len(data) < n_bytes:
            raise self._cut_off(n_done + len(data))
        return data

    def _check_size(self, stream: BinaryIO) -> None:
        """Find out that a file was cut off before anything is done with it."""
        n_bytes = os.fstat(stream.fileno()).st_size - stream.tell()
        if n_bytes < self._header.n_bytes:
            raise self._cut_off(n_bytes)

    def _cut_off(self, n_bytes: int) -> LatentsError:
        return LatentsError(
            f"{self._label}: cut off: {n_bytes} bytes of numbers, its header announces "
            f"{self._header.n_bytes}; encode it again"
        )

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if isinstance(self._source, Path):
            with self._source.open("rb") as stream:
                yield stream
        else:
            yield self._source

    @contextmanager
    def _as_latents_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: a path with a null character
            reason = getattr(error, "strerror", None) or error
            raise LatentsError(f"{self._label}: cannot be read ({reason})") from error


def open_latents(source: Path | BinaryIO, name: str) -> LatentsInput:
    """Open a latent array and check its header; nothing in the file is ever run.

    Args:
        source: A path, or a stream (read forwards to its end), which stays the caller's to close.
        name: What messages call it; "-" is stdin.

    Raises:
        LatentsError: Not `.npy`, pickled, or of another dtype or shape; or it cannot be opened.
    """
    return LatentsInput(source, name)


def read_latents(source: Path | BinaryIO, name: str) -> NDArray[np.float32]:
    """Read a latent array whole.

    Args:
        source: As for `open_latents`.
        name: As for `open_latents`.

    Returns:
        float32 (L, D) or (2, L, D) in C order, L and D at least 1, all finite.

    Raises:
        LatentsError: As for `open_latents` and `LatentsInput.blocks`.
    """
    with open_latents(source, name) as latents:
        return latents.read()


def write_latents(destination: BinaryIO, latents: ArrayLike) -> None:
    """Write a latent array as `.npy`, float32, C order; works on pipes.

    Args:
        destination: A binary stream; not closed.
        latents: Finite floats (L, D) or (2, L, D); an array, a list or a tensor.

    Raises:
        LatentsError: They are no such array.
    """
    checked = as_latents(latents)
    frames = checked.reshape(-1, checked.shape[-1])
    write_latent_blocks(destination, [frames], checked.shape)


def write_latent_blocks(
    destination: BinaryIO, blocks: Iterable[NDArray[np.float32]], shape: tuple[int, ...]
) -> None:
    """Write latents of any length as they come; see `write_latents`.

    Args:
        destination: A binary stream; not closed.
        blocks: Finite floats (l, D) each; those of a second channel after all of the first.
        shape: (L, D) or (2, L, D) of all of them, which the file begins with.

    Raises:
        LatentsError: The blocks are no such arrays.
    """
    header = npy.header_data_from_array_1_0(np.zeros((0, 0), "<f4"))
    npy.write_array_header_1_0(destination, header | {"shape": shape})
    n_frames = 0
    for block in blocks:
        latents = as_latents(block)
        n_frames += len(latents)
        destination.write(latents.astype("<f4", copy=False).tobytes())
    announced = math.prod(shape[:-1])
    assert n_frames == announced, f"{n_frames} frames written, {announced} announced"


class LatentStore:
    """Latents of any number and length in one unnamed temporary file; a context manager.

    Neither memory nor the number of open files limits what it holds.

    Args:
        latent_dim: D.
    """

    def __init__(self, latent_dim: int) -> None:
        self._latent_dim = latent_dim
        self._lock = Lock()
        self._resources = ExitStack()
        self._file = self._resources.enter_context(temporary_file(error=LatentsError))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def keep(self, blocks: Iterable[NDArray[np.float32]]) -> KeptLatents:
        """Store latents, float32 (l, D) each, or (l, 2, D) of two channels.

        Raises:
            LatentsError: The directory of temporary files is full.
        """
        start = self._file.stream.seek(0, os.SEEK_END)
        n_frames, channels = 0, 1
        for block in blocks:
            channels = 1 if block.ndim == 2 else block.shape[1]
            n_frames += len(block)
            self._file.write(block.astype("<f4", copy=False).tobytes())
        self._file.rewind()
        shape = (n_frames, self._latent_dim)
        return KeptLatents(self, start, shape if channels == 1 else (channels, *shape))

    def read(self, start: int, n_bytes: int) -> bytes:
        """Return stored bytes; also on another thread."""
        with self._lock:  # not `os.pread`, which Windows does not have
            self._file.stream.seek(start)
            return self._file.stream.read(n_bytes)


@dataclass(frozen=True)
class KeptLatents:
    """Latents in a store, which can be read again and again.

    Attributes:
        store: The store.
        start: Where they begin in it, in bytes.
        shape: (L, D), or (2, L, D) of two channels.
    """

    store: LatentStore
    start: int
    shape: tuple[int, ...]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield float32 (l, D) or (l, 2, D)."""
        n_frames, frame_shape = self.shape[-2], (*self.shape[:-2], self.shape[-1])
        frame_bytes = 4 * math.prod(frame_shape)
        for first in range(0, n_frames, BLOCK_FRAMES):
            length = min(BLOCK_FRAMES, n_frames - first)
            data = self.store.read(self.start + first * frame_bytes, length * frame_bytes)
            yield np.frombuffer(data, "<f4").reshape(length, *frame_shape).copy()

    def channels(self) -> Iterator[NDArray[np.float32]]:
        """Yield float32 (l, D), one channel after the other, as `write_latent_blocks` takes it."""
        if len(self.shape) == 2:
            yield from self.blocks()
        else:
            for channel in range(self.shape[0]):
                for block in self.blocks():
                    yield block[:, channel]


def blend(
    first: NDArray[np.float32], second: NDArray[np.float32], *, overlap_frames: int
) -> NDArray[np.float32]:
    """Join two arrays by a linear cross-fade of their latents (Mor et al. 2019, semantic blending).

        first   ──────────╲
                           ╲  overlap_frames
        second              ╲──────────

    Args:
        first: float32 (L1, D), or (2, L1, D) of two channels.
        second: float32 (L2, D) or (2, L2, D); if only one of them has two channels, the other is
            the same on both.
        overlap_frames: Length of the fade; at most L1 and L2. 0 joins end to end.

    Returns:
        float32 (L1 + L2 - overlap_frames, D), or (2, ...). The fade's weights are
        (k + 1) / (overlap + 1): neither end of it is a plain copy, and its middle is the mean.

    Raises:
        LatentsError: Arrays of different width.
        UsageError: An overlap that is negative or longer than an input.

    Example:
        >>> a, b = np.zeros((3, 1), np.float32), np.full((3, 1), 4, np.float32)
        >>> blend(a, b, overlap_frames=1)[:, 0].tolist()
        [0.0, 0.0, 2.0, 4.0, 4.0]
    """
    first, second = _alike(first, second)
    lengths = first.shape[-2], second.shape[-2]
    if isinstance(overlap_frames, bool) or not isinstance(overlap_frames, int):
        raise UsageError(f"an overlap of {shortened(overlap_frames)} frames: expected an integer")
    if not 0 <= overlap_frames <= min(lengths):
        raise UsageError(
            f"an overlap of {shortened(overlap_frames)} frames; the inputs have {lengths[0]} and "
            f"{lengths[1]}: at most {min(lengths)}"
        )
    start = lengths[0] - overlap_frames
    ramp = np.arange(1, overlap_frames + 1, dtype=np.float32) / np.float32(overlap_frames + 1)
    fade = _interpolate(first[..., start:, :], second[..., :overlap_frames, :], ramp[:, None])
    parts = [first[..., :start, :], fade, second[..., overlap_frames:, :]]
    return np.concatenate(parts, axis=-2).astype(np.float32)


def mix(
    first: NDArray[np.float32], second: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """Mix two arrays frame by frame; the longer one is cut.

    Args:
        first: float32 (L1, D), or (2, L1, D) of two channels.
        second: float32 (L2, D) or (2, L2, D), as for `blend`.
        weight: The second's share, 0 to 1.

    Returns:
        float32 (min(L1, L2), D), or (2, ...).

    Raises:
        LatentsError: Arrays of different width.
        UsageError: A weight outside 0..1.

    Example:
        >>> a, b = np.zeros((3, 1), np.float32), np.full((2, 1), 4, np.float32)
        >>> mix(a, b, 0.25)[:, 0].tolist()
        [1.0, 1.0]
    """
    first, second = _alike(first, second)
    if isinstance(weight, bool) or not isinstance(weight, int | float | np.floating):
        raise UsageError(f"mix {shortened(weight)}: expected a number")
    if not 0 <= weight <= 1:
        raise UsageError(f"mix {shortened(weight)}; it is the second input's share, 0 to 1")
    length = min(first.shape[-2], second.shape[-2])
    return _interpolate(first[..., :length, :], second[..., :length, :], np.float32(weight))


def _interpolate(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    weight: NDArray[np.float32] | np.float32,
) -> NDArray[np.float32]:
    """Return (1 - weight) of the first plus weight of the second; exact at 0 and 1."""
    mixed: NDArray[np.float32] = (np.float32(1) - weight) * first + weight * second
    return mixed.astype(np.float32, copy=False)


def _alike(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Check two arrays, and return both with two channels if one has two."""
    first, second = as_latents(first), as_latents(second)
    if first.shape[-1] != second.shape[-1]:
        raise LatentsError(
            f"latents of {first.shape[-1]} and of {second.shape[-1]} numbers a frame cannot be "
            "joined; encode both with one model"
        )
    if first.ndim < second.ndim:
        first = np.broadcast_to(first, (2, *first.shape))
    if second.ndim < first.ndim:
        second = np.broadcast_to(second, (2, *second.shape))
    return first, second


def _read_exactly(stream: BinaryIO, n_bytes: int) -> bytes:
    """Read so many bytes, fewer at the end of the stream only; memory grows with what arrives."""
    pieces = []
    missing = n_bytes
    while missing > 0 and (piece := stream.read(min(missing, 1 << 20))):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


@dataclass(frozen=True)
class _Header:
    """What an array's header announces."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[np.generic]

    @property
    def n_bytes(self) -> int:
        """Bytes of all numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def _read_header(stream: BinaryIO, label: str) -> _Header:
    magic = stream.read(8)
    if not magic:
        raise LatentsError(f"{label}: is empty; {_ACCEPTED}")
    if magic[:6] != npy.MAGIC_PREFIX:
        raise LatentsError(f"{label}: not a .npy file; {_ACCEPTED}")
    formats = {
        (1, 0): (2, npy.read_array_header_1_0),
        (2, 0): (4, npy.read_array_header_2_0),
    }
    version = formats.get(tuple(magic[6:8]))  # type: ignore[arg-type] # bytes are two ints here
    if version is None:
        raise LatentsError(f"{label}: .npy of a version that umt does not read; {_ACCEPTED}")
    width, parse = version
    length = stream.read(width)
    if int.from_bytes(length, "little") > _MAX_HEADER_BYTES:  # numpy would read all of it
        raise LatentsError(f"{label}: damaged .npy header; {_ACCEPTED}")
    text = stream.read(int.from_bytes(length, "little"))
    try:
        with warnings.catch_warnings(action="ignore"):  # numpy remarks on files of Python 2
            shape, is_fortran, dtype = parse(io.BytesIO(length + text))
    # numpy lets through what its parser raises when the header is only half there.
    except (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError) as error:
        raise LatentsError(f"{label}: damaged .npy header; {_ACCEPTED}") from error
    _check_kind(shape, dtype, label)
    return _Header(tuple(shape), is_fortran, dtype)


def _check_kind(shape: tuple[int, ...], dtype: np.dtype[np.generic], label: str) -> None:
    if dtype.hasobject:
        raise LatentsError(
            f"{label}: holds pickled Python objects, which are not read; {_ACCEPTED}"
        )
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise LatentsError(f"{label}: dtype {shortened(str(dtype))}; {_ACCEPTED}")
    if not is_latent_shape(shape):
        raise LatentsError(f"{label}: shape {shortened(shape)}; {_ACCEPTED}")
    if min(shape) < 1:
        raise LatentsError(f"{label}: shape {shape} holds no frames; {_ACCEPTED}")
    if shape[-2] > _MAX_FRAMES or shape[-1] > MAX_LATENT_DIM:
        raise LatentsError(f"{label}: shape {shortened(shape)} is impossible; {_ACCEPTED}")
