"""Mix channels down to one, without losing what cancels.

In: float32 (T, C) blocks of one stream. Out: float32 (T,), their mean. Channels of opposite
polarity (a balanced cable split in two, a widener turned up too far) cancel each other in the mean.
Where its energy is 20 dB below that of the channels, those of opposite polarity to the
loudest are turned round. That is decided every 0.1 s from the beginning of the stream,
so that the result does not depend on how it is cut into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.audio.levels import RecordingView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


_BLOCK_SECONDS = 0.1
_FADE_SECONDS = 0.005
_CANCELLED_SHARE = 10 ** (-20 / 10)  # of the channels' mean energy, below which a mix has lost them
_RECOVERED_SHARE = 10 ** (-10 / 10)  # above which the plain mean is good again
_SILENCE = 10 ** (-80 / 10)  # mean square; noise of 16-bit converters has any polarity


class Downmix:
    """The downmix of one stream; give it blocks in order, then `finish`."""

    def __init__(self, n_channels: int, sample_rate: int, report: Callable[[], None]) -> None:
        """Begin a stream.

        Args:
            n_channels: C.
            sample_rate: Hz.
            report: Called each time that channels are turned round.
        """
        self._n_channels = n_channels
        self._length = max(1, round(_BLOCK_SECONDS * sample_rate))
        self._fade_length = max(1, round(_FADE_SECONDS * sample_rate))
        self._report = report
        self._polarity = np.ones(n_channels, np.float32)
        self._is_first = True
        self._rest = np.zeros((0, n_channels), np.float32)

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mix samples.

        Args:
            block: float32 (T, C), finite.

        Returns:
            float32 (t,); up to 0.1 s of what was pushed is held back.
        """
        if self._n_channels == 1:
            return block[:, 0].copy()
        samples = np.concatenate([self._rest, block])
        whole = len(samples) // self._length * self._length
        self._rest = samples[whole:]
        return self._mix(samples[:whole])

    def finish(self) -> NDArray[np.float32]:
        """Return what was held back, float32 (t,)."""
        samples, self._rest = self._rest, self._rest[:0]
        return self._mix(samples)

    def _mix(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        mono = _mean(samples)
        if self._is_plain(samples, mono):
            self._is_first = self._is_first and not len(samples)
            return mono
        for start in range(0, len(samples), self._length):
            part = slice(start, start + self._length)
            before = self._polarity
            self._polarity = self._choose(samples[part], mono[part])
            if (self._polarity < 0).any():
                mono[part] = _mean(samples[part] * self._polarity)
            if not self._is_first and not np.array_equal(before, self._polarity):
                self._fade(mono[part], _mean(samples[part] * before))
            self._is_first = False
        return mono

    def _is_plain(self, samples: NDArray[np.float32], mono: NDArray[np.float32]) -> bool:
        """Whether no block needs a closer look, as in nearly all recordings."""
        if (self._polarity < 0).any() or len(samples) % self._length:
            return False
        n_blocks = len(samples) // self._length
        mixed = mono.reshape(n_blocks, self._length)
        channels = samples.reshape(n_blocks, self._length * self._n_channels)
        mixed_energies = self._n_channels * np.einsum("ij,ij->i", mixed, mixed)
        channel_energies = np.einsum("ij,ij->i", channels, channels)
        # With room for rounding: `_choose` decides.
        return bool((mixed_energies > 1.1 * _CANCELLED_SHARE * channel_energies).all())

    def _fade(self, mono: NDArray[np.float32], before: NDArray[np.float32]) -> None:
        """Let a block begin as the mix before it went on, so that the change does not click."""
        length = min(self._fade_length, len(mono))
        share = np.linspace(0, 1, length, dtype=np.float32)
        mono[:length] = before[:length] + share * (mono[:length] - before[:length])

    def _choose(
        self, samples: NDArray[np.float32], mono: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the polarity of each channel in a block, 1 or -1."""
        energies = np.mean(np.square(samples, dtype=np.float64), axis=0)
        channels = float(energies.mean())
        if channels < _SILENCE:
            return self._polarity
        is_turned = bool((self._polarity < 0).any())
        mixed = float(np.mean(np.square(mono, dtype=np.float64)))
        if mixed > (_RECOVERED_SHARE if is_turned else _CANCELLED_SHARE) * channels:
            return np.ones_like(self._polarity)
        if is_turned:
            turned = _mean(samples * self._polarity)
            if float(np.mean(np.square(turned, dtype=np.float64))) > _CANCELLED_SHARE * channels:
                return self._polarity
        loudest = samples[:, int(np.argmax(energies))].astype(np.float64)
        polarity = np.where(loudest @ samples.astype(np.float64) < 0, -1, 1).astype(np.float32)
        if (polarity < 0).any():
            self._report()
        return polarity


@dataclass(frozen=True)
class MonoRecording(RecordingView):
    """A recording of two channels, as a `Recording` of their mix.

    Attributes:
        report: As for `Downmix`.
    """

    report: Callable[[], None] = lambda: None

    @property
    def is_stereo(self) -> bool:
        """False."""
        return False

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield blocks of float32 (T,)."""
        downmix = Downmix(2, self.sample_rate, self.report)
        for block in self.recording.blocks():
            if len(mono := downmix.push(block)):
                yield mono
        if len(mono := downmix.finish()):
            yield mono


def _mean(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the channels in a fixed order, whatever the length is."""
    mono: NDArray[np.float32] = samples[:, 0].copy()
    for channel in range(1, samples.shape[1]):
        mono += samples[:, channel]
    mono /= np.float32(samples.shape[1])
    return mono
