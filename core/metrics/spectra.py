"""Waveforms and short-time spectra, the input of every metric.

In: a mono waveform at any rate. Out: the same at 16 kHz, and power spectra of its frames, made
in blocks so that ten minutes of music never stand in memory as one spectrogram. All metrics
work at 16 kHz: a translation at 16 kHz and a recording at 44.1 kHz are then compared over the
same band, and no metric can tell them apart by what one of them cannot hold. Only the clipping
and out-of-band figures of `core.metrics.quality` use the waveform at its own rate.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import soxr
import torch

from core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

Waveform = npt.NDArray[np.float32]

ANALYSIS_RATE = 16_000  # Hz
MIN_SAMPLE_RATE = 4_000  # Hz; below it nothing above 2 kHz is left to compare
SILENCE_BELOW_LOUD_DB = 40.0
SILENCE_DBFS = -80.0  # nothing below this is music, whatever surrounds it
BLOCK_SAMPLES = 2**22  # of all frames in one block together: 16 MB of float32


def validate_waveform(waveform: npt.NDArray[np.generic], sample_rate: int, *, name: str) -> None:
    """Check that an array is one channel of audio that can be measured.

    Args:
        waveform: float [T], nominally in [-1, 1].
        sample_rate: In Hz.
        name: What the error message calls it, such as "source".

    Raises:
        AudioError: A wrong shape or dtype, no samples, NaN or infinity, or an impossible rate.
    """
    shape, dtype = np.shape(waveform), np.asarray(waveform).dtype
    if len(shape) != 1:
        raise AudioError(f"{name}: shape {shape} is not one channel; mix down to (samples,) first")
    if not np.issubdtype(dtype, np.floating):
        raise AudioError(f"{name}: samples are {dtype}; give floats between -1 and 1")
    if shape[0] == 0:
        raise AudioError(f"{name}: no samples, nothing to measure")
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name}: has samples that are NaN or infinite; write the file again")
    if sample_rate < MIN_SAMPLE_RATE:
        raise AudioError(
            f"{name}: sample_rate={sample_rate}, metrics need at least {MIN_SAMPLE_RATE} Hz"
        )


def at_analysis_rate(waveform: npt.NDArray[np.generic], sample_rate: int, *, name: str) -> Waveform:
    """Return a validated waveform [T] at 16 kHz, float32.

    Raises:
        AudioError: As `validate_waveform`.
    """
    validate_waveform(waveform, sample_rate, name=name)
    samples = np.asarray(waveform, dtype=np.float32)
    if sample_rate == ANALYSIS_RATE:
        return samples
    resampled: Waveform = soxr.resample(samples, sample_rate, ANALYSIS_RATE, quality="HQ")
    # A few samples can resample to none at all, but the metrics need at least one.
    return resampled if len(resampled) else samples[:1]


def frame_blocks(
    waveform: Waveform, frame_length: int, hop_length: int, *, centred: bool = True
) -> Iterator[torch.Tensor]:
    """Cut a waveform into frames, block by block.

    Args:
        waveform: float32 [T].
        frame_length: Samples in a frame.
        hop_length: Samples from one frame to the next.
        centred: Frame i is centred on sample i * hop_length, with silence beyond both ends;
            otherwise it starts there and only the end is padded.

    Yields:
        float32 [n_frames, frame_length], in order; in all 1 + T // hop_length frames when
        centred, else ceil(T / hop_length).
    """
    n_frames = 1 + len(waveform) // hop_length if centred else -(-len(waveform) // hop_length)
    before = frame_length // 2 if centred else 0
    after = max(0, (n_frames - 1) * hop_length + frame_length - before - len(waveform))
    padded = torch.from_numpy(np.pad(waveform, (before, after)))
    per_block = max(1, BLOCK_SAMPLES // frame_length)
    for first in range(0, n_frames, per_block):
        count = min(per_block, n_frames - first)
        start = first * hop_length
        part = padded[start : start + (count - 1) * hop_length + frame_length]
        yield part.unfold(0, frame_length, hop_length)


def power_blocks(waveform: Waveform, frame_length: int, hop_length: int) -> Iterator[torch.Tensor]:
    """Yield power spectra [n_frames, 1 + frame_length // 2] of Hann-windowed, centred frames."""
    window = torch.hann_window(frame_length)
    for frames in frame_blocks(waveform, frame_length, hop_length):
        spectrum = torch.view_as_real(torch.fft.rfft(frames * window))
        yield spectrum.square().sum(dim=-1)


def sounding(power: torch.Tensor, frame_length: int) -> torch.Tensor:
    """Return which frames of a file hold sound.

    Args:
        power: float32 [L], each frame's power spectrum summed over its bins (`power_blocks`).
        frame_length: The window's length in samples.

    Returns:
        bool [L]: at most 40 dB below the file's loud frames (the 95th percentile), so that the
        hiss of one file is not compared with the pauses of the other; never below -80 dBFS.
    """
    # A Hann window keeps 3/8 of the power, half of which is in the bins of rfft.
    mean_square = power / (frame_length**2 * 3 / 16)
    loud = float(mean_square.quantile(0.95))
    floor = max(10 ** (SILENCE_DBFS / 10), loud * 10 ** (-SILENCE_BELOW_LOUD_DB / 10))
    return mean_square > floor


@lru_cache(maxsize=8)
def mel_filters(frame_length: int, n_mels: int, low_hz: float, high_hz: float) -> torch.Tensor:
    """Return Slaney's mel filters [1 + frame_length // 2, n_mels] of equal area, at 16 kHz."""
    from torchaudio.functional import melscale_fbanks  # slow to import

    filters: torch.Tensor = melscale_fbanks(
        1 + frame_length // 2,
        low_hz,
        high_hz,
        n_mels,
        ANALYSIS_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return filters
