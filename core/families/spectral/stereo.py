"""Two channels in the spectral family: one set of notes, with a level for each channel.

Each channel by itself would give notes of its own: one that is in the middle would be found on
one side only, or with another phase on each, and wander. So the networks work on one signal, whose
power spectrum is the mean of the channels', and only the levels of keys differ between channels:

    channels ── spectra ──┬── mean power ── networks ── latents of the mean ──┬── latents (2, …)
                          └── level of each key, beside that of the mean ─────┘

The decoder undoes that. Its networks get the mean's latents, and each channel plays all notes with
excitations of its own on the oscillators that both share. This costs less than two channels, and
sound that is the same on both sides stays the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from core.families.spectral.note_envelopes import (
    EXCITATION_LIMITS,
    N_TIMBRES,
    NEPERS_PER_SALIENCE,
)
from core.families.spectral.salience import N_KEYS
from core.families.spectral.synthesizer import Controls

DECADES_PER_PRESENCE = 4  # of power; a presence spans 40 dB a unit, as the encoder's grid does
FAINTEST = 1e-12  # power of a key that is not in a channel
FAINT = 1e-9  # amplitude, so that silence has a frequency and a side


def to_channels(latents: Tensor, power: Tensor) -> Tensor:
    """Give each channel latents that differ from the mean's in the presences of keys alone.

    Args:
        latents: Of the channels' mean, float [1, L, D].
        power: Of the keys in each channel, float [C, L, keys].

    Returns:
        float [C, L, D].
    """
    power = power.clamp(min=FAINTEST)
    louder = (power / power.mean(0, keepdim=True)).log10() / DECADES_PER_PRESENCE
    presence = _untanh(latents[..., :N_KEYS]) + louder
    others = latents[..., N_KEYS:].expand(len(power), -1, -1)
    return torch.cat([presence.tanh(), others], dim=2)


def to_mean(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Undo `to_channels`; also defined for latents that are not its result.

    Args:
        latents: float [C, L, D].

    Returns:
        Latents of the channels' mean, float [1, L, D], and by how much each key is more present in
        each channel, float [C, L, keys]. Both are exact for channels that are the same.
    """
    latents = latents.contiguous()  # so that channels that are the same give what one gives
    if (latents == latents[:1]).all():
        return latents[:1], torch.zeros_like(latents[..., :N_KEYS])
    presence = _untanh(latents[..., :N_KEYS])
    power = 10 ** (DECADES_PER_PRESENCE * presence)
    mean = power.mean(0, keepdim=True).log10() / DECADES_PER_PRESENCE
    parts = [
        mean.tanh(),
        latents[..., N_KEYS : 2 * N_KEYS].amax(0, keepdim=True),  # struck on any side
        latents[..., 2 * N_KEYS :].mean(0, keepdim=True),
    ]
    return torch.cat(parts, dim=2), presence - mean


def excite_channels(values: Tensor, sides: Tensor, n_envelopes: int) -> Tensor:
    """Return the decoder's values for each channel, which differ in excitations.

    Args:
        values: Of the channels' mean, float [1, N, values]; the envelopes' are the last of them.
        sides: By how much each key is more present in each channel, float [C, N, keys].
        n_envelopes: Of each key. Those after the timbres' are strikes, whose noise lies where all
            notes together do (`share_oscillators`), and not where its key does.

    Returns:
        float [C, N, values].
    """
    n_keys = n_envelopes * N_KEYS
    sizes = [values.shape[2] - 2 * n_keys, n_keys, n_keys]
    others, excitation, decay = torch.split(values, sizes, dim=2)
    # Limited before the levels are added: a limit would move the loud notes of one channel only.
    louder = NEPERS_PER_SALIENCE * F.pad(
        torch.cat([sides] * N_TIMBRES, dim=2), (0, n_keys - N_TIMBRES * N_KEYS)
    )
    excitation = excitation.clamp(*EXCITATION_LIMITS) + louder
    shape = (len(sides), -1, -1)
    return torch.cat([others.expand(shape), excitation, decay.expand(shape)], dim=2)


def share_oscillators(controls: Controls) -> Controls:
    """Give channels common frequencies, weighted by their levels, and noise as loud as their notes.

    Args:
        controls: Of C channels.

    Returns:
        The same amplitudes; deviations of all channels, float [1, N, S].
    """
    amplitude = controls.amplitude
    weight = amplitude + FAINT
    deviation = (weight * controls.deviation).sum(0, keepdim=True) / weight.sum(0, keepdim=True)
    power = amplitude.square().sum(2, keepdim=True) + FAINT**2
    share = (power / power.mean(0, keepdim=True)).sqrt()
    return Controls(amplitude, deviation, controls.noise * share)


def _untanh(presence: Tensor) -> Tensor:
    return presence.clamp(-0.999, 0.999).atanh()
