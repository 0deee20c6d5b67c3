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
from itertools import pairwise
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
        predecessor = _predecessors(loudness, amplitude, bins + earlier, bins + deviation)
        # From centre to centre the frequency is the mean of both; in float64, because the
        # sum goes on for as long as the music does.
        places = bins + earlier.double()
        if predecessor is not None:
            places = places.gather(-1, predecessor)
        cycles = (bins + deviation.double() + places) / 2 * (self.frame_length / self.n_fft)
        if predecessor is None:
            return (before.unsqueeze(-2) + cycles.cumsum(-2)) % 1
        # Partials seldom move: from one frame in which some do to the next, phases are a sum.
        has_moved = (predecessor != bins - 1).any(-1).view(-1, amplitude.shape[-2]).any(0)
        starts = sorted({0, *has_moved.nonzero().flatten().tolist()})
        lengths = [stop - start for start, stop in pairwise([*starts, len(has_moved)])]
        sources = predecessor[..., starts, :].unbind(-2)
        phases = []
        for steps, source in zip(torch.split(cycles, lengths, dim=-2), sources, strict=True):
            own = before.gather(-1, source).unsqueeze(-2) + steps.cumsum(-2)
            phases.append(own % 1)
            before = phases[-1][..., -1, :]
        return torch.cat(phases, dim=-2)

    def frames(self, controls: Controls, phases: Tensor, noise_phases: Tensor) -> Tensor:
        """Return windowed frames, float [B, N, n_fft], to be added with overlap.

        Args:
            controls: Of B sequences of N frames.
            phases: float64 [B, N, S], in cycles, or [1, N, S] for all.
            noise_phases: float [B, N, n_fft // 2 + 1], in cycles, or [1, ...] for all.
        """
        # Cancels the sign that oscillator i's lobe has at its centre; see `sum_lobes`.
        signs = torch.arange(1, self.n_partials + 1, device=phases.device) % 2 / 2
        # Sinusoids at half amplitude in the positive frequencies; the window adds up to one.
        size = controls.amplitude * (self.frame_length / 2)
        tones = sum_lobes(_phasors(size, phases + signs), controls.deviation, self.width_bins)
        # Bin 1 has the first oscillator; what lies below 0 Hz is left out.
        n_bins = self.n_fft // 2 + 1
        tones = F.pad(tones[..., REACH - 1 :], (0, n_bins - self.n_partials - REACH - 1))
        noise = _phasors(controls.noise, noise_phases)
        n = torch.arange(self.n_fft, device=phases.device) - self.n_fft // 2
        window = torch.exp(-0.5 * (n / self.width_samples).square())
        toned = torch.fft.irfft(torch.complex(*tones), self.n_fft)
        noisy = torch.fft.irfft(torch.complex(*noise), self.n_fft) * (window * self.n_fft**0.5)
        frames: Tensor = toned + noisy
        return frames

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


def _predecessors(before: Tensor, amplitude: Tensor, earlier: Tensor, now: Tensor) -> Tensor | None:
    """Return which oscillator each one's partial was on in the frame before.

    Args:
        before: As for `moves`.
        amplitude: As for `moves`.
        earlier: As for `moves`.
        now: As for `moves`.

    Returns:
        int64 [..., S], or None if all partials stayed.
    """
    moved = moves(before, amplitude, earlier, now)
    if not moved.any():
        return None
    return torch.arange(now.shape[-1], device=now.device) + moved


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
    distance = (earlier - now).abs() - NEARER
    moved = torch.zeros_like(now, dtype=torch.int64)
    for by in (-1, 1):
        sides = (1, 0) if by < 0 else (0, 1)
        cut = slice(None, -1) if by < 0 else slice(1, None)
        was_louder = F.pad(before[..., cut], sides) > LOUDER * before.clamp(min=AUDIBLE)
        is_quieter = F.pad(amplitude[..., cut], sides) < amplitude
        place = F.pad(earlier[..., cut], sides, value=math.inf)
        moved += by * (was_louder & is_quieter & ((place - now).abs() < distance))
    return moved


def _phasors(size: Tensor, cycles: Tensor) -> Tensor:
    """Return real and imaginary parts, float [2, ...]; the gradient is that of the size."""
    size = size.to(torch.promote_types(size.dtype, torch.float32))  # bfloat16 has no complex
    with torch.no_grad():
        angle = (2 * math.pi * cycles).to(size.dtype)
        unit = torch.stack([angle.cos(), angle.sin()])
    return size * unit
