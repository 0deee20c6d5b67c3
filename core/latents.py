"""Latent arrays between encode and decode: read, check, write, join and mix them.

In and out: plain `.npy`, shape (L, D): L latent frames of D numbers. Nothing here knows which
model made an array; only its width D can be compared.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.lib import format as npy

from core.errors import LatentsError, UsageError, input_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ACCEPTED = "umt reads .npy of float16, float32 or float64, shape (frames, D), from `umt encode`"


def read_latents(source: Path | BinaryIO, name: str) -> NDArray[np.float32]:
    """Read a latent array; nothing in the file is ever run.

    Args:
        source: A path, or a stream (read forwards to its end).
        name: What messages call it; "-" is stdin.

    Returns:
        float32 (L, D) in C order, L and D at least 1, all finite.

    Raises:
        LatentsError: Not `.npy`, pickled, cut off, longer than its header says, or of another
            dtype or shape, or with NaN or infinite values; or it cannot be opened.
    """
    label = input_label(name)
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                return _read(stream, label)
        return _read(source, label)
    except OSError as error:
        raise LatentsError(f"{label}: cannot be read ({error.strerror})") from error


def write_latents(destination: BinaryIO, latents: NDArray[np.float32]) -> None:
    """Write a latent array as `.npy`, float32, C order; works on pipes.

    Args:
        destination: A binary stream; not closed.
        latents: (L, D), any float dtype.
    """
    array = np.ascontiguousarray(latents, dtype="<f4")
    assert array.ndim == 2, f"latents of shape {array.shape}"
    npy.write_array_header_1_0(destination, npy.header_data_from_array_1_0(array))
    destination.write(array.tobytes())


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
    _check_widths(first, second)
    longest = min(len(first), len(second))
    if not 0 <= overlap_frames <= longest:
        raise UsageError(
            f"an overlap of {overlap_frames} frames; the inputs have {len(first)} and "
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
    _check_widths(first, second)
    if not 0 <= weight <= 1:
        raise UsageError(f"mix {weight:g}; it is the second input's share, 0 to 1")
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


def _read(stream: BinaryIO, label: str) -> NDArray[np.float32]:
    shape, is_fortran, dtype = _read_header(stream, label)
    _check_kind(shape, dtype, label)
    data = stream.read()
    expected = shape[0] * shape[1] * dtype.itemsize
    if len(data) != expected:
        state = "cut off" if len(data) < expected else "followed by something else"
        raise LatentsError(
            f"{label}: {state}: {len(data)} bytes of numbers, its header announces {expected}; "
            "encode it again"
        )
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if is_fortran else "C")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite: refused below
        latents = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(latents).all():
        frame = int(np.argmin(np.isfinite(latents).all(axis=1)))
        raise LatentsError(
            f"{label}: NaN or infinite values, first in frame {frame}; decoders need finite numbers"
        )
    return latents


def _read_header(
    stream: BinaryIO, label: str
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    magic = stream.read(8)
    if not magic:
        raise LatentsError(f"{label}: is empty; {_ACCEPTED}")
    if magic[:6] != npy.MAGIC_PREFIX:
        raise LatentsError(f"{label}: not a .npy file; {_ACCEPTED}")
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    reader = readers.get(tuple(magic[6:8]))  # type: ignore[arg-type] # bytes are two ints here
    if reader is None:
        raise LatentsError(f"{label}: .npy of a version that umt does not read; {_ACCEPTED}")
    try:
        with warnings.catch_warnings(action="ignore"):  # numpy remarks on files of Python 2
            return reader(stream)
    # numpy lets through what its parser raises when the header is only half there.
    except (ValueError, TypeError, SyntaxError, TokenError, RecursionError) as error:
        raise LatentsError(f"{label}: damaged .npy header; {_ACCEPTED}") from error


def _check_kind(shape: tuple[int, ...], dtype: np.dtype[np.generic], label: str) -> None:
    if dtype.hasobject:
        raise LatentsError(
            f"{label}: holds pickled Python objects, which are not read; {_ACCEPTED}"
        )
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise LatentsError(f"{label}: dtype {dtype}; {_ACCEPTED}")
    if len(shape) != 2:
        raise LatentsError(f"{label}: shape {shape}; {_ACCEPTED}")
    if min(shape) < 1:
        raise LatentsError(f"{label}: shape {shape} holds no frames; {_ACCEPTED}")
