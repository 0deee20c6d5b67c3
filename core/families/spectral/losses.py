"""Losses of the spectral family: of reconstructions, and of presences against a score."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from core.families.spectral.stft import spectrogram

# Long windows see pitch, short ones attacks (Yamamoto et al. 2020, arXiv 1910.11480).
FFT_LENGTHS = (4096, 2048, 1024, 256)
# Differences below -100 dB of full scale do not count. Between partials music is about there, and
# over a thousand bins that is heard.
FLOOR = 1e-5

ATTACK_WINDOW = 1024  # one of the above
CHANGE_FRAMES = (3, 12)  # of a quarter of the window each: changes over 17 and 70 ms
ATTACK_BANDS = 24
ATTACK_RANGE_HZ = (60.0, 10_000.0)
ATTACK_SILENCE = 1e-4  # amplitude of a target in which rises do not count
NO_DIFFERENCE = 1e-4  # nepers, below which a root's gradient is no longer followed
ATTACK_FLOOR = 0.01  # amplitude below which rises do not count, relative to the target's mean

# Presences in units of 40 dB before the tanh, where -1 is -80 dB and +1 full scale.
SILENT_PRESENCE = -0.7  # -68 dB: what a key that is not played has at most
SILENT_DISTANCE = 25 / 40  # and how far it is below the loudest key that sounds
SOUNDING_PRESENCE = -0.5  # -60 dB: what a key that is played has at least
NO_ONSET, ONSET = (
    -0.7,
    0.0,
)  # what a key has at most where it does not begin, at least where it does
LARGEST_LATENT = 1 - 1e-4  # latents are clamped to it before the inverse of the tanh


def multi_resolution_loss(
    output: Tensor, target: Tensor, sample_rate: int, *, attack_weight: float = 0.0
) -> Tensor:
    """Compare magnitudes at several window lengths.

    At each length: the mean absolute difference of log magnitudes in nepers, weighted over
    frequency as the mel scale is dense, plus the spectral convergence (the norm of the
    difference over the target's norm, or over half the output's where that is larger).

    Args:
        output: float [B, T].
        target: float [B, T].
        sample_rate: Hz.
        attack_weight: Of `attack_distance`, which is added to the mean over window lengths.

    Returns:
        Scalar, 0 for equal magnitudes.
    """
    total = output.new_zeros(())
    for n_fft in FFT_LENGTHS:
        hop = n_fft // 4
        length = output.shape[1] // hop * hop
        found = spectrogram(output[:, :length], n_fft, hop)
        wanted = spectrogram(target[:, :length], n_fft, hop)
        weights = mel_density(wanted.shape[2], sample_rate).to(output)
        total = total + _distance(found, wanted, weights)
        if attack_weight and n_fft == ATTACK_WINDOW:
            attacks = attack_distance(found, wanted, sample_rate)
            total = total + len(FFT_LENGTHS) * attack_weight * attacks
    return total / len(FFT_LENGTHS)


def _distance(found: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Return the distance of magnitudes at one window length, a scalar.

    Each item's convergence is normalised by itself, so that a loud one does not dominate and the
    result does not depend on how a batch is divided among processes. The output's norm bounds the
    divisor, because a target that has died away while the source still sounds, as a piano's last
    chord beside an organ's, would dominate the batch otherwise.

    Args:
        found: Of the output, float [B, N, bins].
        wanted: Of the target, alike.
        weights: Of bins, float [bins].
    """
    nepers = ((found + FLOOR) / (wanted + FLOOR)).log().abs()
    norm, own, target = (
        torch.linalg.vector_norm(one, dim=(1, 2))
        for one in (found - wanted, found.detach(), wanted)
    )
    convergence = norm / torch.maximum(target, own / 2).clamp(min=1e-3)
    distance: Tensor = (nepers * weights).mean() + convergence.mean()
    return distance


def attack_distance(found: Tensor, wanted: Tensor, sample_rate: int) -> Tensor:
    """Compare how fast levels rise and fall, whenever they do.

    Where a source leaves the onset of a note uncertain by some frames, the difference of magnitudes
    is smallest for an onset blurred by as much, and it hardly minds a note that fades a little with
    its source, by which an organ is taken for a piano. This distance compares how often and how
    fast levels change, and leaves the moment to the difference of magnitudes: changes are sorted
    by size before they are compared, which makes it the 2-Wasserstein distance between their
    distributions over time, one band at a time (as in sliced distances: Rabin et al. 2011).

    Args:
        found: Magnitudes of the output, float [B, N, bins].
        wanted: Of the target, alike.
        sample_rate: Hz.

    Returns:
        Scalar in nepers, 0 for equal distributions: the mean over spans of time of the mean over
        items of the mean distance in a mel band, plus the distance of the mean over bands, which
        broad onsets raise.
    """
    filters = attack_bands(wanted.shape[2], sample_rate).to(wanted)
    powers = found.square() @ filters, wanted.square() @ filters
    # Bounded, so that changes in a target near silence do not count.
    mean = powers[1].mean(dim=(1, 2), keepdim=True).clamp(min=ATTACK_SILENCE**2)
    levels = [0.5 * (power + ATTACK_FLOOR**2 * mean).log() for power in powers]
    total = found.new_zeros(())
    for span in (span for span in CHANGE_FRAMES if span < found.shape[1]):
        own, other = (level[:, span:] - level[:, :-span] for level in levels)
        each = _distance_of_sorted(own, other).mean(dim=1)
        total = total + (each + _distance_of_sorted(own.mean(2), other.mean(2))).mean()
    return total / len(CHANGE_FRAMES)


def _distance_of_sorted(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the root mean square difference over sorted frames: [B, N, ...] to [B, ...]."""
    difference = found.sort(dim=1).values - wanted.sort(dim=1).values
    return (difference.square().mean(dim=1) + NO_DIFFERENCE**2).sqrt()


def attack_bands(n_bins: int, sample_rate: int) -> Tensor:
    """Return triangles on the mel scale, float [n_bins, ATTACK_BANDS], 1 at their middles."""
    from torchaudio.functional import melscale_fbanks  # slow to import

    lowest, highest = ATTACK_RANGE_HZ[0], min(ATTACK_RANGE_HZ[1], sample_rate / 2)
    bands: Tensor = melscale_fbanks(n_bins, lowest, highest, ATTACK_BANDS, sample_rate)
    return bands


def mel_density(n_bins: int, sample_rate: int) -> Tensor:
    """Return how many mels a linear frequency bin holds, float [n_bins], mean 1."""
    frequencies = torch.linspace(0, sample_rate / 2, n_bins)
    density = 1 / (1 + frequencies / 700)
    return density / density.mean()


def score_loss(presence: Tensor, onset: Tensor, score: Tensor) -> Tensor:
    """Compare what an encoder finds at each key with what was played there.

    A single note lights up the keys of its overtones unless an encoder learns which of them are
    played. Each item is normalised by itself, and what is unknown does not count.

    Args:
        presence: Latents in [-1, 1], the tanh of presences, float [B, L, keys].
        onset: Of onsets, alike.
        score: Velocities and onsets, NaN where not known, float [B, L, 2, keys];
            `core.data.score.score_roll`.

    Returns:
        Scalar, 0 where every key is as it should be.
    """
    wanted, begins = score.unbind(2)
    found, rise = (
        x.float().clamp(-LARGEST_LATENT, LARGEST_LATENT).atanh() for x in (presence, onset)
    )
    is_silent = wanted == 0
    loudest = found.detach().masked_fill(is_silent, -torch.inf).amax(2, keepdim=True)
    highest = (loudest - SILENT_DISTANCE).clamp(-1.0, SILENT_PRESENCE)
    # Nothing sounds: the threshold alone counts.
    highest = torch.where(loudest.isinf(), SILENT_PRESENCE, highest)
    too_loud = (found - highest).relu() * is_silent
    too_quiet = (SOUNDING_PRESENCE - found).relu() * (wanted > 0)
    # An onset is found if it is within a frame of its place.
    around = F.max_pool1d(rise.transpose(1, 2), 3, stride=1, padding=1).transpose(1, 2)
    false_onsets = (rise - NO_ONSET).relu() * (begins == 0)
    missed_onsets = (ONSET - around).relu() * (begins > 0)
    each = too_loud + too_quiet + false_onsets + missed_onsets
    return each.sum(2).mean()
