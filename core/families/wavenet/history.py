"""What a decoder hears of its past in training, spoilt so that it needs the latents.

In: a batch's waveform. Out: the waveform whose codes a WaveNet is fed, while it still has to
predict those of the original. From an unspoilt past the next sample can be told nearly as well
without latents as with them, so a young decoder learns to ignore them. Noise leaves of the past
what repeats, and the latents say what that is; after a gap there is nothing but the latents.
Items that are left as they are keep the decoder good at what generation is: a past of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from core.families.noise import normal_like, uniform_like

if TYPE_CHECKING:
    from torch import Tensor

    from core.config import WaveNetConfig

LEAST_RMS = 1e-4  # of full scale: silence gets some noise, too


def is_spoilt(config: WaveNetConfig) -> bool:
    """Tell whether training changes the past at all."""
    return config.history_noise_share > 0 or config.history_gap_share > 0


def spoil(waveform: Tensor, config: WaveNetConfig) -> Tensor:
    """Return the past that is heard instead of the true one.

    All that is drawn for an item is drawn through `core.families.noise`.

    Args:
        waveform: float [B, T], -1..1.
        config: How often an item gets noise, and gaps, and how much.

    Returns:
        float [B, T]; mu-law coding clips what noise brings beyond full scale.
    """
    heard = waveform
    if config.history_noise_share:
        heard = _with_noise(heard, config)
    if config.history_gap_share:
        heard = _with_gaps(heard, config)
    return heard


def _with_noise(waveform: Tensor, config: WaveNetConfig) -> Tensor:
    """Add white noise, of one level an item, to some items."""
    chosen, place = uniform_like(waveform[:, :2]).unsqueeze(2).unbind(1)
    quietest, loudest = config.history_noise_db
    gain = 10 ** ((quietest + (loudest - quietest) * place) / 20)
    rms = waveform.square().mean(1, keepdim=True).sqrt().clamp_min(LEAST_RMS)
    is_noisy = chosen < config.history_noise_share
    return waveform + is_noisy * gain * rms * normal_like(waveform)


def _with_gaps(waveform: Tensor, config: WaveNetConfig) -> Tensor:
    """Silence every other stretch of some items; an item has one length of gaps, one between."""
    chosen, gap, heard, phase = uniform_like(waveform[:, :4]).unsqueeze(2).unbind(1)
    shortest, longest = (seconds * config.sample_rate for seconds in config.history_gap_seconds)
    gap, heard = (shortest * (longest / shortest) ** place for place in (gap, heard))
    time = torch.arange(waveform.shape[1], device=waveform.device)
    is_gap = (time / (gap + heard) + phase) % 1 < gap / (gap + heard)
    return waveform.masked_fill(is_gap & (chosen < config.history_gap_share), 0)
