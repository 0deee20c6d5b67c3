"""Audio and spectrograms as data URIs, so that a page needs no other file.

In: waveforms. Out: text for a `src` attribute. Spectrograms are in mel bands up to 8 kHz, the same
as those of the log-spectral distance.
"""

from __future__ import annotations

import base64
import io
import math
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import soundfile
from PIL import Image

from core.metrics.log_spectral import mel_decibels
from core.metrics.spectra import ANALYSIS_RATE, at_analysis_rate

if TYPE_CHECKING:
    from numpy.typing import NDArray

AudioFormat = Literal["MP3", "FLAC"]
_TYPES: dict[AudioFormat, tuple[str, str]] = {
    "MP3": ("audio/mpeg", "MPEG_LAYER_III"),
    "FLAC": ("audio/flac", "PCM_16"),
}
PICTURE_COLUMNS = 800
SHOWN_DB = 70.0  # below the loudest point is black
TICKS_HZ = {500: "500 Hz", 1000: "1 kHz", 2000: "2", 4000: "4"}
# Control points of the colour map, dark to light, evenly spaced: red, green, blue.
_COLOURS = ((6, 5, 24), (74, 18, 93), (158, 47, 98), (224, 97, 61), (250, 180, 60), (253, 250, 200))


def audio_uri(waveform: NDArray[np.float32], sample_rate: int, audio_format: AudioFormat) -> str:
    """Return a waveform [T] as a data URI: MP3 is small, FLAC is lossless."""
    media_type, subtype = _TYPES[audio_format]
    file = io.BytesIO()
    soundfile.write(
        file, np.clip(waveform, -1, 1), sample_rate, format=audio_format, subtype=subtype
    )
    return _data_uri(media_type, file.getvalue())


def spectrogram_uri(waveform: NDArray[np.float32], sample_rate: int) -> str:
    """Return the picture of a waveform [T] as a data URI: time to the right, pitch upwards."""
    resampled = at_analysis_rate(waveform, sample_rate, name="audio")
    levels = mel_decibels(resampled, len(resampled)).numpy()
    edges = np.linspace(0, len(levels), min(PICTURE_COLUMNS, len(levels)) + 1).astype(int)
    # The loudest of each column: short attacks would vanish in a mean.
    columns = np.maximum.reduceat(levels, edges[:-1], axis=0)
    relative = 1 + (columns - columns.max()) / SHOWN_DB
    shades = (255 * np.clip(relative, 0, 1)).astype(np.uint8)
    return _data_uri("image/png", png(shades.T[::-1]))  # rows from the top, high pitches first


def png(shades: NDArray[np.uint8]) -> bytes:
    """Return a picture in the colours of the spectrograms as a PNG file.

    Args:
        shades: uint8 [height, width], 0 is darkest.
    """
    picture = Image.fromarray(np.ascontiguousarray(shades))
    picture.putpalette(_palette())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


@cache
def _palette() -> bytes:
    """Return the 256 colours, one byte each of red, green and blue."""
    points = np.array(_COLOURS, dtype=float)
    places = np.linspace(0, len(points) - 1, 256)
    channels = [np.interp(places, np.arange(len(points)), own) for own in points.T]
    return np.stack(channels, axis=1).round().astype(np.uint8).tobytes()


def frequency_ticks() -> dict[str, float]:
    """Return the labels of the pictures' frequency axis, with their height in percent."""
    top = _mel(ANALYSIS_RATE / 2)
    return {label: 100 * _mel(hertz) / top for hertz, label in TICKS_HZ.items()}


def _mel(hertz: float) -> float:
    """Return Slaney's mel scale, on which the bands of the pictures are evenly spaced."""
    linear_below_hz, hertz_per_mel = 1000.0, 200 / 3
    if hertz < linear_below_hz:
        return hertz / hertz_per_mel
    return linear_below_hz / hertz_per_mel + 27 * math.log(hertz / linear_below_hz) / math.log(6.4)


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
