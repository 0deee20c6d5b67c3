"""The ConvNeXt block, which the spectral encoder and decoder are built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.spectral.stft import ALL
from core.families.windows import frames_for, run_in_context

if TYPE_CHECKING:
    from collections.abc import Iterator


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a per-frame two-layer network, residual.

    After Liu et al. 2022 (arXiv 2201.03545) as used for audio by Vocos (Siuzdak 2023,
    arXiv 2306.00814). Each frame is normalised by itself, so that no output depends on audio
    beyond the receptive field, and windows give the result of the whole.

    Args:
        channels: Width.
        hidden: Width of the hidden layer.
        kernel_size: Taps of the convolution over time, an odd number.
        dilation: Frames between its taps.
        is_causal: Whether all taps but the last lie in the past; else half of them lie ahead.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        is_causal: bool = False,
    ) -> None:
        super().__init__()
        reach = (kernel_size - 1) * dilation
        self.padding = (reach, 0) if is_causal else (reach // 2, reach // 2)
        self.depthwise = nn.Conv1d(
            channels, channels, kernel_size, dilation=dilation, groups=channels
        )
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.project = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor, kept: slice = ALL) -> Tensor:
        """Map float [B, N, C] to float [B, N, C], or as many frames as are kept."""
        before, after = self.padding
        needed = frames_for(x, kept, before=before, after=after)
        # The convolution tap by tap, which keeps the channels last: faster than a Conv1d, most of
        # all backwards.
        step = self.depthwise.dilation[0]
        taps = self.depthwise.weight[:, 0].T
        n_frames = needed.shape[1] - before - after
        assert self.depthwise.bias is not None
        y = torch.addcmul(self.depthwise.bias, needed[:, :n_frames], taps[0])
        for number, tap in enumerate(taps[1:], start=1):
            y.addcmul_(needed[:, number * step : number * step + n_frames], tap)
        return x[:, kept] + self.per_frame(y)

    def per_frame(self, y: Tensor) -> Tensor:
        """Apply what follows the convolution: float [B, N, C] to what is added to the input."""
        result: Tensor = self.scale * self.project(F.gelu(self.expand(self.norm(y))))
        return result

    def stream(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Map blocks of float [l, C] to blocks of float [l, C], as they arrive."""
        before, after = self.padding
        return run_in_context(
            frames, lambda x, kept: self(x.unsqueeze(0), kept)[0], before=before, after=after
        )
