"""Latent arrays between encode and decode: read, check, write, join and mix them.

In and out: plain `.npy`, shape (L, D): L latent frames of D numbers. Nothing here knows which
model made an array; only its width D can be compared.
"""

from __future__ import annotations

import io
import os
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self

import numpy as np
from numpy.lib import format as npy

from core.errors import LatentsError, UmtError, UsageError, input_label
from core.parsing import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

BLOCK_FRAMES = 20  # of stored latents, handed on together
MAX_LATENT_DIM = 1 << 16
_MAX_FRAMES = 1 << 40
_MAX_HEADER_BYTES = 1 << 14
_ACCEPTED = "umt reads .npy of float16, float32 or float64, shape (frames, D), from `umt encode`"


class LatentsInput:
    """Latents in a `.npy` file or stream, made by `open_latents`; a context manager.

    Attributes:
        name: The path as typed, or "-" for stdin.
        n_frames: L.
        latent_dim: D.
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
                self.n_frames, self.latent_dim = self._header.shape
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
            float32 (l, D) in C order, all finite.

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
                    frame = start + int(np.argmin(np.isfinite(latents).all(axis=1)))
                    raise LatentsError(
                        f"{self._label}: NaN or infinite values, first in frame {frame}; decoders "
                        "need finite numbers"
                    )
                yield latents
            if stream.read(1):
                raise LatentsError(f"{self._label}: followed by something else; encode it again")

    def _stored_blocks(self, stream: BinaryIO) -> Iterator[tuple[NDArray[np.generic], int]]:
        """Yield what is stored in blocks, and the first frame of each."""
        # Columns stored one after the other cannot be read frame by frame.
        length = self.n_frames if self._header.is_fortran else BLOCK_FRAMES
        order: Literal["F", "C"] = "F" if self._header.is_fortran else "C"
        for start in range(0, self.n_frames, length):
            shape = (min(length, self.n_frames - start), self.latent_dim)
            n_bytes = shape[0] * shape[1] * self._header.dtype.itemsize
            data = _read_exactly(stream, n_bytes)
            if len(data) < n_bytes:
                done = start * self.latent_dim * self._header.dtype.itemsize + len(data)
                raise self._cut_off(done)
            block = np.frombuffer(data, dtype=self._header.dtype)
            yield block.reshape(shape, order=order), start

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
        float32 (L, D) in C order, L and D at least 1, all finite.

    Raises:
        LatentsError: As for `open_latents` and `LatentsInput.blocks`.
    """
    with open_latents(source, name) as latents:
        return np.concatenate(list(latents.blocks()))


def as_array(values: ArrayLike, what: str, *, error: type[UmtError]) -> NDArray[Any]:
    """Return an array, a nested list or a tensor of any device as an array.

    Args:
        values: The values.
        what: What messages call them.
        error: What is raised.

    Raises:
        UmtError: As `error`: they are none of these.
    """
    plain: Any = values
    if hasattr(plain, "detach"):  # a tensor, without loading torch
        plain = plain.detach().cpu()
        if str(plain.dtype) == "torch.bfloat16":  # which NumPy does not have
            plain = plain.float()
    try:
        return np.asarray(plain)
    except (TypeError, ValueError, RuntimeError) as cause:
        raise error(f"{what}: neither an array nor a tensor ({cause})") from cause


def as_latents(values: ArrayLike) -> NDArray[np.float32]:
    """Check latents in memory, and return them as float32.

    Args:
        values: Finite floats (L, D); an array, a list or a tensor.

    Raises:
        LatentsError: They are of another shape or type, or not finite.
    """
    array = as_array(values, "latents", error=LatentsError)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8) or array.ndim != 2:
        raise LatentsError(
            f"latents of dtype {array.dtype} and shape {array.shape}: expected floats, (frames, D)"
        )
    with np.errstate(over="ignore"):
        latents = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(latents).all():
        frame = int(np.argmin(np.isfinite(latents).all(axis=1)))
        raise LatentsError(f"latents have NaN or infinite values, first in frame {frame}")
    return latents


def write_latents(destination: BinaryIO, latents: ArrayLike) -> None:
    """Write a latent array as `.npy`, float32, C order; works on pipes.

    Args:
        destination: A binary stream; not closed.
        latents: Finite floats (L, D); an array, a list or a tensor.

    Raises:
        LatentsError: They are no such array.
    """
    checked = as_latents(latents)
    write_latent_blocks(destination, [checked], (checked.shape[0], checked.shape[1]))


def write_latent_blocks(
    destination: BinaryIO, blocks: Iterable[NDArray[np.float32]], shape: tuple[int, int]
) -> None:
    """Write latents of any length as they come; see `write_latents`.

    Args:
        destination: A binary stream; not closed.
        blocks: Finite floats (l, D) each.
        shape: (L, D) of all of them, which the file begins with.

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
    assert n_frames == shape[0], f"{n_frames} frames written, {shape[0]} announced"


def blend(
    first: NDArray[np.float32], second: NDArray[np.float32], *, overlap_frames: int
) -> NDArray[np.float32]:
    """Join two arrays by a linear cross-fade of their latents (Mor et al. 2019, semantic blending).

        first   ──────────╲
                           ╲  overlap_frames
        second              ╲──────────

    Args:
        first: float32 (L1, D).
        second: float32 (L2, D).
        overlap_frames: Length of the fade; at most L1 and L2. 0 joins end to end.

    Returns:
        float32 (L1 + L2 - overlap_frames, D). The fade's weights are (k + 1) / (overlap + 1):
        neither end of it is a plain copy, and its middle is the mean.

    Raises:
        LatentsError: Arrays of different width.
        UsageError: An overlap that is negative or longer than an input.

    Example:
        >>> a, b = np.zeros((3, 1), np.float32), np.full((3, 1), 4, np.float32)
        >>> blend(a, b, overlap_frames=1)[:, 0].tolist()
        [0.0, 0.0, 2.0, 4.0, 4.0]
    """
    first, second = as_latents(first), as_latents(second)
    _check_widths(first, second)
    longest = min(len(first), len(second))
    if isinstance(overlap_frames, bool) or not isinstance(overlap_frames, int):
        raise UsageError(f"an overlap of {shortened(overlap_frames)} frames: expected an integer")
    if not 0 <= overlap_frames <= longest:
        raise UsageError(
            f"an overlap of {shortened(overlap_frames)} frames; the inputs have {len(first)} and "
            f"{len(second)}: at most {longest}"
        )
    start = len(first) - overlap_frames
    ramp = np.arange(1, overlap_frames + 1, dtype=np.float32) / np.float32(overlap_frames + 1)
    fade = _interpolate(first[start:], second[:overlap_frames], ramp[:, None])
    return np.concatenate([first[:start], fade, second[overlap_frames:]]).astype(np.float32)


def mix(
    first: NDArray[np.float32], second: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """Mix two arrays frame by frame; the longer one is cut.

    Args:
        first: float32 (L1, D).
        second: float32 (L2, D).
        weight: The second's share, 0 to 1.

    Returns:
        float32 (min(L1, L2), D).

    Raises:
        LatentsError: Arrays of different width.
        UsageError: A weight outside 0..1.

    Example:
        >>> a, b = np.zeros((3, 1), np.float32), np.full((2, 1), 4, np.float32)
        >>> mix(a, b, 0.25)[:, 0].tolist()
        [1.0, 1.0]
    """
    first, second = as_latents(first), as_latents(second)
    _check_widths(first, second)
    if isinstance(weight, bool) or not isinstance(weight, int | float | np.floating):
        raise UsageError(f"mix {shortened(weight)}: expected a number")
    if not 0 <= weight <= 1:
        raise UsageError(f"mix {shortened(weight)}; it is the second input's share, 0 to 1")
    length = min(len(first), len(second))
    return _interpolate(first[:length], second[:length], np.float32(weight))


def _interpolate(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    weight: NDArray[np.float32] | np.float32,
) -> NDArray[np.float32]:
    """Return (1 - weight) of the first plus weight of the second; exact at 0 and 1."""
    mixed: NDArray[np.float32] = (np.float32(1) - weight) * first + weight * second
    return mixed.astype(np.float32, copy=False)


def _check_widths(first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    if first.shape[1] != second.shape[1]:
        raise LatentsError(
            f"latents of {first.shape[1]} and of {second.shape[1]} numbers a frame cannot be "
            "joined; encode both with one model"
        )


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

    shape: tuple[int, int]
    is_fortran: bool
    dtype: np.dtype[np.generic]

    @property
    def n_bytes(self) -> int:
        """Bytes of all numbers."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


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
    return _Header((shape[0], shape[1]), is_fortran, dtype)


def _check_kind(shape: tuple[int, ...], dtype: np.dtype[np.generic], label: str) -> None:
    if dtype.hasobject:
        raise LatentsError(
            f"{label}: holds pickled Python objects, which are not read; {_ACCEPTED}"
        )
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise LatentsError(f"{label}: dtype {shortened(str(dtype))}; {_ACCEPTED}")
    if len(shape) != 2:
        raise LatentsError(f"{label}: shape {shortened(shape)}; {_ACCEPTED}")
    if min(shape) < 1:
        raise LatentsError(f"{label}: shape {shape} holds no frames; {_ACCEPTED}")
    if shape[0] > _MAX_FRAMES or shape[1] > MAX_LATENT_DIM:
        raise LatentsError(f"{label}: shape {shortened(shape)} is impossible; {_ACCEPTED}")
