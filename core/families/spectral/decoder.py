"""The spectral family's decoder: latents to waveform by an inverse STFT (Vocos)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.base import Decoder, run_in_windows
from core.families.spectral.blocks import ConvNeXtBlock
from core.families.spectral.losses import multi_resolution_loss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.config import SpectralConfig

WINDOW_SECONDS = 10.0  # generated at a time; bounds the memory of a long piece


@dataclass(frozen=True)
class SpectralOptions:
    """Generation options of the spectral family: none, its output is determined."""


class SpectralDecoder(Decoder):
    """ConvNeXt blocks at the frame rate, then magnitudes and phases of an inverse STFT.

    Siuzdak 2023 (arXiv 2306.00814) has no upsampling beyond the inverse STFT; here one
    linear layer splits each latent frame into spectrogram frames first.
    """

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.decoder_channels
        self.input = nn.Linear(config.latent_dim, channels * config.downsampling)
        self.blocks = nn.Sequential(
            *(
                ConvNeXtBlock(channels, config.decoder_hidden, config.kernel_size)
                for _ in range(config.decoder_layers)
            )
        )
        self.norm = nn.LayerNorm(channels)
        self.head = InverseStftHead(channels, config.n_fft, config.frame_length)
        reach = config.decoder_layers * (config.kernel_size // 2)
        reach += config.n_fft // config.frame_length
        self.context_frames = math.ceil(reach / config.downsampling)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the waveform of latents.

        Args:
            latents: float [B, L, D].

        Returns:
            float [B, T], T = L * hop_length.
        """
        batch, n_latents, _ = latents.shape
        x = self.input(latents)
        x = x.view(batch, n_latents * self.config.downsampling, self.config.decoder_channels)
        waveform: Tensor = self.head(self.norm(self.blocks(x)))
        return waveform

    def loss(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the multi-resolution STFT loss; see `Decoder.loss`."""
        return multi_resolution_loss(self(latents), waveform, self.config.sample_rate)

    def heldout_figure(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the multi-resolution STFT distance, the training loss on held-out audio."""
        return self.loss(latents, waveform)

    def generate(self, blocks: Iterator[Tensor], *, seed: int, options: Any) -> Iterator[Tensor]:
        """Generate in windows; nothing is drawn, so `seed` and `options` change nothing."""
        del seed, options
        latent_rate = self.config.sample_rate / self.config.hop_length
        windows = run_in_windows(
            blocks,
            lambda latents: self(latents.unsqueeze(0)).view(len(latents), -1),
            window=round(WINDOW_SECONDS * latent_rate),
            context=self.context_frames,
        )
        for window in windows:
            yield window.flatten()


class InverseStftHead(nn.Module):
    """Magnitude and phase of each frame from its features, then overlap-add."""

    def __init__(self, channels: int, n_fft: int, frame_length: int) -> None:
        super().__init__()
        assert n_fft % frame_length == 0, "frames overlap a whole number of times"
        self.n_fft, self.frame_length = n_fft, frame_length
        self.output = nn.Linear(channels, n_fft + 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map features float [B, N, C] to a waveform float [B, N * frame_length]."""
        log_magnitude, phase = self.output(x).chunk(2, dim=2)
        # Bounded, so that one wild frame early in training cannot overflow.
        spectrum = torch.polar(log_magnitude.clamp(max=7.0).exp(), phase)
        window = torch.hann_window(self.n_fft, device=x.device)
        frames = torch.fft.irfft(spectrum, self.n_fft) * window
        squares = window.square().expand(1, x.shape[1], self.n_fft)
        return self.overlap_add(frames) / self.overlap_add(squares).clamp(min=1e-3)

    def overlap_add(self, frames: Tensor) -> Tensor:
        """Sum frames float [B, N, n_fft], each centred on its hop, to [B, N * frame_length]."""
        batch, n_frames, _ = frames.shape
        overlap = self.n_fft // self.frame_length
        pieces = frames.view(batch, n_frames, overlap, self.frame_length)
        total = sum(F.pad(pieces[:, :, i], (0, 0, i, overlap - 1 - i)) for i in range(overlap))
        assert isinstance(total, Tensor)
        start = (self.n_fft - self.frame_length) // 2
        return total.flatten(1)[:, start : start + n_frames * self.frame_length]
