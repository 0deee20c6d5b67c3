"""Crossfades: from chunks that overlap by a frame to one waveform without audible seams.

Two chunks play the same latents with different draws, so they agree in sound but not in
phase. In the frame that both have, the later chunk may be delayed by up to a fifth of a
frame, and the crossfade, a fifth of a frame long, may lie anywhere. Delay and place are chosen
where the two waveforms differ least, relative to their energy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.families.wavenet.sampling.chunks import Chunk

CROSSFADES_PER_FRAME = 5  # a frame divided by this is the crossfade's length and longest delay


def find_crossfade(before: Tensor, after: Tensor, length: int) -> tuple[int, int]:
    """Find where two waveforms are most alike.

    Args:
        before: float [T], the earlier chunk's.
        after: float [length + T], the later chunk's, from `length` samples earlier on.
        length: Samples of a crossfade, and the longest delay.

    Returns:
        Sample of `before` at which to begin the crossfade, and delay of `after` in samples.
    """
    # In NumPy, which keeps to one thread: torch shares steps as small as these among all cores,
    # and where other programs use those, the threads wait for each other most of the time.
    earlier, later = before.numpy(), after.numpy()
    # Row d holds `after` delayed by d samples: of equals, as in silence, the first is taken.
    delayed = sliding_window_view(later, len(earlier))[::-1]
    difference = _windowed_sums(np.square(delayed - earlier), length)
    own = _windowed_sums(np.square(later), length)
    energy = sliding_window_view(own, difference.shape[1])[::-1]
    energy = energy + _windowed_sums(np.square(earlier), length)
    # The constant keeps silence from dividing by zero, 60 dB below full scale.
    unlikeness = difference / (energy + 1e-6 * length)
    delay, place = divmod(int(unlikeness.argmin()), unlikeness.shape[1])
    return place, delay


def _windowed_sums(values: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """Return sums over `length` neighbours in the last dimension, float64 [..., T - length + 1]."""
    total = np.cumsum(values, axis=-1, dtype=np.float64)
    total = np.concatenate([np.zeros_like(total[..., :1]), total], axis=-1)
    sums: NDArray[np.float64] = total[..., length:] - total[..., :-length]
    return sums


@dataclass
class _Part:
    """The samples of a chunk that are generated and not yet played, from sample `begin` on.

    Positions are in samples of the whole waveform; the chosen delay is included in `begin`.
    """

    chunk: Chunk
    begin: int
    waveform: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def end(self) -> int:
        return self.begin + len(self.waveform)

    def between(self, start: int, stop: int) -> Tensor:
        return self.waveform[start - self.begin : stop - self.begin]


class Crossfader:
    """Takes the frames of chunks as they are generated, gives one waveform in order.

    Args:
        hop_length: Samples per latent frame.

    Attributes:
        length: Samples of a crossfade, and the longest delay.
        crossfades: Place and delay of each so far, in samples.
    """

    def __init__(self, hop_length: int) -> None:
        self.hop_length = hop_length
        self.length = max(1, hop_length // CROSSFADES_PER_FRAME)
        self.crossfades: list[tuple[int, int]] = []
        self._parts: list[_Part] = []  # by chunk; the first is the one that plays
        self._n_played = 0  # samples

    def open(self, chunk: Chunk) -> None:
        """Expect a chunk; they come in order."""
        self._parts.append(_Part(chunk, chunk.warmup * self.hop_length))

    def add(self, chunk: Chunk, waveform: Tensor) -> None:
        """Take the next samples of a chunk, float [t]."""
        part = self._parts[chunk.index - self._parts[0].chunk.index]
        part.waveform = torch.cat([part.waveform, waveform])

    def take(self, *, last: bool) -> Tensor:
        """Return the samples that no later crossfade can change, float [t].

        Args:
            last: Whether the input has ended and all its chunks are complete.
        """
        taken = [torch.zeros(0)]
        while len(self._parts) > 1 and (faded := self._crossfade(*self._parts[:2])) is not None:
            taken.append(faded)
            self._parts.pop(0)
        if self._parts:
            playing = self._parts[0]
            end = playing.chunk.end * self.hop_length
            # A delayed chunk has samples beyond its end, which are dropped.
            taken.append(self._play(playing, end if last else end - self.hop_length))
        return torch.cat(taken)

    def _play(self, part: _Part, end: int) -> Tensor:
        """Return a part's samples up to `end`, as far as they are generated."""
        end = min(end, part.end)
        played = part.between(self._n_played, end)
        self._n_played += len(played)
        part.waveform, part.begin = part.waveform[max(0, end - part.begin) :], max(part.begin, end)
        return played

    def _crossfade(self, before: _Part, after: _Part) -> Tensor | None:
        """Return the rest of a part and its crossfade into the next, None if it is too early."""
        start, stop = (before.chunk.end - 1) * self.hop_length, before.chunk.end * self.hop_length
        if before.end < stop or after.end < stop:
            return None
        place, delay = find_crossfade(
            before.between(start, stop), after.between(start - self.length, stop), self.length
        )
        place += start
        after.begin += delay
        self.crossfades.append((place, delay))
        ramp = torch.linspace(0, 1, self.length + 2)[1:-1]
        rest = self._play(before, place)
        fading, rising = (part.between(place, place + self.length) for part in (before, after))
        self._n_played = place + self.length
        return torch.cat([rest, torch.lerp(fading, rising, ramp)])
