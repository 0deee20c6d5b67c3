"""An auxiliary loss for the encoder: a small network predicts the original's spectrum from latents.

In: latents, and the waveform that a decoder must produce. Out: a loss, whose gradient reaches the
encoder on a shorter way than through a decoder. Each domain has a network of its own, which can
learn the spectrum of its instrument, so the latents need to hold the notes alone. Only training
uses it; the paper has none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOWEST_HZ = 55.0  # A1; below it the window does not resolve semitones
N_FFT = 4096  # samples, at 16 kHz 0.26 s
BANDS_PER_OCTAVE = 12
N_BANDS = 76  # up to E8; those beyond half the sample rate are empty
HIDDEN = 128
LOUDNESS = 1000.0  # amplitudes of a thousandth and more of full scale count


class SpectrumPredictor(nn.Module):
    """Two layers from a latent frame to the loudness of each semitone around it.

    Args:
        latent_dim: D.
        sample_rate: Hz.
        hop_length: Samples per latent frame.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, latent_dim: int, sample_rate: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.hidden = nn.Linear(latent_dim, HIDDEN)
        self.output = nn.Linear(HIDDEN, N_BANDS)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.register_buffer("bands", semitones(sample_rate), persistent=False)

    def loss(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the mean squared error of the log loudness, a scalar.

        Args:
            latents: float [B, L, D].
            waveform: float [B, T], T = L * hop_length.
        """
        predicted = self.output(F.relu(self.hidden(latents)))
        return F.mse_loss(predicted.float(), self.loudness(waveform))

    def loudness(self, waveform: Tensor) -> Tensor:
        """Return the target: log loudness of each semitone, float [B, L, N_BANDS]."""
        before = (N_FFT - self.hop_length) // 2  # the middle of a window is that of a frame
        padded = F.pad(waveform.float(), (before, N_FFT - self.hop_length - before))
        frames = padded.unfold(1, N_FFT, self.hop_length) * self.window
        amplitude = torch.fft.rfft(frames).abs() * (2 / N_FFT)
        return torch.log1p(LOUDNESS * (amplitude.square() @ self.bands).sqrt())


def semitones(sample_rate: int) -> Tensor:
    """Return triangular bands a semitone apart, float32 [N_FFT / 2 + 1, N_BANDS]."""
    bins = torch.arange(1, N_FFT // 2 + 1) * (sample_rate / N_FFT)
    place = BANDS_PER_OCTAVE * torch.log2(bins / LOWEST_HZ)
    bands = (1 - (place.unsqueeze(1) - torch.arange(N_BANDS)).abs()).clamp_min(0)
    return F.pad(bands, (0, 0, 1, 0))
