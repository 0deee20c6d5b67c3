"""The pitch of keys: how far the tones that sound lie from equal temperament, and what follows.

`KeyPitch` measures it in a waveform, for the encoder. `smooth`, `hold` and `PitchResponse` turn
it into what a decoder plays: the tuning of the piece is kept by every domain; bends and glides by
those whose recordings bend. Vibrato is the target's own (`core.families.spectral.vibrato`), so the
source's is averaged out.

All deviations are in semitones from the key of an equal temperament at A4 = 440 Hz.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.families.spectral.salience import (
    FLOOR,
    LOWEST_KEY,
    N_KEYS,
    WINDOWS,
    fft_length,
    key_to_hz,
)
from core.families.spectral.stft import frame_spectrum, hann

if TYPE_CHECKING:
    from collections.abc import Sequence

# Up to the fourth harmonic all lie within 2 cents of a key, so that another note whose partial
# falls there in tune does not mislead.
N_HARMONICS = 4
HIGHEST_HZ = 5000.0
ASIDE = (-2, -1, 0, 1, 2)  # where around a harmonic it is measured: next to it in the bass, and
REACH = 0.03  # of the frequency apart at the outermost, half a semitone, in the treble
FAINT = 1e-9  # power, -84 dB of full scale: fainter tones have deviation 0
# Standard deviation in semitones within which a tone belongs to a key: wide enough for one halfway
# to the next key, narrow enough that the next key's own tone does not count.
BELONGING = 0.45

FAINTEST_PRESENCE = -0.625  # -65 dB of full scale; a fainter key has no pitch of its own
PRESENCE_RANGE = 1.0  # 40 dB below the loudest key of a frame, likewise
AMPLITUDE_PER_PRESENCE = 2.0  # decades; see `core.families.spectral.salience`
# A vibrato of 4 to 7 Hz takes 140 to 250 ms a cycle; the mean over 163 ms leaves a fifth of it, and
# follows a glide with no delay.
SMOOTHING_SECONDS = 0.163
SAME_TONE = 0.2  # semitones by which two keys may differ on a tone between them
TUNING_SECONDS = 30.0  # in which the weight of what was heard falls to a third

# Of the response; see `PitchResponse`. A model of six domains (05280eecc7cc) learnt 0.08 to 0.18
# for guitar, harpsichord, piano and organ, and 0.27 and 0.32 for winds and strings: not all that is
# measured is a bend.
BENDS_FROM, BENDS_WHOLLY = 0.2, 0.25
LOUD_RANGE = 0.25  # of presence below the loudest key of a frame: 10 dB, and fainter tones mislead
BEND = 0.15  # semitones from which on a deviation may be a bend; samples are mistuned by less
NO_EVIDENCE = 0.02  # semitones, root mean square: of bends that are so rare there are none
# Adam moves all weights by steps of one size: the response is to settle in some hundred steps.
STEP = 20.0


class KeyPitch(nn.Module):
    """Measures where within its semitone each key's tone lies; nothing is learnt.

    The frequency in an FFT bin is found by reassignment (Auger & Flandrin 1995, "Improving the
    readability of time-frequency and time-scale representations by the reassignment method"), which
    is exact for a single tone and for the middle of a linear glide.

    Args:
        sample_rate: Hz.
        hop_length: Samples between frames.
        windows: Window in seconds, and up to which frequency in Hz each is used.

    Attributes:
        n_ffts: The windows in samples.
    """

    places: Tensor
    offsets: Tensor
    weights: Tensor

    def __init__(
        self, sample_rate: int, hop_length: int, windows: Sequence[tuple[float, float]] = WINDOWS
    ) -> None:
        super().__init__()
        self.hop_length = hop_length
        highest = min(HIGHEST_HZ, 0.45 * sample_rate)
        self.n_ffts = [fft_length(seconds, sample_rate, hop_length) for seconds, _ in windows]
        keys = LOWEST_KEY + torch.arange(N_KEYS, device="cpu")
        order = torch.arange(1, N_HARMONICS + 1, device="cpu")
        hertz = key_to_hz(keys).unsqueeze(1) * order  # [keys, harmonics]
        limits = [min(limit, highest) for _, limit in windows]
        index = torch.bucketize(hertz, torch.tensor(limits[:-1], device="cpu"), right=True)
        spacing = sample_rate / torch.tensor(self.n_ffts, device="cpu").double()
        # The used bins of all windows, from 1 on, lie side by side, with one bin more at the top.
        self.n_used = [
            min(int(limit / float(width)) + 2, n_fft // 2 - 1)
            for limit, width, n_fft in zip(limits, spacing, self.n_ffts, strict=True)
        ]
        first = torch.tensor([0, *self.n_used[:-1]], device="cpu").cumsum(0)[index].unsqueeze(2)
        exact = (hertz.double() / spacing[index]).unsqueeze(2)  # in bins
        apart = (REACH / 2 * exact).ceil().clamp(min=1).long()
        bins = (exact.round().long() + apart * torch.tensor(ASIDE, device="cpu")).clamp(min=1)
        bins = torch.minimum(bins, torch.tensor(self.n_used, device="cpu")[index].unsqueeze(2))
        offsets = 12 * (bins / exact).log2().float().unsqueeze(3)  # of bins from keys, semitones
        weights = ((hertz < highest) / order).unsqueeze(2)
        self.register_buffer("places", first + bins - 1, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Measure deviations.

        Args:
            waveform: float [B, T], T a multiple of the hop length.

        Returns:
            Deviations in semitones, -1..1, 0 where nothing sounds, and the power they were found
            in (a full-scale sine has about 0.5), float [B, L, keys] each.
        """
        total, weighted = self.moments(
            [frame_spectrum(waveform, n_fft, self.hop_length) for n_fft in self.n_ffts]
        )
        return deviation_of(total, weighted), total

    @torch.no_grad()
    def moments(self, spectra: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return powers, and deviations times powers, which channels have a mean of.

        Args:
            spectra: By window, complex [B, L, FFT bins]; see `frame_spectrum`.

        Returns:
            float [B, L, keys] each.
        """
        measured = [
            _reassigned(spectrum, n_used)
            for spectrum, n_used in zip(spectra, self.n_used, strict=True)
        ]
        # Frames last: the bins around each harmonic, [B, keys, harmonics, aside, L], are then
        # gathered and summed up row by row.
        semitones, power = (
            torch.cat([own.mT for own in parts], dim=1)
            .index_select(1, self.places.flatten())
            .view(-1, *self.places.shape, spectra[0].shape[1])
            for parts in zip(*measured, strict=True)
        )
        deviation = semitones.add_(self.offsets)
        weight = power.mul_((deviation * (math.sqrt(0.5) / BELONGING)).square_().neg_().exp_())
        total, weighted = (
            (own.sum(3) * self.weights).sum(2).mT for own in (weight, weight * deviation)
        )
        return total, weighted


def _reassigned(spectrum: Tensor, n_used: int) -> tuple[Tensor, Tensor]:
    """Return by how many semitones the tones in bins lie off them, and their power.

    Args:
        spectrum: Of frames without a window, complex [B, L, bins].
        n_used: How many bins from bin 1 on.

    Returns:
        float [B, L, n_used] each.
    """
    framed = hann(spectrum, n_used + 1)[..., 1:]
    # The derivative of Hann's window is a sum of two exponentials; 2j pi / n_fft is left out.
    slope = (spectrum[..., :n_used] - spectrum[..., 2 : n_used + 2]) / 2
    power = framed.real.square() + framed.imag.square()
    # The real part of slope / framed is the distance in bins.
    turn = slope.real * framed.real + slope.imag * framed.imag
    bins = torch.arange(1, n_used + 1, device=power.device)
    shift = (turn / (power + 1e-20)).clamp(-2, 2)
    return 12 * (1 + shift / bins).clamp(min=1e-3).log2(), power


def deviation_of(total: Tensor, weighted: Tensor) -> Tensor:
    """Return the deviations that the results of `KeyPitch.moments` tell, in semitones."""
    return (weighted / (total + FAINT)).clamp(-1, 1)


def share_of_key(deviation: Tensor) -> Tensor:
    """Return how much of a tone belongs to a key, 0..1: keys share a tone between them.

    The shares of the keys below and above a tone add up to one.
    """
    return (deviation.clamp(-1, 1) * (math.pi / 2)).cos().square()


def is_clear(presence: Tensor) -> Tensor:
    """Return which keys are loud enough to have a pitch of their own, bool [..., keys]."""
    loudest = presence.amax(-1, keepdim=True)
    return (presence > FAINTEST_PRESENCE) & (presence > loudest - PRESENCE_RANGE)


def smooth(
    deviation: Tensor, presence: Tensor, n_repeats: int, n_taps: int, n_ahead: int | None = None
) -> Tensor:
    """Average deviations over time, weighted by amplitude, so that vibrato is left out.

    Args:
        deviation: Semitones, float [B, L, keys].
        presence: float [B, L, keys].
        n_repeats: Frames of the result per latent frame.
        n_taps: Frames that are averaged, an odd number.
        n_ahead: How many of these lie ahead; None for half of them. With fewer, glides are followed
            later by as much.

    Returns:
        float [B, L * n_repeats, keys]; NaN where no clear tone is near.
    """
    weight = is_clear(presence) * 10 ** (AMPLITUDE_PER_PRESENCE * (presence - 1))
    weight = weight + _same_tone(deviation, weight, 1) + _same_tone(deviation, weight, -1)
    both = torch.stack([weight * deviation, weight]).repeat_interleave(n_repeats, dim=2)
    n_ahead = n_taps // 2 if n_ahead is None else n_ahead
    padded = F.pad(both.transpose(2, 3).flatten(0, 2), (n_taps - 1 - n_ahead, n_ahead))
    window = padded.new_ones(1, 1, n_taps)
    window[..., 0] = window[..., -1] = 0.5
    summed = F.conv1d(padded.unsqueeze(1), window).view(*both.mT.shape).mT
    found = is_clear(presence).repeat_interleave(n_repeats, dim=1)
    return torch.where(found, summed[0] / summed[1].clamp(min=1e-12), math.nan)


def _same_tone(deviation: Tensor, weight: Tensor, by: int) -> Tensor:
    """Return the weight of the key `by` keys above where it and the key have one tone between them.

    A tone that glides out of a key's reach is then followed on, or the average would lag behind.
    """
    other = torch.cat([deviation, weight], dim=1).roll(-by, dims=2)
    other[..., -1 if by > 0 else 0] = 0
    theirs, size = other.chunk(2, dim=1)
    return size * ((theirs + by - deviation).abs() < SAME_TONE)


def hold(deviation: Tensor, before: Tensor) -> Tensor:
    """Fill what is NaN with the last value: a note that rings on keeps its pitch.

    Args:
        deviation: float [B, N, keys].
        before: Values before the first frame, float [B, keys].

    Returns:
        float [B, N, keys].
    """
    known = ~deviation.isnan()
    order = torch.arange(1, deviation.shape[1] + 1, device=deviation.device).view(1, -1, 1)
    last = (known * order).cummax(dim=1).values
    filled = torch.cat([before.unsqueeze(1), deviation], dim=1)
    return filled.gather(1, last)


def is_steady(is_clear: Tensor, n_taps: int) -> Tensor:
    """Return where keys are clear for some frames on either side, bool [B, N, keys].

    Between two notes a window holds both, and what is measured is neither.
    """
    unclear = (~is_clear).float().mT
    return F.max_pool1d(unclear, n_taps, stride=1, padding=n_taps // 2).mT == 0


def tuning_vector(deviation: Tensor, presence: Tensor) -> Tensor:
    """Return what frames say about the tuning, to be summed up: float [..., 2].

    Deviations of half a semitone up and down are the same tuning, so they are summed as angles.

    Args:
        deviation: Semitones, float [..., keys].
        presence: float [..., keys].
    """
    weight = is_clear(presence) * 10 ** (0.5 * AMPLITUDE_PER_PRESENCE * (presence - 1))
    angle = 2 * math.pi * deviation
    return torch.stack([(weight * angle.cos()).sum(-1), (weight * angle.sin()).sum(-1)], dim=-1)


def tuning_of(vector: Tensor) -> Tensor:
    """Return the tuning that sums of `tuning_vector` tell, in semitones, -0.5..0.5."""
    return torch.atan2(vector[..., 1], vector[..., 0]) / (2 * math.pi)


def running_tuning(vectors: Tensor, before: Tensor, n_fade: float) -> tuple[Tensor, Tensor]:
    """Return the tuning as it is known frame by frame: the mean of what was heard lately.

    Args:
        vectors: `tuning_vector` of frames, float [B, N, 2].
        before: Weighted sum of those before, float64 [B, 2].
        n_fade: Frames in which a frame's weight falls to 1 / e.

    Returns:
        Tunings in semitones, float [B, N, 1], and the sum after the last frame.
    """
    ages = torch.arange(1, vectors.shape[1] + 1, device=vectors.device).double() / n_fade
    grown = ages.exp().view(1, -1, 1)
    summed = (before.unsqueeze(1) + (vectors.double() * grown).cumsum(1)) / grown
    last = summed[:, -1] if vectors.shape[1] else before
    return tuning_of(summed).unsqueeze(2).to(vectors.dtype), last


def nearest_in_tuning(deviation: Tensor, tuning: Tensor) -> Tensor:
    """Return the nearest deviation that a keyboard of some tuning has."""
    return (deviation - tuning).round() + tuning


def presence_of(power: Tensor) -> Tensor:
    """Return the level of tones on the scale of presences, from `KeyPitch`'s powers."""
    return (2 * power.sqrt() + FLOOR).log10() / AMPLITUDE_PER_PRESENCE + 1


def wrapped(semitones: Tensor) -> Tensor:
    """Return a difference of tunings, which is the same modulo a semitone, as -0.5..0.5."""
    return semitones - semitones.round()


class PitchResponse(nn.Module):
    """How far a domain follows bends: not at all as a piano, or wholly as a violin.

    Learnt by measurement, as vibrato is: the response is the regression of the bends in the
    domain's recordings on those of the encoder's input. Where another instrument's rendition is
    the input, it tells a piano, whose pitch stays, from a violin. Where a recording is its own
    input, the two are the same: then a domain follows whatever its recordings seem to do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5 / STEP))

    @property
    def response(self) -> Tensor:
        """The response: 0 for none, 1 for bends as large as the source's."""
        return STEP * self.weight

    def forward(self, deviation: Tensor, tuning: Tensor) -> Tensor:
        """Return the deviations that the domain plays.

        Args:
            deviation: Of the source, in semitones, float [..., keys].
            tuning: Of the source, in semitones, broadcastable to it.
        """
        in_tune = nearest_in_tuning(deviation, tuning)
        follow = (self.response.detach() - BENDS_FROM) / (BENDS_WHOLLY - BENDS_FROM)
        return in_tune + follow.clamp(0, 1) * (deviation - in_tune)

    def loss(self, source: Tensor, target: Tensor, is_clear: Tensor) -> Tensor:
        """Return a term whose gradient moves the response to the regression's.

        Args:
            source: Deviations of the encoder's input from its tuning, in semitones, float
                [B, N, keys]. Each item is measured by itself, as a batch may be divided.
            target: Of the recording from its own, likewise.
            is_clear: Where both are known, bool [B, N, keys].
        """
        is_bent = is_clear & (source.abs() > BEND)
        error = (self.response * source - target).square() * is_bent
        mean = error.sum((1, 2)) / is_clear.sum((1, 2)).clamp(min=1)
        return mean.mean() + (NO_EVIDENCE * self.response).square()
