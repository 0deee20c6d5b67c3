"""Draw the README's spectrograms: one PNG for each file of examples/ that is named.

As in `python docs/images/spectrograms.py song.wav song.piano.ogg song.organ.ogg`.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[1] / "examples"
START_SECONDS, SECONDS = 0.0, 9.0
LOWEST_HZ, HIGHEST_HZ = 60.0, 12_000.0
FLOOR_DB = -60.0
WIDTH, HEIGHT = 400, 250
LEFT, BOTTOM = 34, 18  # room for the axes' labels
TICKS_HZ = ((100, "100"), (300, "300"), (1000, "1k"), (3000, "3k"))
# From silence to the loudest partial; in between, colours are mixed.
COLOURS = np.array(
    [(8, 10, 24), (40, 17, 90), (116, 30, 120), (198, 58, 96), (246, 122, 60), (252, 236, 170)]
)


def spectrum_db(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return levels in dB below the loudest, on a logarithmic frequency axis.

    Args:
        waveform: float64 (T,).
        sample_rate: Its rate in Hz.

    Returns:
        float64 (rows, columns), the highest frequency first.
    """
    rows, columns = HEIGHT - BOTTOM, WIDTH - LEFT
    n_fft = 8192  # 186 ms at 44.1 kHz: tells semitones apart from 100 Hz up
    window = np.hanning(n_fft)
    padded = np.pad(waveform, n_fft // 2)
    starts = np.linspace(0, len(waveform) - 1, columns).astype(int)
    frames = np.stack([padded[start : start + n_fft] for start in starts])
    magnitudes = np.abs(np.fft.rfft(frames * window, axis=1))
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, rows + 1) * n_fft / sample_rate
    levels = np.empty((rows, columns))
    for row, (low, high) in enumerate(pairwise(edges)):
        # The loudest bin that the row touches, so that no thin partial is lost between rows.
        levels[rows - 1 - row] = magnitudes[:, int(low) : max(int(high), int(low)) + 1].max(axis=1)
    return 20 * np.log10(np.maximum(levels / levels.max(), 1e-6))


def picture(path: Path) -> Image.Image:
    """Return the spectrogram of a file's first seconds, with its axes."""
    waveform, sample_rate = soundfile.read(path, always_2d=True)
    first = int(START_SECONDS * sample_rate)
    mono = waveform.mean(axis=1)[first : first + int(SECONDS * sample_rate)]
    shares = np.clip(1 - spectrum_db(mono, sample_rate) / FLOOR_DB, 0, 1) * (len(COLOURS) - 1)
    lower = np.minimum(shares.astype(int), len(COLOURS) - 2)
    rest = (shares - lower)[..., None]
    pixels = COLOURS[lower] * (1 - rest) + COLOURS[lower + 1] * rest
    image = Image.new("RGB", (WIDTH, HEIGHT), tuple(int(value) for value in COLOURS[0]))
    image.paste(Image.fromarray(pixels.round().astype(np.uint8)), (LEFT, 0))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=11)
    grey = (190, 190, 205)
    for hertz, label in TICKS_HZ:
        share = np.log(hertz / LOWEST_HZ) / np.log(HIGHEST_HZ / LOWEST_HZ)
        y = (HEIGHT - BOTTOM) * (1 - share)
        draw.text((LEFT - 4, y), label, fill=grey, font=font, anchor="rm")
        draw.line((LEFT - 2, y, LEFT, y), fill=grey)
    draw.text((LEFT - 4, 2), "Hz", fill=grey, font=font, anchor="rt")
    for second in range(0, int(SECONDS), 2):
        x = LEFT + (WIDTH - LEFT) * second / SECONDS
        label = f"{second} s" if second else "0"
        draw.text((x + 2, HEIGHT - 2), label, fill=grey, font=font, anchor="lb")
        draw.line((x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 3), fill=grey)
    return image.quantize(96)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        target = HERE / f"{Path(name).stem}.png"
        picture(EXAMPLES / name).save(target, optimize=True)
