"""The adversary of the spectral decoders: is this a recording, or was it made?

A reconstruction loss is content with the mean of all the sounds that a note may have; the
mean is smoother than each of them. Here small networks look at log spectrograms of two
window lengths and learn to tell a decoder's sound from the recordings of its domain, in
patches, and the decoder learns to be taken for them (multi-resolution spectrogram
discriminators: Jang et al. 2021, arXiv 2106.07889; least-squares loss: Mao et al. 2017;
feature matching: Kumar et al. 2019, arXiv 1910.06711).

None looks at waveforms period by period, as those of HiFi-GAN do (Kong et al. 2020, arXiv
2010.05646): they judge phases, which oscillators do not learn.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.base import Adversary
from core.families.spectral.stft import spectrogram

if TYPE_CHECKING:
    from core.config import SpectralConfig

WINDOWS_SECONDS = (2048 / 44100, 512 / 44100)  # one sees partials, the other attacks
CEILING_HZ = 8000.0
FLOOR = 1e-4  # -80 dB of full scale
CHANNELS = (16, 32, 32, 64)
PART = 3  # one third of each item, its middle, is judged: enough, in a third of the time
SLOPE = 0.1  # of the leaky rectifier
FEATURE_WEIGHT = 2.0  # of feature matching against the verdict (Kumar et al.: 10 for waveforms)


class SpectrogramDiscriminators(Adversary):
    """One patch discriminator a window length, for all domains."""

    def __init__(self, config: SpectralConfig, n_domains: int) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            _Discriminator(2 ** round(math.log2(seconds * config.sample_rate)), config, n_domains)
            for seconds in WINDOWS_SECONDS
        )

    def loss(self, output: Tensor, waveform: Tensor, domain_id: int) -> Tensor:
        """Return the least-squares loss of the verdicts; see `Adversary.loss`."""
        total = output.new_zeros(())
        for discriminator in self.discriminators:
            both = torch.cat([_middle(waveform), _middle(output)])
            real, made = discriminator(both, domain_id)[-1].chunk(2)
            total = total + (real - 1).square().mean() + made.square().mean()
        return total / len(self.discriminators)

    def opposing_loss(self, output: Tensor, waveform: Tensor, domain_id: int) -> Tensor:
        """Return the decoder's term: verdicts and features; see `Adversary.opposing_loss`."""
        total = output.new_zeros(())
        for discriminator in self.discriminators:
            with torch.no_grad():
                wanted = discriminator(_middle(waveform), domain_id)
            found = discriminator(_middle(output), domain_id)
            total = total + (found[-1] - 1).square().mean()
            for one, other in zip(found[:-1], wanted[:-1], strict=True):
                distance = (one - other).abs().mean() / other.abs().mean()
                total = total + FEATURE_WEIGHT * distance / len(wanted[:-1])
        return total / len(self.discriminators)


def _middle(waveform: Tensor) -> Tensor:
    length = waveform.shape[1] // PART
    return waveform[:, length : 2 * length]


class _Discriminator(nn.Module):
    """Strided convolutions over frequency and time, with a bias for each domain."""

    def __init__(self, n_fft: int, config: SpectralConfig, n_domains: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, n_fft // 4
        self.n_bins = min(int(CEILING_HZ * n_fft / config.sample_rate), n_fft // 2 + 1)
        widths = (1, *CHANNELS)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(
                nn.Conv2d(c_in, c_out, (3, 5), stride=(1 + index % 2, 2), padding=(1, 2))
            )
            for index, (c_in, c_out) in enumerate(pairwise(widths))
        )
        self.domain = nn.Embedding(n_domains, CHANNELS[0])
        self.verdict = nn.Conv2d(CHANNELS[-1], 1, 3, padding=1)

    def forward(self, waveform: Tensor, domain_id: int) -> list[Tensor]:
        """Judge waveforms float [B, T]; return the features of all layers and the verdict."""
        length = waveform.shape[1] // self.hop * self.hop
        magnitudes = spectrogram(waveform[:, :length], self.n_fft, self.hop, self.n_bins)
        x = (magnitudes + FLOOR).log10().add(2).unsqueeze(1)
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index == 0:
                x = x + self.domain.weight[domain_id].view(1, -1, 1, 1)
            x = F.leaky_relu(x, SLOPE)
            features.append(x)
        return [*features, self.verdict(x)]
