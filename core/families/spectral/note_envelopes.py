"""Note envelopes: the loudness of a domain's notes over time, from one small network for all keys.

A note is mixed from a few timbres. The amplitude of each timbre of each key follows a first-order
recurrence, as a string does that is bowed or struck and dies away:

    a[t] = exp(-decay[t]) * a[t - 1] + excitation[t].

The network predicts excitation and decay for every frame. A pluck is one excitation and a slow
decay, a bowed note a steady excitation and a fast decay; a network that predicted the amplitude
itself would have to count the frames since the note began. (In modal synthesis each mode of an
instrument is such a recurrence; Smith 2010, "Physical Audio Signal Processing".) The noise of the
attack, of a hammer, a plectrum or a breath, follows another one, which falls faster.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import tee
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from core.blocks import side_by_side
from core.families.spectral.pitch import share_of_key
from core.families.spectral.salience import LOWEST_KEY, N_KEYS, harmonics_of, key_to_hz
from core.families.spectral.stft import ALL
from core.families.windows import frames_for, run_in_context

if TYPE_CHECKING:
    from collections.abc import Iterator

# The timbres before training: two are sustained as long as a key is present, the second one
# duller; two are struck at its onset, the first one brighter and shorter.
SLOPES = (1.0, 2.0, 0.5, 1.0)  # harmonic h is quieter by h ** -slope
DECAYS = (0.5, 0.5, 0.1, 0.03)  # nepers a frame
SUSTAINED = (True, True, False, False)
N_TIMBRES = len(SLOPES)
QUIET = -2.0  # nepers: initial level of the other timbres, relative to the first
STRIKE_LEVEL = -2.0  # nepers: initial level of its lowest band, relative to the envelope
STRIKE_DECAY = 0.2  # nepers a frame, of the noise of a strike: 20 dB in 130 ms, as a harpsichord's
N_HARMONICS = 40  # of a key with a learnt level each; those above fall with the slope
BETWEEN = 1e-4  # amplitude of oscillators between a key's harmonics
# Adam moves all weights by steps of one size, but levels span many nepers: they are stored in
# units of ten.
STEP = 10.0
EXCITATION_LIMITS = (-14.0, 2.0)  # nepers
DECAY_LIMITS = (1e-3, 3.0)  # nepers a frame
NEPERS_PER_SALIENCE = 4.6  # a salience spans 40 dB a unit, as the encoder's grid does
# Onsets from which on a key is struck with all its force, and by how many nepers a unit less below.
# Those of the pretrained salience depend on the source and on how many notes there are: at notes of
# an organ among others they have a median of -0.6, of a saxophone alone 2; elsewhere -1.2.
FULL_ONSET, NEPERS_PER_ONSET = 1.0, 4.0
FULL_PRETRAINED_ONSET, NEPERS_PER_PRETRAINED_ONSET = -0.5, 10.0
TAPS = 4  # of a convolution over the past
DILATIONS = (1, 4, 16)
SILENT_PRESENCE = -0.7  # -68 dB of full scale, below which a key is not played
EXPANSION = 30.0  # nepers a unit of presence by which a fainter key falls faster than its source
SMALLEST_SHARE = 1e-3  # of a tone that lies a semitone away from the key
NEIGHBOURHOOD = 12  # keys to either side: an octave, the distance of a note's second harmonic


class NoteEnvelopes(nn.Module):
    """Latents to excitations and decays, by convolutions that all keys share.

    Each key has a bias, a level and a scale of its own.

    Args:
        channels: Width of the network.
        n_others: Latent channels that belong to no key.
        frames_per_latent: Frames of the output per latent frame.
        has_pitch: Whether latents have the keys' deviations.
        is_pretrained: Whether onsets are those of the pretrained salience.
        has_strikes: Whether the noise of strikes has an envelope, after those of the timbres.

    Attributes:
        frames_after: Latent frames after a frame that can change it.
        n_envelopes: E, of each key.
    """

    def __init__(
        self,
        channels: int,
        n_others: int,
        frames_per_latent: int,
        *,
        has_pitch: bool,
        is_pretrained: bool = False,
        has_strikes: bool = False,
    ) -> None:
        super().__init__()
        self.n_envelopes = N_TIMBRES + has_strikes
        self.full_onset = FULL_PRETRAINED_ONSET if is_pretrained else FULL_ONSET
        self.frames_per_latent = frames_per_latent
        self.has_pitch = has_pitch
        size = (3, 2 * NEIGHBOURHOOD + 1)
        self.input = nn.Conv2d(3 if has_pitch else 2, channels, size, padding=(1, NEIGHBOURHOOD))
        self.others = nn.Linear(n_others, channels)
        self.key_bias = nn.Parameter(torch.zeros(channels, 1, N_KEYS))
        self.past = nn.ModuleList(
            nn.Conv2d(channels, channels, (TAPS, 1), dilation=(dilation, 1))
            for dilation in DILATIONS
        )
        self.output = nn.Conv2d(channels, 2 * self.n_envelopes * frames_per_latent, 1)
        nn.init.normal_(self.output.weight, std=0.01 / STEP)
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)
        decays = torch.tensor([*DECAYS, STRIKE_DECAY][: self.n_envelopes])
        sustained = torch.tensor([*SUSTAINED, False][: self.n_envelopes])
        # A steady excitation of 1 adds up to 1 / (1 - exp(-decay)), a strike to itself.
        excitations = torch.where(sustained, (1 - (-decays).exp()).log(), 0.0)
        excitations = excitations + QUIET * (torch.arange(self.n_envelopes) > 0)
        first = torch.stack([excitations, decays.log()]).unsqueeze(2) / STEP
        self.own = nn.Parameter(first.expand(-1, -1, N_KEYS).clone())
        slope = NEPERS_PER_PRETRAINED_ONSET if is_pretrained else NEPERS_PER_ONSET
        self.struck = nn.Parameter(torch.where(sustained, 0.0, slope) / STEP)
        self.key_scale = nn.Parameter(torch.ones(N_KEYS))
        self.frames_after = 1

    def forward(self, keys: Tensor, others: Tensor) -> Tensor:
        """Predict how strongly each envelope of each key is excited, and how fast it decays.

        Args:
            keys: Presences, onsets and, if there are any, deviations, float [B, L, 2 or 3, keys].
            others: The other latent channels, float [B, L, others]; they locate onsets more
                precisely than the presences do.

        Returns:
            Logarithms of excitations and of decays, float [B, N, 2 * E * keys].
        """
        x = self._begin(keys, others)
        for layer in self.past:
            x = _with_past(layer, x)
        return self._finish(x, keys)

    def stream(self, keys: Iterator[Tensor], others: Iterator[Tensor]) -> Iterator[Tensor]:
        """Predict as `forward` does, as latents arrive.

        Args:
            keys: float [l, 2 or 3, keys] each.
            others: float [l, others] each.

        Yields:
            float [l, frames_per_latent * 2 * E * keys].
        """
        heard, keys = tee(keys)
        both = (torch.cat([own.flatten(1), rest], 1) for own, rest in side_by_side(heard, others))
        n_keys = N_KEYS * (3 if self.has_pitch else 2)

        def begin(frames: Tensor, kept: slice) -> Tensor:
            own, rest = frames[:, :n_keys], frames[:, n_keys:]
            x = self._begin(own.view(1, len(own), -1, N_KEYS), rest.unsqueeze(0))
            return x[0, :, kept].permute(1, 2, 0)

        x = run_in_context(both, begin, before=1, after=self.frames_after)
        for layer, dilation in zip(self.past, DILATIONS, strict=True):
            x = run_in_context(
                x, partial(_in_context, layer), before=(TAPS - 1) * dilation, after=0
            )
        for own, hidden in side_by_side(keys, x):
            yield self._finish(hidden.permute(2, 0, 1).unsqueeze(0), own.unsqueeze(0))[0].view(
                len(own), -1
            )

    def _begin(self, keys: Tensor, others: Tensor) -> Tensor:
        """Return the convolutions' input, float [B, channels, L, keys]."""
        x = keys.transpose(1, 2).contiguous(memory_format=torch.channels_last)
        # Added in the order in which the convolution's result lies in memory.
        x = self.input(x).permute(0, 2, 3, 1) + self.key_bias.permute(1, 2, 0)
        return F.gelu(x + self.others(others).unsqueeze(2)).permute(0, 3, 1, 2)

    def _finish(self, x: Tensor, keys: Tensor) -> Tensor:
        """Turn their output, float [B, channels, L, keys], into that of `forward`."""
        batch, n_latents, _, _ = keys.shape
        presence, onset = keys[:, :, 0], keys[:, :, 1]
        level = NEPERS_PER_SALIENCE * self.key_scale * (presence - 1)
        if self.has_pitch:
            # A tone between two keys is played by both, and sounds as loud as on one.
            level = level + share_of_key(keys[:, :, 2]).clamp(min=SMALLEST_SHARE).log()
            # All keys at the floor together would be heard as a hum.
            level = level - EXPANSION * (SILENT_PRESENCE - presence).relu()
        missing = self.struck.unsqueeze(1) * (onset - self.full_onset).clamp(max=0).unsqueeze(2)
        # A product instead of a convolution of one tap: keys come last in the result.
        assert self.output.bias is not None
        products = (STEP * self.output.weight.flatten(1)) @ x.transpose(1, 2)
        shape = (self.frames_per_latent, 2, self.n_envelopes, -1)
        own = STEP * (self.own + self.output.bias.view(shape))
        excitation, decay = (products.view(batch, n_latents, *shape) + own).unbind(3)
        excitation = excitation + (level.unsqueeze(2) + STEP * missing).unsqueeze(2)
        return torch.stack([excitation, decay], dim=3).view(
            batch, n_latents * self.frames_per_latent, -1
        )

    def silence(self, values: Tensor) -> Tensor:
        """Return the amplitudes before the first note, float32 [B, E * keys]."""
        shape = (len(values), self.n_envelopes * N_KEYS)
        return torch.full(shape, math.exp(EXCITATION_LIMITS[0]), device=values.device)


def _with_past(layer: nn.Module, x: Tensor, kept: slice = ALL) -> Tensor:
    """Apply a convolution over the past, float [B, channels, L, keys] to as many kept frames."""
    assert isinstance(layer, nn.Conv2d)
    frames = x.permute(0, 2, 3, 1)  # as they lie in memory
    needed = frames_for(frames, kept, before=(TAPS - 1) * layer.dilation[0], after=0)
    return x[:, :, kept] + F.gelu(layer(needed.permute(0, 3, 1, 2)))


def _in_context(layer: nn.Module, frames: Tensor, kept: slice) -> Tensor:
    """Apply it to float [l, keys, channels]."""
    return _with_past(layer, frames.permute(2, 0, 1).unsqueeze(0), kept)[0].permute(1, 2, 0)


class NoteSpectra(nn.Module):
    """The levels of each key's harmonics in each timbre, learnt key by key.

    Args:
        n_partials: S, the number of oscillators; see `core.families.spectral.synthesizer`.
        n_fft: FFT length that they are the bins of.
        sample_rate: Hz.
    """

    def __init__(self, n_partials: int, n_fft: int, sample_rate: int) -> None:
        super().__init__()
        self.n_partials, self.n_fft, self.sample_rate = n_partials, n_fft, sample_rate
        falls = torch.tensor(SLOPES).unsqueeze(1) * torch.arange(1, N_HARMONICS + 1).log()
        self.levels = nn.Parameter(-falls.unsqueeze(1).expand(-1, N_KEYS, -1) / STEP)

    def forward(self, keys: Tensor, deviations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the oscillators of notes.

        Args:
            keys: Number of each note's key, 0 for the lowest, int64 [R].
            deviations: Of the notes from their keys, in semitones, float [R].

        Returns:
            The amplitude of each oscillator in a note, float [timbres, R, S]; the distance of the
            note's harmonic from the oscillator's bin, in bins, and the frequency of that harmonic
            in bins, both 0 where there is none, float [R, S] each.
        """
        fundamental = key_to_hz(LOWEST_KEY + keys + deviations) * (self.n_fft / self.sample_rate)
        harmonic, offset = harmonics_of(fundamental, self.n_partials)
        number = harmonic.clamp(1, N_HARMONICS)
        index = (number - 1).long().expand(N_TIMBRES, -1, -1)
        own = STEP * self.levels[:, keys].gather(2, index)
        slopes = torch.tensor(SLOPES, device=keys.device).view(-1, 1, 1)
        beyond = slopes * (number / harmonic.clamp(min=1)).log()
        is_near = (harmonic > 0) & (offset.abs() <= 0.5)
        # Nothing sounds below the fundamental; between harmonics the blocks' corrections need
        # something to correct.
        between = BETWEEN * (harmonic > 0)
        spectra = torch.where(is_near, (own + beyond).exp(), between)
        return spectra, offset * is_near, harmonic * fundamental.unsqueeze(1) * is_near


class StrikeNoise(nn.Module):
    """The spectrum of the noise with which each key begins, learnt key by key.

    The blocks know no state and would have to count the frames since the note began, as for the
    partials. Recorded notes of a harpsichord begin with noise 30 dB below their partials, which is
    another 20 dB lower after 120 ms; pianos and guitars are alike.

    Args:
        hertz: Centres of the noise bands, float [bands].
    """

    def __init__(self, hertz: Tensor) -> None:
        super().__init__()
        # About as much in each mel band, and quiet: 0 dB would be as loud as the note.
        first = STRIKE_LEVEL - (1 + hertz / 700).log()
        self.levels = nn.Parameter(first.expand(N_KEYS, -1) / STEP)

    def forward(self, amplitudes: Tensor) -> Tensor:
        """Return the noise's power in each band: float [..., keys] to float [..., bands]."""
        return amplitudes.square() @ (2 * STEP * self.levels).exp()


def integrate_envelopes(values: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Run the recurrence of the module's docstring.

    Args:
        values: Output of `NoteEnvelopes`, float [B, N, 2 * E * keys].
        before: Amplitudes before the first frame, float [B, E * keys].

    Returns:
        Amplitudes, float [B, N, E * keys], and the last of them, for the frames that follow.
    """
    # bfloat16's 8 bits would lose small excitations in a sum over seconds.
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    excitation, decay = values.chunk(2, dim=2)
    lowest, highest = (math.log(value) for value in DECAY_LIMITS)
    kept = (-decay.clamp(lowest, highest).exp()).exp()
    amplitudes: Tensor = _LeakyIntegrator.apply(  # type: ignore[no-untyped-call]
        excitation.clamp(*EXCITATION_LIMITS).exp(), kept, before
    )
    return amplitudes, amplitudes[:, -1] if amplitudes.shape[1] else before


class _LeakyIntegrator(torch.autograd.Function):
    """The recurrence a[t] = kept[t] * a[t - 1] + added[t], frame after frame.

    A frame is one operation on all keys, forward and backward. A cumulative sum of logarithms,
    which needs no loop, took six times as long.
    """

    @staticmethod
    def forward(ctx: Any, added: Tensor, kept: Tensor, before: Tensor) -> Tensor:
        """Map float [B, N, K], [B, N, K] and [B, K] to float [B, N, K]."""
        # Copied, because the loop overwrites it, and a single item would be a view of the input.
        amplitudes = added.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        kept = kept.transpose(0, 1).contiguous()
        last = before
        for amplitude, share in zip(amplitudes.unbind(), kept.unbind(), strict=True):
            last = amplitude.addcmul_(last, share)
        ctx.save_for_backward(amplitudes, kept, before)
        return amplitudes.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of `added` and `kept`."""
        amplitudes, kept, before = ctx.saved_tensors
        total = gradients[0].transpose(0, 1).clone(memory_format=torch.contiguous_format)
        frames = total.unbind()
        for t in range(len(frames) - 2, -1, -1):
            frames[t].addcmul_(frames[t + 1], kept[t + 1])
        earlier = torch.cat([before.unsqueeze(0), amplitudes[:-1]])
        return total.transpose(0, 1), (total * earlier).transpose(0, 1), None
