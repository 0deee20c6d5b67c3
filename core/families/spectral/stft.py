"""Magnitudes on the spectral family's frame grid, and frames back to a waveform."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FAINTEST = 1e-12  # power added to every bin, so that the root has a finite gradient at silence


ALL = slice(None)  # of the frames of a waveform


def spectrogram(
    waveform: Tensor, n_fft: int, frame_length: int, n_bins: int | None = None, kept: slice = ALL
) -> Tensor:
    """Return magnitudes on the family's frame grid.

    Frame k is centred on the middle of samples k * frame_length to (k + 1) *
    frame_length - 1; beyond its ends the waveform is silent. A full-scale sine peaks at
    about 0.5.

    Args:
        waveform: float [B, T], T a multiple of frame_length.
        n_fft: Hann window, in samples.
        frame_length: Samples between frames.
        n_bins: How many bins from 0 Hz up; None for all.
        kept: The frames to return.

    Returns:
        float [B, T / frame_length, n_bins].
    """
    window = torch.hann_window(n_fft, dtype=waveform.dtype, device=waveform.device)
    padded = pad_to_windows(waveform, n_fft, frame_length, kept)
    all_bins = n_fft // 2 + 1
    window, n_bins = window / window.sum(), min(n_bins or all_bins, all_bins)
    if not padded.requires_grad:  # also because TorchScript has no functions of autograd
        return _magnitudes(padded, window, frame_length, n_bins)[1]
    magnitudes: Tensor = _Magnitudes.apply(  # type: ignore[no-untyped-call]
        padded, window, frame_length, n_bins
    )
    return magnitudes


def frame_spectrum(waveform: Tensor, n_fft: int, frame_length: int, kept: slice = ALL) -> Tensor:
    """Return the spectra of frames that no window was applied to; see `hann`.

    Args:
        waveform: float [B, T], T a multiple of frame_length.
        n_fft: Samples of a frame.
        frame_length: Samples between frames, which lie as those of `spectrogram`.
        kept: The frames to return.

    Returns:
        complex [B, T / frame_length, n_fft // 2 + 1].
    """
    frames = pad_to_windows(waveform, n_fft, frame_length, kept).unfold(1, n_fft, frame_length)
    spectrum: Tensor = torch.fft.rfft(frames, norm="forward")
    return spectrum


def hann(spectrum: Tensor, n_bins: int) -> Tensor:
    """Apply Hann's window to the lowest bins of spectra, complex [..., bins] to [..., n_bins].

    The window is a sum of three exponentials, so three bins make one, and only those that are used
    are worked on. A full-scale sine then peaks at about 0.5.
    """
    sides = [spectrum[..., 1:2].conj(), spectrum[..., : n_bins + 1]]
    if n_bins == spectrum.shape[-1]:
        sides.append(spectrum[..., -2:-1].conj())
    around = torch.cat(sides, dim=-1)
    return around[..., 1:-1] - (around[..., :-2] + around[..., 2:]) / 2


def power_of(spectrum: Tensor, n_bins: int) -> Tensor:
    """Return the power of the lowest bins under Hann's window, float [..., n_bins]."""
    own = hann(spectrum, n_bins)
    return own.real.square() + own.imag.square() + FAINTEST


def reach_of(n_fft: int, frame_length: int) -> tuple[int, int]:
    """Return how many samples before and after its own a frame's window covers."""
    before = (n_fft - frame_length) // 2
    return before, n_fft - frame_length - before


def pad_to_windows(waveform: Tensor, n_fft: int, frame_length: int, kept: slice = ALL) -> Tensor:
    """Return the samples that the windows of frames cover, with silence beyond the ends.

    Args:
        waveform: float [B, T].
        n_fft: Window, in samples.
        frame_length: Samples between frames.
        kept: The frames.

    Returns:
        float [B, t], of which `unfold(1, n_fft, frame_length)` makes the windows.
    """
    padded = F.pad(waveform, reach_of(n_fft, frame_length))
    if kept == ALL:
        return padded
    return padded[:, kept.start * frame_length : (kept.stop - 1) * frame_length + n_fft]


def overlap_add(frames: Tensor, frame_length: int) -> Tensor:
    """Add frames, each `frame_length` samples after the one before.

    Args:
        frames: float [B, N, n].
        frame_length: Samples.

    Returns:
        float [B, (N - 1) * frame_length + n], n rounded up to a multiple of frame_length.
    """
    batch, n_frames, n = frames.shape
    pieces = F.pad(frames, (0, -n % frame_length)).view(batch, n_frames, -1, frame_length)
    overlap = pieces.shape[2]
    total = frames.new_zeros(batch, n_frames + overlap - 1, frame_length)
    for place, piece in enumerate(pieces.unbind(2)):
        total[:, place : place + n_frames] += piece
    return total.flatten(1)


def _magnitudes(waveform: Tensor, window: Tensor, hop: int, n_bins: int) -> tuple[Tensor, Tensor]:
    """Return the spectrum of float [B, T], complex [B, N, n_bins], and its magnitudes."""
    frames = waveform.unfold(1, len(window), hop) * window
    spectrum: Tensor = torch.fft.rfft(frames)[..., :n_bins]
    # Three times faster than summing over a last dimension of two, or than abs().
    size = spectrum.real * spectrum.real
    return spectrum, size.addcmul_(spectrum.imag, spectrum.imag).add_(FAINTEST).sqrt_()


class _Magnitudes(torch.autograd.Function):
    """|STFT| with a backward pass of one real inverse FFT.

    Autograd's own pads the gradient to all bins, runs a complex FFT over it, which takes twice as
    long, and differentiates the squares and the root one by one.
    """

    @staticmethod
    def forward(ctx: Any, waveform: Tensor, window: Tensor, hop: int, n_bins: int) -> Tensor:
        """Map float [B, T] to magnitudes float [B, N, n_bins]."""
        spectrum, size = _magnitudes(waveform, window, hop, n_bins)
        ctx.save_for_backward(spectrum, size, window)
        ctx.hop, ctx.length = hop, waveform.shape[1]
        return size

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the waveform's gradient."""
        spectrum, size, window = ctx.saved_tensors
        n_fft = len(window)
        share = gradients[0] / size
        # The inverse FFT counts the bins between the first and the last twice.
        share[..., 1 : n_fft // 2] *= 0.5
        # Into place: `complex` would copy both parts again.
        scaled = torch.empty_like(spectrum)
        torch.mul(spectrum.real, share, out=scaled.real)
        torch.mul(spectrum.imag, share, out=scaled.imag)
        frames = torch.fft.irfft(scaled, n_fft, norm="forward").mul_(window)
        return overlap_add(frames, ctx.hop)[:, : ctx.length], None, None, None
