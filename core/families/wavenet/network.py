"""The WaveNet of one domain (Mor et al. 2019, sec. 3.1): codes and latents in, logits out.

Teacher-forced: all samples at once, from the original's. `sampling` runs the same weights
sample by sample, `decoder` puts both behind the family's seam. Frame f of the latents
conditions samples hop * f to hop * f + hop - 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.families.wavenet import channels_last, mulaw

if TYPE_CHECKING:
    from core.config import WaveNetConfig


class GatedLayer(nn.Module):
    """One dilated, gated layer with its own projection of the latents."""

    def __init__(self, config: WaveNetConfig, dilation: int) -> None:
        super().__init__()
        residual, skip = config.residual_channels, config.skip_channels
        self.dilation = dilation
        self.dilated = nn.Conv1d(residual, 2 * residual, 2, dilation=dilation)
        self.condition = nn.Conv1d(config.latent_dim, 2 * residual, 1)
        self.residual = nn.Conv1d(residual, residual, 1)
        self.skip = nn.Conv1d(residual, skip, 1)

    def forward(self, x: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Advance one layer.

        Args:
            x: float [B, C, T].
            latents: float [B, D, L].

        Returns:
            The next layer's input, float [B, C, T], and this layer's share of the skip sum.
        """
        gate, filtered = add_condition(
            self.dilated(F.pad(x, (self.dilation, 0))), self.condition(latents)
        ).chunk(2, dim=1)
        y = gate.sigmoid() * filtered.tanh()
        return x + self.residual(y), self.skip(y)


def add_condition(x: Tensor, condition: Tensor) -> Tensor:
    """Add frame-rate values to sample-rate ones, each frame repeated over its samples.

    Args:
        x: float [B, C, T].
        condition: float [B, C, L], T a multiple of L.
    """
    batch, channels, n_frames = condition.shape
    framed = x.view(batch, channels, n_frames, -1) + condition.unsqueeze(3)
    return framed.view_as(x)


class WaveNet(nn.Module):
    """An autoregressive model of a domain's mu-law codes, conditioned on latents."""

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        residual, skip = config.residual_channels, config.skip_channels
        self.hop_length = config.hop_length
        self.checkpoint_activations = config.checkpoint_activations
        self.input = nn.Conv1d(1, residual, 2)
        self.input_skip = nn.Conv1d(residual, skip, 1)
        self.layers = nn.ModuleList(
            GatedLayer(config, 2**i)
            for _ in range(config.decoder_blocks)
            for i in range(config.decoder_layers)
        )
        self.mix = nn.Conv1d(skip, skip, 1)
        self.mix_condition = nn.Conv1d(config.latent_dim, skip, 1)
        self.output = nn.Conv1d(skip, mulaw.N_CLASSES, 1)
        # Samples, as the paper counts the dilated stack; the first convolution adds one.
        self.receptive_field = 1 + config.decoder_blocks * (2**config.decoder_layers - 1)

    def forward(self, codes: Tensor, latents: Tensor) -> Tensor:
        """Predict each code from those before it and from the latents.

        Args:
            codes: int64 [B, T], values 0..255, the original (shifted in here).
            latents: float [B, L, D], T = L * hop_length.

        Returns:
            Logits, float [B, Q, T].
        """
        shifted = F.pad(codes[:, :-1], (1, 0), value=mulaw.SILENCE)
        x = mulaw.to_input(shifted).to(latents.dtype).unsqueeze(1)
        # Before its first sample a decoder has heard silence, here as in the sampler.
        silence = mulaw.SILENCE / (mulaw.N_CLASSES - 1) - 0.5
        x = F.pad(x, (1, 0), value=silence)
        if channels_last.is_wanted(x) and not self.checkpoint_activations:
            return channels_last.predict(self, x, latents)
        latents = latents.transpose(1, 2)
        x = self.input(x)
        skip_sum = self.input_skip(x)
        for layer in self.layers:
            if self.checkpoint_activations and x.requires_grad:
                x, skip = checkpoint(layer, x, latents, use_reentrant=False)
            else:
                x, skip = layer(x, latents)
            skip_sum = skip_sum + skip
        mixed = add_condition(self.mix(F.relu(skip_sum)), self.mix_condition(latents))
        logits: Tensor = self.output(F.relu(mixed))
        return logits
