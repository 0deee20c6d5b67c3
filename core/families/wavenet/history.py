"""Corruption of a decoder's past in training, so that it has to use the latents.

In: a batch's waveform. Out: the waveform whose codes a WaveNet gets as its past, while it still has
to predict those of the original. From the true past the next sample can be predicted nearly as
well without latents as with them, so early in training a decoder learns to ignore them. Under noise
only what repeats of the past is usable, and the latents hold what that is; after a gap only the
latents are left. Some items stay as they are, because in generation the past is the decoder's own
output, which has neither noise nor gaps. The paper has none of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from core.families.noise import normal_like, uniform_like

if TYPE_CHECKING:
    from torch import Tensor

    from core.config import WaveNetConfig

LEAST_RMS = 1e-4  # of full scale: silence gets some noise, too


def corrupts_past(config: WaveNetConfig) -> bool:
    """Return whether the configuration has any corruption of the past."""
    return config.history_noise_share > 0 or config.history_gap_share > 0


def corrupt_past(waveform: Tensor, config: WaveNetConfig) -> Tensor:
    """Return the past that takes the place of the true one.

    Random numbers are drawn item by item, through `core.families.noise`.

    Args:
        waveform: float [B, T], -1..1.
        config: How often an item gets noise, and gaps, and how much.

    Returns:
        float [B, T], beyond -1..1 where noise reaches it; mu-law coding clips that.
    """
    past = waveform
    if config.history_noise_share:
        past = _with_noise(past, config)
    if config.history_gap_share:
        past = _with_gaps(past, config)
    return past


def _with_noise(waveform: Tensor, config: WaveNetConfig) -> Tensor:
    """Add white noise to some items, at a level drawn for each."""
    chosen, place = uniform_like(waveform[:, :2]).unsqueeze(2).unbind(1)
    quietest, loudest = config.history_noise_db
    gain = 10 ** ((quietest + (loudest - quietest) * place) / 20)
    rms = waveform.square().mean(1, keepdim=True).sqrt().clamp_min(LEAST_RMS)
    is_noisy = chosen < config.history_noise_share
    return waveform + is_noisy * gain * rms * normal_like(waveform)


def _with_gaps(waveform: Tensor, config: WaveNetConfig) -> Tensor:
    """Silence every other stretch of some items; both lengths are drawn for each item."""
    chosen, gap, kept, phase = uniform_like(waveform[:, :4]).unsqueeze(2).unbind(1)
    shortest, longest = (seconds * config.sample_rate for seconds in config.history_gap_seconds)
    gap, kept = (shortest * (longest / shortest) ** place for place in (gap, kept))
    time = torch.arange(waveform.shape[1], device=waveform.device)
    is_gap = (time / (gap + kept) + phase) % 1 < gap / (gap + kept)
    return waveform.masked_fill(is_gap & (chosen < config.history_gap_share), 0)
