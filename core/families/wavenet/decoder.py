"""The WaveNet family's decoder: a WaveNet behind the seam that the framework knows."""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from core.families.base import Decoder
from core.families.wavenet import mulaw, sampling
from core.families.wavenet.history import is_spoilt, spoil
from core.families.wavenet.network import WaveNet
from core.families.wavenet.spectrum import SpectrumReader

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor

    from core.config import WaveNetConfig


class WaveNetDecoder(WaveNet, Decoder):
    """An autoregressive model of a domain's mu-law codes, conditioned on latents."""

    n_codes = mulaw.N_CLASSES

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__(config)
        self.config = config
        if config.spectrum_weight:
            self.spectrum = SpectrumReader(config.latent_dim, config.sample_rate, config.hop_length)

    def reconstruction_loss(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the cross entropy of the codes in nats a sample.

        The past may be spoilt (`history`), and the loss have the `spectrum`'s share beside it.
        """
        codes = mulaw.encode(waveform)
        heard = mulaw.encode(spoil(waveform, self.config)) if is_spoilt(self.config) else codes
        loss = F.cross_entropy(self(heard, latents).float(), codes)
        if self.config.spectrum_weight:
            loss = loss + self.config.spectrum_weight * self.spectrum.loss(latents, waveform)
        return loss

    def heldout_figure(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the cross entropy of the codes in bits a sample, after the true past."""
        codes = mulaw.encode(waveform)
        return F.cross_entropy(self(codes, latents).float(), codes) / math.log(2)

    def baselines(self, waveform: Tensor) -> dict[str, float]:
        """Return bits a sample of a uniform guess, and of the codes' own frequencies."""
        counts = mulaw.encode(waveform).flatten().bincount(minlength=mulaw.N_CLASSES)
        share = counts / counts.sum()
        entropy = -torch.xlogy(share, share).sum() / math.log(2)
        return {"uniform": math.log2(mulaw.N_CLASSES), "unigram": float(entropy)}

    def codes(self, waveform: Tensor) -> Tensor:
        """Return mu-law codes."""
        return mulaw.encode(waveform)

    def generate(
        self, blocks: Iterator[Tensor], *, window: int, seed: int, options: Any
    ) -> Iterator[Tensor]:
        """Draw audio sample by sample; see `Decoder.generate` and `sampling`."""
        with closing(
            self.generate_all([blocks], window=window, seed=seed, options=options)
        ) as waveforms:
            yield from next(waveforms)

    def generate_all(
        self, sequences: Sequence[Iterator[Tensor]], *, window: int, seed: int, options: Any
    ) -> Generator[Iterator[Tensor]]:
        """Draw audio of several sequences in one batch; see `Decoder.generate_all`."""
        del window  # the plan of chunks is fixed, because the samples depend on it
        return sampling.generate(self, sequences, seed=seed, options=options)
