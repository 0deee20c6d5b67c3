"""Silence where the source is silent, and no bass where it has none.

In: the latents that a decoder gets, and its controls. Out: controls with gains from 0 to 1. A
decoder that is given silence still plays what its networks have for a bias, at -40 dB and below;
this is the noise gate of a mixing desk, with presences for a key input. What sounds on after its
note has ended is left to end.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.families.spectral.salience import LOWEST_KEY, N_KEYS, SILENT_PRESENCE, key_to_hz
from core.families.spectral.synthesizer import Controls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.config import SpectralConfig

BASS_HZ = 60.0  # below it there is sound only where a key below it, or the one above, is present
BASS_RANGE = (-0.7, -0.4)  # presences (-68 and -56 dB) at which the bass is silent, and full
RELEASE_DB = 30.0  # a second
CLOSED_DB = -60.0  # gain below which a gate is closed


class NoiseGate:
    """Gains of one stream, from its latents to its controls; they do not depend on its blocks.

    Args:
        config: The family's configuration.
    """

    def __init__(self, config: SpectralConfig) -> None:
        self.n_repeats = config.downsampling
        self.n_low = int(BASS_HZ * config.n_fft / config.sample_rate)  # oscillators, from bin 1 on
        hertz = key_to_hz(LOWEST_KEY + torch.arange(N_KEYS))
        self.n_bass_keys = int((hertz < BASS_HZ).sum()) + 1
        self.kept = 10 ** (-RELEASE_DB / 20 * config.hop_length / config.sample_rate)
        self.waiting: list[Tensor] = []  # of latents that were read, [l, 2] each
        self.gains = (0.0, 0.0)  # of the last frame: of everything, and of the bass besides

    def listen(self, blocks: Iterator[Tensor]) -> Iterator[Tensor]:
        """Pass latents on, float [l, D] or [l, C, D], and remember how present keys are."""
        for block in blocks:
            keys = block[..., :N_KEYS].clamp(-0.999, 0.999).atanh()
            keys = keys if keys.dim() == 2 else keys.amax(1)  # those of the louder channel
            bass = keys[:, : self.n_bass_keys]
            self.waiting.append(torch.stack([keys.amax(1), bass.amax(1)], dim=1))
            yield block

    def apply(self, controls: Controls) -> Controls:
        """Return the controls of the next frames, whose latents were read before."""
        n_frames = controls.amplitude.shape[-2]
        gains = self._gains(n_frames // self.n_repeats)
        if all(own == (1.0, 1.0) for own in gains):
            return controls
        sides = torch.tensor(gains, device=controls.amplitude.device)
        whole, bass = sides.repeat_interleave(self.n_repeats, dim=0).unsqueeze(2).unbind(1)
        amplitude, noise = controls.amplitude * whole, controls.noise * whole
        amplitude[..., : self.n_low] *= bass
        noise[..., : self.n_low + 1] *= bass
        return Controls(amplitude, controls.deviation, noise)

    def _gains(self, n_latents: int) -> list[tuple[float, float]]:
        presences = torch.cat(self.waiting)
        self.waiting = [presences[n_latents:]]
        lowest, highest = BASS_RANGE
        bass = ((presences[:n_latents, 1] - lowest) / (highest - lowest)).clamp(0, 1)
        is_open = (presences[:n_latents, 0] > SILENT_PRESENCE).to(bass.dtype)
        opened = zip(is_open.tolist(), bass.tolist(), strict=True)
        gains = list(accumulate(opened, self._release, initial=self.gains))[1:]
        self.gains = gains[-1] if gains else self.gains
        closed = 10 ** (CLOSED_DB / 20)
        return [(a if a > closed else 0.0, b if b > closed else 0.0) for a, b in gains]

    def _release(
        self, before: tuple[float, float], opened: tuple[float, float]
    ) -> tuple[float, float]:
        return max(opened[0], self.kept * before[0]), max(opened[1], self.kept * before[1])
