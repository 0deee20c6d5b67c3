"""A model that translates whatever a host hands over, as TorchScript.

In and out: blocks of any length at the host's rate. What a family's networks do with the frames in
between is in the family (`Family.live`).
"""
# Without `from __future__ import annotations`: TorchScript reads the types of attributes.

import math
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from core.errors import UsageError
from core.model_file import find_domain
from core.translator import Translator

N_TAPS = 64  # of the filter that resamples, at the lower of both rates
ROLL_OFF = 0.92  # where it ends, relative to half the lower rate
LOWEST_RATE, HIGHEST_RATE = 8000, 384_000  # Hz; other rates are taken for the model's


class Resampler(nn.Module):
    """Band-limited interpolation of a stream, between any two rates."""

    history: Tensor
    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.place = 1, 1, 0
        self.n_taps, self.roll_off = N_TAPS, ROLL_OFF
        self.register_buffer("history", torch.zeros(1, 0))
        self.register_buffer("kernels", torch.ones(1, 1))

    @torch.jit.export
    def configure(self, rate_in: int, rate_out: int, batch: int) -> None:
        """Begin anew, from one rate in Hz to another."""
        divisor = math.gcd(rate_in, rate_out)
        self.up, self.down = rate_out // divisor, rate_in // divisor
        self.place = 0
        if self.up == self.down:
            self.history = torch.zeros(batch, 0)
            self.kernels = torch.ones(1, 1)
            return
        stretch = max(1.0, self.down / self.up)
        half = int(math.ceil(self.n_taps // 2 * stretch))  # noqa: RUF046 - TorchScript's is a float
        taps = torch.arange(2 * half, dtype=torch.float64) - (half - 1)
        shift = torch.arange(self.up, dtype=torch.float64).unsqueeze(1) / self.up
        t = taps - shift
        window = 0.5 + 0.5 * torch.cos(math.pi * (t / half).clamp(-1.0, 1.0))
        kernels = torch.sinc(t * (self.roll_off / stretch)) * window
        self.kernels = (kernels / kernels.sum(1, keepdim=True)).float()
        self.history = torch.zeros(batch, 2 * half - 1)

    def forward(self, samples: Tensor) -> Tensor:
        """Map the next samples, float [B, t], to as many as are complete."""
        if self.up == self.down:
            return samples
        joined = torch.cat([self.history, samples], dim=1)
        n_taps = self.kernels.shape[1]
        # Places of results, in shares 1 / up of a sample.
        end = (joined.shape[1] - n_taps + 1) * self.up
        n_results = max(0, (end - self.place + self.down - 1) // self.down)
        places = self.place + torch.arange(n_results) * self.down
        first = torch.div(places, self.up, rounding_mode="floor")
        index = first.unsqueeze(1) + torch.arange(n_taps)
        result = (joined[:, index] * self.kernels[places - first * self.up]).sum(2)
        self.place += n_results * self.down
        n_done = min(self.place // self.up, joined.shape[1])
        self.history = joined[:, n_done:]
        self.place -= n_done * self.up
        return result


class LiveTranslator(nn.Module):
    """Translates a stream block by block.

    Args:
        networks: From `Family.live`.
        targets: Names of their decoders.
        sample_rate: The model's, Hz.

    Attributes:
        delay: Samples by which the result is later, at the model's rate and in blocks of whole
            latent frames; others wait for whole frames, and other rates for their filters, too.
        latent_names: Of the latent channels.
    """

    pending: Tensor
    ready: Tensor
    dry: Tensor

    def __init__(self, networks: nn.Module, targets: list[str], sample_rate: int) -> None:
        super().__init__()
        self.networks = networks
        self.targets = targets
        self.model_rate = self.host_rate = sample_rate
        self.hop_length = cast("int", networks.hop_length)
        self.delay = cast("int", networks.delay)
        self.latent_names = cast("list[str]", networks.latent_names)
        self.shares = [1.0] + [0.0] * (len(targets) - 1)
        self.semitones = 0.0
        self.mix = 1.0
        self.gain = 1.0
        self.lowest_rate, self.highest_rate = LOWEST_RATE, HIGHEST_RATE
        self.inwards, self.outwards = Resampler(), Resampler()
        self.register_buffer("pending", torch.zeros(1, 0))
        self.register_buffer("ready", torch.zeros(1, 0))
        self.register_buffer("dry", torch.zeros(1, self.delay))

    def forward(self, samples: Tensor) -> Tensor:
        """Translate the next samples, float [B, t], to as many, which are older by a delay."""
        batch, n_samples = samples.shape[0], samples.shape[1]
        if batch != self.dry.shape[0]:
            self.restart(batch)
        self.pending = torch.cat([self.pending, self.inwards(samples)], dim=1)
        results = [self.ready]
        while self.pending.shape[1] >= self.hop_length:
            own = self.pending[:, : self.hop_length]
            self.pending = self.pending[:, self.hop_length :]
            results.append(self.outwards(self.translate_frame(own)))
        self.ready = torch.cat(results, dim=1)
        n_missing = n_samples - self.ready.shape[1]
        if n_missing > 0:  # happens with the first blocks, and makes them wait for ever
            self.ready = torch.cat([torch.zeros(batch, n_missing), self.ready], dim=1)
        result = self.ready[:, :n_samples]
        self.ready = self.ready[:, n_samples:]
        return result

    def translate_frame(self, samples: Tensor) -> Tensor:
        """Translate float [B, hop] at the model's rate, and mix it with what it is made of."""
        wet = self.networks(samples * self.gain, self.shares, self.semitones)
        self.dry = torch.cat([self.dry, samples], dim=1)
        dry = self.dry[:, : samples.shape[1]]
        self.dry = self.dry[:, samples.shape[1] :]
        mixed: Tensor = self.mix * wet + (1 - self.mix) * dry
        return mixed

    @torch.jit.export
    def set_rate(self, sample_rate: int) -> bool:
        """Set the host's rate in Hz; return whether it is possible."""
        if not self.lowest_rate <= sample_rate <= self.highest_rate:
            return False
        if sample_rate != self.host_rate:
            self.host_rate = sample_rate
            self.reset()
        return True

    @torch.jit.export
    def set_target(self, target: str) -> bool:
        """Set the domain, or several with shares, "piano:0.7,strings:0.3"; return whether known."""
        shares = [0.0] * len(self.targets)
        for part in target.split(","):
            words = part.strip().split(":")
            if words[0] not in self.targets or len(words) > 2:
                return False
            share = 1.0
            if len(words) == 2:
                share = float(words[1])
            if not 0 <= share <= 1:
                return False
            shares[self.targets.index(words[0])] = share
        self.shares = shares
        return True

    @torch.jit.export
    def target(self) -> str:
        """Return what `set_target` takes for the shares of now."""
        parts: list[str] = []
        for number, share in enumerate(self.shares):
            if share == 1:
                parts.append(self.targets[number])
            elif share > 0:
                parts.append(f"{self.targets[number]}:{share}")
        return ",".join(parts)

    @torch.jit.export
    def reset(self) -> None:
        """Forget everything: before what follows there was silence."""
        self.networks.reset()  # type: ignore[operator]
        self.restart(self.dry.shape[0])

    def restart(self, batch: int) -> None:
        """Forget what waits, and have so many streams from here on."""
        self.inwards.configure(self.host_rate, self.model_rate, batch)
        self.outwards.configure(self.model_rate, self.host_rate, batch)
        self.pending = torch.zeros(batch, 0)
        # Blocks at another rate are no whole frames: up to one waits for its rest.
        n_waiting = 0
        if self.host_rate != self.model_rate:
            n_waiting = self.hop_length * self.host_rate // self.model_rate + 2
        self.ready = torch.zeros(batch, n_waiting)
        self.dry = torch.zeros(batch, self.delay)


def live_translator(model: Translator, targets: list[str], *, seed: int = 0) -> LiveTranslator:
    """Return a model for `torch.jit.script`.

    Args:
        model: The model, with the decoders of the targets.
        targets: Domains to export; the first is played first.
        seed: Of random draws: vibrato and noise.

    Raises:
        UsageError: The model's family does not play live, or an unknown domain.
    """
    build = model.family_description.live
    if build is None:
        raise UsageError(
            f"{model.name or 'this model'}: {model.config.model.family} models are too slow to be "
            "played live in other programs; export a spectral model, such as starter"
        )
    names = [find_domain(name, model.decoders.names) for name in targets]
    # Copies, as hosts run without gradients, and TorchScript keeps in mind who wants them.
    encoder = deepcopy(model.encoder)
    decoders = [deepcopy(model.decoders[name]) for name in names]
    for own in (encoder, *decoders):
        own.cpu().eval().requires_grad_(requires_grad=False)
    networks = build(encoder, decoders, [model.ranges.get(name) for name in names], seed)
    return LiveTranslator(networks, names, model.sample_rate).eval()
