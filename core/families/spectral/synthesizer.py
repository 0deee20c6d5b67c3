"""Sinusoids plus noise: how the spectral decoder's frames become a waveform.

A time-invariant network gives equal frames for a steady sound, and equal frames repeat with the
frame rate: whatever their phases, the result has energy at multiples of that rate only. So pitch
needs a state that runs on from frame to frame. Here that is the phase of a bank of oscillators,
one per bin of the inverse FFT, each free to move by two bins to either side. The network gives
their amplitudes and frequencies, which are steady for a steady sound, and their phases are the
running sum of their frequencies.

Each frame is computed in the frequency domain (the "FFT-1" of Rodet & Depalle 1992): the
transform of a windowed sinusoid is one narrow lobe, a Gaussian for a Gaussian window. Noise
in bands is added, as in Serra & Smith 1990.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.families.noise import uniform_like
from core.families.spectral.sinusoid_lobes import REACH, sum_lobes
from core.families.spectral.stft import overlap_add

if TYPE_CHECKING:
    from core.config import SpectralConfig

# Standard deviation of a frame's window in frames: the sum of the windows of all frames is
# then constant to 0.2 %, and an attack is spread over 16 ms at the preset's frame rate.
WINDOW_WIDTH = 0.6
NEARER = 0.25  # bins by which a partial's earlier oscillator is nearer than the present one
LOUDER = 2.0  # by which factor it was louder, too
AUDIBLE = 1e-4  # amplitude, -80 dB of full scale: fainter partials take no phase along
GOLDEN_RATIO = (1 + math.sqrt(5)) / 2


@dataclass(frozen=True)
class Controls:
    """The network's output for frames, as the synthesizer takes it.

    Attributes:
        amplitude: Of each oscillator, float [..., N, S], 0 and up.
        deviation: From its bin, in bins, float [..., N, S], -2..2.
        noise: Amplitude of the noise in each bin, float [..., N, n_fft // 2 + 1].
    """

    amplitude: Tensor
    deviation: Tensor
    noise: Tensor


class Synthesizer:
    """Turns controls into a waveform, at once or block after block.

    Args:
        config: Frame length and FFT length.
        n_partials: S, the number of oscillators; the first one belongs to bin 1.
    """

    def __init__(self, config: SpectralConfig, n_partials: int) -> None:
        self.n_fft, self.frame_length = config.n_fft, config.frame_length
        self.n_partials = n_partials
        self.width_samples = WINDOW_WIDTH * self.frame_length
        self.width_bins = self.n_fft / (2 * math.pi * self.width_samples)
        self.overhang = (self.n_fft - self.frame_length) // 2  # of a frame beyond its hop

    def first_phases(self) -> Tensor:
        """Return the phases before the first frame, float64 [S], in cycles.

        Spread evenly, so that the oscillators do not all peak together.
        """
        return torch.arange(1, self.n_partials + 1, dtype=torch.float64) * GOLDEN_RATIO % 1

    def phases(
        self, amplitude: Tensor, deviation: Tensor, before: Tensor, last: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Integrate frequencies.

        A partial that glides passes from one oscillator to the next; it takes its phase along, as
        in the tracking of partials by McAulay & Quatieri 1986, or it would be heard as rough.

        Args:
            amplitude: float [..., N, S].
            deviation: float [..., N, S], in bins.
            before: Phases of the frame before the first, float64 [..., S], in cycles.
            last: That frame's amplitudes and deviations, float [..., S] each.

        Returns:
            Phases at the frames' centres, float64 [..., N, S], in cycles.
        """
        loudness, earlier = (
            torch.cat([one.unsqueeze(-2), now[..., :-1, :]], dim=-2)
            for one, now in zip(last, (amplitude, deviation), strict=True)
        )
        bins = torch.arange(1, self.n_partials + 1, device=deviation.device)
        below, above = _margins(loudness, amplitude, bins + earlier, bins + deviation)
        # Partials seldom move: only frames in which some do are looked at more closely.
        has_moved = (torch.maximum(below, above) > 0).any(-1)
        frames = has_moved.view(-1, has_moved.shape[-1]).any(0).nonzero().flatten()
        moved = _moved(below[..., frames, :], above[..., frames, :])
        sources = bins - 1 + moved
        wider = torch.promote_types(deviation.dtype, torch.float32)
        both = deviation.to(wider) + earlier
        both[..., frames, :] = (
            deviation[..., frames, :] + earlier[..., frames, :].gather(-1, sources) + moved
        ).to(wider)
        # From centre to centre the frequency is the mean of both; in float64, because the
        # sum goes on for as long as the music does.
        step = self.frame_length / self.n_fft
        phases = torch.add(bins.double() * step, both, alpha=step / 2)
        predecessors = dict(zip(frames.tolist(), sources.unbind(-2), strict=True))
        # Frame by frame: a cumulative sum over this dimension takes three times as long.
        for number, phase in enumerate(phases.unbind(-2)):
            if number in predecessors:
                before = before.gather(-1, predecessors[number])
            before = phase.add_(before)
        return phases.sub_(phases.floor())

    def frames(self, controls: Controls, phases: Tensor, noise_phases: Tensor) -> Tensor:
        """Return windowed frames, float [B, N, n_fft], to be added with overlap.

        Args:
            controls: Of B sequences of N frames.
            phases: float64 [B, N, S], in cycles, or [1, N, S] for all.
            noise_phases: float [B, N, n_fft // 2 + 1], in cycles, or [1, ...] for all.
        """
        # Cancels the sign that oscillator i's lobe has at its centre; see `sum_lobes`.
        signs = 1 - 2 * (torch.arange(1, self.n_partials + 1, device=phases.device) % 2)
        # Sinusoids at half amplitude in the positive frequencies; the window adds up to one.
        size = controls.amplitude * (signs * (self.frame_length / 2))
        tones = sum_lobes(_phasors(size, phases), controls.deviation, self.width_bins)
        # Bin 1 has the first oscillator; what lies below 0 Hz is left out.
        tones = tones[..., REACH - 1 :]
        noise = _phasors(controls.noise, noise_phases)
        n = torch.arange(self.n_fft, device=phases.device) - self.n_fft // 2
        window = torch.exp(-0.5 * (n / self.width_samples).square()) * self.n_fft**0.5
        toned, noisy = (torch.fft.irfft(torch.complex(*own), self.n_fft) for own in (tones, noise))
        return torch.addcmul(toned, noisy, window)

    def render(self, controls: Controls) -> Tensor:
        """Render whole sequences, for training; the noise is drawn item by item.

        Returns:
            float [B, N * frame_length].
        """
        batch, n_frames, _ = controls.amplitude.shape
        # Detached: a partial's frequency is learnt from its lobe within each frame. Through the
        # phases every later sample would add a gradient too, in random directions.
        amplitude, deviation = controls.amplitude.detach(), controls.deviation.detach()
        before = self.first_phases().to(deviation.device).expand(batch, -1)
        phases = self.phases(amplitude, deviation, before, (amplitude[:, 0], deviation[:, 0]))
        noise_phases = uniform_like(controls.noise)
        waveform = overlap_add(self.frames(controls, phases, noise_phases), self.frame_length)
        return waveform[:, self.overhang : self.overhang + n_frames * self.frame_length]


class StreamingSynthesizer:
    """`Synthesizer.render` for controls that arrive in blocks.

    The result does not depend on how they are cut: noise is drawn by frame number. Channels of one
    recording have common frequencies, phases and noise, and amplitudes of their own.

    Args:
        synthesizer: The synthesizer.
        seed: Seed of the noise.
    """

    def __init__(self, synthesizer: Synthesizer, *, seed: int) -> None:
        self.synthesizer = synthesizer
        self.seed = seed
        self.n_frames = 0
        self.surplus = synthesizer.overhang  # samples before the first frame, still to drop
        self.before = synthesizer.first_phases()
        self.last: tuple[Tensor, Tensor] | None = None
        self.tail: Tensor | None = None

    def advance(self, controls: Controls) -> Tensor:
        """Return the samples that are complete after some frames.

        Args:
            controls: Of N frames: amplitude [C, N, S], deviation [1, N, S], noise [C, N, bins].
                There may be more channels than before, which until now were the same.

        Returns:
            float [C, t].
        """
        synthesizer = self.synthesizer
        amplitude, deviation = controls.amplitude.amax(0, keepdim=True), controls.deviation
        if self.last is None:
            self.last = (amplitude[:, 0], deviation[:, 0])
            self.before = self.before.to(deviation.device).unsqueeze(0)
        phases = synthesizer.phases(amplitude, deviation, self.before, self.last)
        self.before, self.last = phases[:, -1], (amplitude[:, -1], deviation[:, -1])
        noise_phases = self._noise_phases(controls.noise)
        frames = synthesizer.frames(controls, phases, noise_phases)
        waveform = overlap_add(frames, synthesizer.frame_length)
        if self.tail is not None:
            waveform[:, : self.tail.shape[1]] += self.tail
        done = controls.noise.shape[1] * synthesizer.frame_length
        start = min(self.surplus, done)  # the first block may be shorter than the overhang
        self.surplus -= start
        self.n_frames += controls.noise.shape[1]
        self.tail = waveform[:, done:]
        return waveform[:, start:done]

    def finish(self) -> Tensor:
        """Return the samples left of the last frames, float [C, t]."""
        if self.tail is None:
            return torch.zeros(1, 0)
        return self.tail[:, self.surplus : self.synthesizer.overhang]

    def _noise_phases(self, noise: Tensor) -> Tensor:
        """Draw phases for frames from a counter-based generator, four numbers a count."""
        n_frames, n_bins = noise.shape[1:]
        per_frame = 4 * -(-n_bins // 4)
        # As an array: a list with a number from 2**63 up would become floats.
        key = np.array([self.seed % 2**64, 0], dtype=np.uint64)
        bits = np.random.Philox(key=key).advance(self.n_frames * per_frame // 4)
        numbers = np.random.Generator(bits).random(n_frames * per_frame)
        phases = numbers.reshape(1, n_frames, per_frame)[..., :n_bins]
        return torch.from_numpy(phases).to(noise)


def moves(before: Tensor, amplitude: Tensor, earlier: Tensor, now: Tensor) -> Tensor:
    """Return how far away the oscillator is that each one's partial was on in the frame before.

    It was on a neighbour if that was the louder one and now is not, and if it was clearly nearer
    in frequency than the oscillator itself was.

    Args:
        before: Amplitudes of the frame before, float [..., S].
        amplitude: Amplitudes, float [..., S].
        earlier: Frequencies of the frame before, in bins, float [..., S].
        now: Frequencies, in bins, float [..., S].

    Returns:
        int64 [..., S], -1, 0 or 1.
    """
    return _moved(*_margins(before, amplitude, earlier, now))


def _margins(
    before: Tensor, amplitude: Tensor, earlier: Tensor, now: Tensor
) -> tuple[Tensor, Tensor]:
    """Return by how much each condition of `moves` is met, and of them the least.

    Returns:
        Of the oscillators from the second on, each from the one below it, and of those up to the
        last but one, each from the one above it, float [..., S - 1]. A partial moved where this is
        above zero.
    """
    loud = LOUDER * before.clamp(min=AUDIBLE)
    distance = (earlier - now).abs() - NEARER
    rise = amplitude[..., 1:] - amplitude[..., :-1]
    sides = []
    for own, other, louder in (
        (slice(1, None), slice(None, -1), rise),
        (slice(None, -1), slice(1, None), -rise),
    ):
        nearer = distance[..., own] - (earlier[..., other] - now[..., own]).abs()
        margin = torch.minimum(before[..., other] - loud[..., own], nearer)
        sides.append(torch.minimum(margin, louder))
    return sides[0], sides[1]


def _moved(below: Tensor, above: Tensor) -> Tensor:
    """Return the result of `moves` for margins."""
    return F.pad((above > 0).long(), (0, 1)) - F.pad((below > 0).long(), (1, 0))


def _phasors(size: Tensor, cycles: Tensor) -> Tensor:
    """Return real and imaginary parts, float [2, ...]; the gradient is that of the size."""
    size = size.to(torch.promote_types(size.dtype, torch.float32))  # bfloat16 has no complex
    with torch.no_grad():
        angle = 2 * math.pi * cycles.to(size.dtype)
        unit = torch.stack([angle.cos(), angle.sin()])
    return size * unit
