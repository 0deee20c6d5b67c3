"""Separate what is struck and unpitched from what sounds on.

In: blocks of float32, (T,) of one channel or (T, C) of several. Out: the harmonic and the
percussive part, which add up to the input. In a spectrogram a stroke is a vertical line and a
steady partial a horizontal one: a median over time removes the one, a median over frequency the
other, and a soft mask made of both divides each bin (Fitzgerald 2010, "Harmonic/percussive
separation using median filtering"). By that rule the attack of a plucked string is in part
percussive, and the tone of a bass drum in part harmonic.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float32]
    Parts = tuple[Array, Array]

WINDOW_SECONDS = 4096 / 44100  # long enough for neighbouring notes, short enough for strokes
REACH = 8  # frames, and bins, to either side of the middle of a median
FAINTEST = 1e-20  # power added to a mask's denominator, which is 0 in silence
# Worked on at a time, so that most of it stays in the processor's cache.
FRAMES_TOGETHER = 32
VALUES_TOGETHER = 32_768


def split_percussion(blocks: Iterable[Array], sample_rate: int) -> Iterator[Parts]:
    """Split a stream into its harmonic and its percussive part.

    The result does not depend on how the stream is cut into blocks, and memory not on its length.

    Args:
        blocks: float32 (T,) or (T, C) each.
        sample_rate: Hz.

    Yields:
        Both parts of the next samples, shaped as the blocks are; none empty. They are as long as
        the stream in all, about 0.46 s behind it.
    """
    separator: PercussionSeparator | None = None
    for block in blocks:
        if separator is None:
            separator = PercussionSeparator(sample_rate, block.shape[1:])
        if len((parts := separator.push(block))[0]):
            yield parts
    if separator is not None and len((parts := separator.finish())[0]):
        yield parts


class PercussionSeparator:
    """Both parts of one stream; give it blocks in order, then `finish`.

    All channels get the same mask, so that each part keeps its place between them.

    Args:
        sample_rate: Hz.
        channels: () for blocks (T,), (C,) for blocks (T, C).

    Attributes:
        hop: Samples from a window to the next; windows overlap by half.
        lookahead: How many later samples can change what a sample is split into.
    """

    def __init__(self, sample_rate: int, channels: tuple[int, ...] = ()) -> None:
        self.hop = max(2 ** round(math.log2(WINDOW_SECONDS * sample_rate) - 1), 2 * REACH)
        self.lookahead = (REACH + 2) * self.hop
        # Applied before the transform and after it; the squares of two neighbours add up to one.
        phase = np.pi * (np.arange(2 * self.hop) + 0.5) / (2 * self.hop)
        self._window = np.sin(phase).astype(np.float32)
        n_channels, n_bins = math.prod(channels), self.hop + 1
        # The first window begins half its length before the stream.
        self._samples = np.zeros((n_channels, self.hop), np.float32)  # from the next window on
        self._overlap = np.zeros((n_channels, self.hop), np.float32)  # of the last window
        self._spectra = np.zeros((n_channels, 0, n_bins), np.complex64)  # those without a mask yet
        self._powers = np.zeros((REACH, n_bins), np.float32)  # of these and of those around them
        self._waiting = np.zeros((0, *channels), np.float32)  # the input that is not yet split
        self._n_before = self.hop  # samples to drop

    def push(self, block: Array) -> Parts:
        """Split samples.

        Args:
            block: float32 (T,) or (T, C).

        Returns:
            Harmonic and percussive part of the samples after those that were returned before. The
            last `lookahead` samples, or fewer, are held back.
        """
        self._waiting = np.concatenate([self._waiting, block])
        groups = self._windows(block.reshape(-1, len(self._overlap)).T)
        complete = np.concatenate([self._overlap[:, :0], *map(self._separate, groups)], axis=1)
        n_dropped = min(self._n_before, complete.shape[1])
        self._n_before -= n_dropped
        n_split = min(complete.shape[1] - n_dropped, len(self._waiting))
        own, self._waiting = self._waiting[:n_split], self._waiting[n_split:]
        percussive = complete[:, n_dropped:][:, :n_split].T.reshape(own.shape)
        return own - percussive, percussive

    def finish(self) -> Parts:
        """Return both parts of what was held back."""
        n_left, shape = len(self._waiting), self._waiting.shape[1:]
        harmonic, percussive = self.push(np.zeros((self.lookahead, *shape), np.float32))
        return harmonic[:n_left], percussive[:n_left]

    def _windows(self, samples: Array) -> Iterator[Array]:
        """Yield the windows that samples (C, T) complete, float32 (C, n, 2 * hop)."""
        samples = np.concatenate([self._samples, samples], axis=1)
        n_windows = max(samples.shape[1] // self.hop - 1, 0)
        self._samples = samples[:, n_windows * self.hop :].copy()
        for start in range(0, n_windows, FRAMES_TOGETHER):
            stop = min(start + FRAMES_TOGETHER, n_windows) + 1
            halves = samples[:, start * self.hop : stop * self.hop]
            halves = halves.reshape(len(samples), -1, self.hop)
            yield np.concatenate([halves[:, :-1], halves[:, 1:]], axis=2)

    def _separate(self, windows: Array) -> Array:
        """Take windows (C, n, 2 * hop); return the percussive samples then complete, (C, t)."""
        spectra = np.fft.rfft(windows * self._window).astype(np.complex64, copy=False)
        self._spectra = np.concatenate([self._spectra, spectra], axis=1)
        powers = (spectra.real**2 + spectra.imag**2).sum(axis=0)
        self._powers = np.concatenate([self._powers, powers])
        n_ready = len(self._powers) - 2 * REACH
        if n_ready <= 0:
            return self._overlap[:, :0]
        masked = self._spectra[:, :n_ready] * _percussive_share(self._powers)
        self._spectra, self._powers = self._spectra[:, n_ready:], self._powers[n_ready:]
        frames = np.fft.irfft(masked, 2 * self.hop).astype(np.float32, copy=False) * self._window
        second = np.concatenate([self._overlap[:, None], frames[:, :, self.hop :]], axis=1)
        self._overlap = second[:, -1]
        complete: Array = second[:, :-1] + frames[:, :, : self.hop]
        return complete.reshape(len(complete), -1)


def _percussive_share(powers: Array) -> Array:
    """Return the mask of frames, float32 (n, bins), from powers (n + 2 * REACH, bins)."""
    # The spectrum of real samples goes on beyond both its ends as its mirror image.
    own = np.pad(powers[REACH:-REACH], ((0, 0), (REACH, REACH)), mode="reflect")
    percussive, harmonic = _running_median(own.T).T, _running_median(powers)
    share: Array = percussive / (harmonic + percussive + np.float32(FAINTEST))
    return share


def _running_median(values: Array) -> Array:
    """Return the medians over 2 * REACH + 1 = 17 neighbours: values (n + 16, m) to (n, m).

    Neighbours have most of their values in common: sorted runs of two, of four and of eight serve
    all medians that contain them.
    """
    n, m = values.shape
    width = max(1, VALUES_TOGETHER // n)
    columns = [values[:, start : start + width] for start in range(0, m, width)]
    return np.concatenate([_median_of_runs(own) for own in columns], axis=1)


def _median_of_runs(values: Array) -> Array:
    run = [values]
    while len(run) < REACH:
        run = _merge(*_pair(run, len(run)))
    lower, upper = _pair(run, REACH)
    # The two in the middle of sixteen sorted values; the seventeenth lies between them or not.
    below = [np.minimum(a, b) for a, b in zip(lower, reversed(upper), strict=True)]
    above = [np.maximum(a, b) for a, b in zip(lower, reversed(upper), strict=True)]
    eighth, ninth = below[0], above[0]
    for low, high in zip(below[1:], above[1:], strict=True):
        eighth, ninth = np.maximum(eighth, low), np.minimum(ninth, high)
    median: Array = np.maximum(eighth[:-1], np.minimum(ninth[:-1], values[2 * REACH :]))
    return median


def _pair(run: list[Array], distance: int) -> tuple[list[Array], list[Array]]:
    """Return the sorted runs that begin at each place, and those that begin further on."""
    return [own[:-distance] for own in run], [own[distance:] for own in run]


def _merge(first: list[Array], second: list[Array]) -> list[Array]:
    """Merge two sorted runs, element by element (Batcher 1968, odd-even merge)."""
    if len(first) == 1:
        return [np.minimum(first[0], second[0]), np.maximum(first[0], second[0])]
    even, odd = _merge(first[::2], second[::2]), _merge(first[1::2], second[1::2])
    inner = [
        chosen(low, high)
        for low, high in zip(odd[:-1], even[1:], strict=True)
        for chosen in (np.minimum, np.maximum)
    ]
    return [even[0], *inner, odd[-1]]
