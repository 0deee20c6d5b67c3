"""How the notes of a domain sound over time: one small network for all keys.

In: latents, frame by frame. Out: for each key and frame the levels of a few
timbres that a note is mixed from (struck, sustained, bright, dull: they are learnt). A
plucked string dies away however long its key is held, and a bowed one does not; to know how
long a key has been down, the network looks seconds back, and only an instant ahead.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.spectral.pitch import N_KEYS

N_TIMBRES = 4
QUIET = -2.0  # nepers below the first timbre that the others begin at
TAPS = 4  # of a convolution over the past
DILATIONS = (1, 4, 16, 32)
NEIGHBOURHOOD = 12  # keys to either side: an octave, which a note's strongest harmonic is away


class Voices(nn.Module):
    """Saliences to levels; every key is treated alike, apart from a learnt bias.

    Attributes:
        frames_before: Latent frames before a frame that can change it.
        frames_after: Latent frames after it.
    """

    def __init__(self, channels: int, latent_dim: int, frames_per_latent: int) -> None:
        super().__init__()
        self.frames_per_latent = frames_per_latent
        self.input = nn.Conv2d(1, channels, (3, 2 * NEIGHBOURHOOD + 1), padding=(1, NEIGHBOURHOOD))
        self.others = nn.Linear(latent_dim - N_KEYS, channels)
        self.key_bias = nn.Parameter(torch.zeros(channels, 1, N_KEYS))
        self.past = nn.ModuleList(
            nn.Conv2d(channels, channels, (TAPS, 1), dilation=(dilation, 1))
            for dilation in DILATIONS
        )
        self.output = nn.Conv2d(channels, N_TIMBRES * frames_per_latent, 1)
        nn.init.normal_(self.output.weight, std=0.01)
        assert self.output.bias is not None
        with torch.no_grad():
            self.output.bias.fill_(QUIET).view(frames_per_latent, N_TIMBRES)[:, 0] = 0.0
        self.frames_before = 1 + (TAPS - 1) * sum(DILATIONS)
        self.frames_after = 1

    def forward(self, saliences: Tensor, others: Tensor) -> Tensor:
        """Find how loud each timbre of each key is.

        Args:
            saliences: float [B, L, keys].
            others: The other latent channels, float [B, L, D - keys]: among other things
                they know better when a note begins.

        Returns:
            Levels in nepers, float [B, N, timbres * keys].
        """
        batch, n_latents, _ = saliences.shape
        x = saliences.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        common = self.others(others).transpose(1, 2).unsqueeze(3)
        x = F.gelu(self.input(x) + self.key_bias + common)
        for layer, dilation in zip(self.past, DILATIONS, strict=True):
            x = x + F.gelu(layer(F.pad(x, (0, 0, (TAPS - 1) * dilation, 0))))
        levels: Tensor = self.output(x)
        levels = levels.view(batch, self.frames_per_latent, N_TIMBRES, n_latents, N_KEYS)
        return levels.permute(0, 3, 1, 2, 4).reshape(batch, n_latents * self.frames_per_latent, -1)
