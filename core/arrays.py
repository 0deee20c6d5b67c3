"""Checks of arrays and tensors that people pass: waveforms and latents. Loads no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from core.audio.levels import ArrayRecording
from core.audio.reader import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from core.errors import AudioError, LatentsError, UmtError
from core.parsing import shortened

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LARGEST_SAMPLE = 16.0  # beyond, floats are integers that nobody has scaled


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


def as_waveform(waveform: ArrayLike, sample_rate: int) -> ArrayRecording:
    """Check a waveform in memory, mono or stereo, and return it as float32.

    Args:
        waveform: As for `Translator.encode`.
        sample_rate: Hz.

    Raises:
        AudioError: As for `Translator.encode`.
    """
    samples = as_array(waveform, "waveform", error=AudioError)
    if samples.ndim != 1 and (samples.ndim != 2 or len(samples) != 2):
        is_turned = samples.ndim == 2 and samples.shape[1] == 2
        raise AudioError(
            f"waveform of shape {samples.shape}: expected (samples,) of mono or (2, samples) of "
            f"stereo{'; transpose it, as in waveform.T' if is_turned else ''}"
        )
    samples = samples.T
    check_sample_rate(sample_rate)
    if samples.dtype.kind == "i" and samples.dtype.itemsize in (2, 4):
        full_scale = -float(np.iinfo(samples.dtype).min)
        return ArrayRecording((samples / full_scale).astype(np.float32), int(sample_rate))
    if samples.dtype.kind != "f" or samples.dtype.itemsize not in (2, 4, 8):
        raise AudioError(
            f"waveform of dtype {samples.dtype}: expected floats in -1..1, int16 or int32"
        )
    peak = float(np.abs(samples).max(initial=0.0))
    if not math.isfinite(peak):
        raise AudioError("waveform has NaN or infinite samples")
    if peak > LARGEST_SAMPLE:
        raise AudioError(
            f"waveform with a peak of {peak:g}: expected floats in -1..1; divide by the full scale"
        )
    return ArrayRecording(samples.astype(np.float32), int(sample_rate))


def check_sample_rate(sample_rate: int) -> None:
    """Raise AudioError if a rate in Hz is none that audio can have."""
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, int | np.integer):
        raise AudioError(f"sample_rate {shortened(sample_rate)}: expected an int, in Hz")
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"sample_rate {sample_rate}: expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
        )


def as_latents(values: ArrayLike) -> NDArray[np.float32]:
    """Check latents in memory, and return them as float32.

    Args:
        values: Finite floats (L, D), or (2, L, D) of two channels; an array, a list or a tensor.

    Raises:
        LatentsError: They are of another shape or type, or not finite.
    """
    array = as_array(values, "latents", error=LatentsError)
    is_float = array.dtype.kind == "f" and array.dtype.itemsize in (2, 4, 8)
    if not is_float or not is_latent_shape(array.shape):
        raise LatentsError(
            f"latents of dtype {array.dtype} and shape {array.shape}: expected floats, "
            "(frames, D) or (2, frames, D)"
        )
    with np.errstate(over="ignore"):
        latents = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(latents).all():
        frame = first_bad_frame(to_frames(latents))
        raise LatentsError(f"latents have NaN or infinite values, first in frame {frame}")
    return latents


def is_latent_shape(shape: tuple[int, ...]) -> bool:
    """Whether latents can have a shape: (L, D), or (2, L, D)."""
    return len(shape) == 2 or (len(shape) == 3 and shape[0] == 2)


def first_bad_frame(frames: NDArray[np.float32]) -> int:
    """Return the first frame of (L, ...) that is not finite."""
    return int(np.argmin(np.isfinite(frames).reshape(len(frames), -1).all(axis=1)))


def to_array(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return frames (L, D) as they are, and those of two channels, (L, 2, D), as (2, L, D)."""
    return np.ascontiguousarray(np.moveaxis(frames, 0, -2))


def to_frames(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo `to_array`."""
    return np.ascontiguousarray(np.moveaxis(latents, -2, 0))
