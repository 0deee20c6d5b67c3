"""The WaveNet of one domain (Mor et al. 2019, sec. 3.1): codes and latents in, logits out.

`forward` is teacher-forced: all samples at once, each predicted from the original's before it.
`core.families.wavenet.sampling` runs the same weights sample by sample. Frame f of the latents
conditions samples hop_length * f to hop_length * (f + 1) - 1.
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.families.base import Decoder
from core.families.wavenet import channels_last, mulaw
from core.families.wavenet.history import corrupt_past, corrupts_past
from core.families.wavenet.layers import GatedLayer, add_condition
from core.families.wavenet.mulaw import MuLaw
from core.families.wavenet.sampling import WaveNetOptions, generate
from core.families.wavenet.spectrum import SpectrumPredictor

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from core.config import WaveNetConfig


class WaveNetDecoder(Decoder[WaveNetOptions]):
    """An autoregressive model of a domain's mu-law codes, conditioned on latents.

    Args:
        config: Channels, blocks, layers and the hop length.

    Attributes:
        mu_law: The codec of its samples.
        receptive_field: Samples that the dilated stack sees, as the paper counts them (4,093
            for 4 blocks of 10 layers); the first convolution adds one.
    """

    n_codes = mulaw.N_CLASSES

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        residual, skip = config.residual_channels, config.skip_channels
        self.hop_length = config.hop_length
        self.mu_law = MuLaw(config.mu_law)
        self.checkpoint_activations = config.checkpoint_activations
        self.input = nn.Conv1d(1, residual, 2)
        self.input_skip = nn.Conv1d(residual, skip, 1)
        self.layers = nn.ModuleList(
            GatedLayer(config, 2**i)
            for _ in range(config.decoder_blocks)
            for i in range(config.decoder_layers)
        )
        self.mix = nn.Conv1d(skip, skip, 1)
        self.mix_condition = nn.Conv1d(config.latent_dim, skip, 1)
        self.output = nn.Conv1d(skip, mulaw.N_CLASSES, 1)
        self.receptive_field = 1 + config.decoder_blocks * (2**config.decoder_layers - 1)
        if config.spectrum_weight:
            self.spectrum = SpectrumPredictor(
                config.latent_dim, config.sample_rate, config.hop_length
            )

    def forward(self, codes: Tensor, latents: Tensor) -> Tensor:
        """Predict each code from those before it and from the latents.

        Args:
            codes: int64 [B, T], values 0..255, the original; shifted by one sample in here.
            latents: float [B, L, D], T = L * hop_length.

        Returns:
            Logits, float [B, Q, T].
        """
        shifted = F.pad(codes[:, :-1], (1, 0), value=self.mu_law.silence)
        x = mulaw.to_input(shifted).to(latents.dtype).unsqueeze(1)
        # Silence comes before the first sample, here as in the sampler: the two agree from the
        # start only if both begin with the same past.
        x = F.pad(x, (1, 0), value=mulaw.silence_input(self.mu_law))
        if channels_last.is_wanted(x) and not self.checkpoint_activations:
            return channels_last.predict(self, x, latents)
        latents = latents.transpose(1, 2)
        x = self.input(x)
        skip_sum = self.input_skip(x)
        for layer in self.layers:
            if self.checkpoint_activations and x.requires_grad:
                x, skip = checkpoint(layer, x, latents, use_reentrant=False)
            else:
                x, skip = layer(x, latents)
            skip_sum = skip_sum + skip
        mixed = add_condition(self.mix(F.relu(skip_sum)), self.mix_condition(latents))
        logits: Tensor = self.output(F.relu(mixed))
        return logits

    def reconstruction_loss(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the cross entropy of the codes in nats a sample (Mor et al. 2019, sec. 3.2).

        The configuration may have the past corrupted (`history`), and the loss of predicting the
        `spectrum` from the latents added.
        """
        codes = self.mu_law.encode(waveform)
        past = codes
        if corrupts_past(self.config):
            past = self.mu_law.encode(corrupt_past(waveform, self.config))
        loss = F.cross_entropy(self(past, latents).float(), codes)
        if self.config.spectrum_weight:
            loss = loss + self.config.spectrum_weight * self.spectrum.loss(latents, waveform)
        return loss

    def heldout_figure(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the cross entropy of the codes in bits a sample, after the true past."""
        codes = self.mu_law.encode(waveform)
        return F.cross_entropy(self(codes, latents).float(), codes) / math.log(2)

    def baselines(self, waveform: Tensor) -> dict[str, float]:
        """Return bits a sample of a uniform guess, and of the codes' own frequencies."""
        counts = self.mu_law.encode(waveform).flatten().bincount(minlength=mulaw.N_CLASSES)
        share = counts / counts.sum()
        entropy = -torch.xlogy(share, share).sum() / math.log(2)
        return {"uniform": math.log2(mulaw.N_CLASSES), "unigram": float(entropy)}

    def codes(self, waveform: Tensor) -> Tensor:
        """Return mu-law codes, int64 [B, T]."""
        return self.mu_law.encode(waveform)

    def generate(
        self, blocks: Iterator[Tensor], *, window: int, seed: int, options: WaveNetOptions
    ) -> Iterator[Tensor]:
        """Draw audio sample by sample; see `Decoder.generate` and `sampling`."""
        with closing(
            self.generate_all([blocks], window=window, seed=seed, options=options)
        ) as waveforms:
            yield from next(waveforms)

    def generate_all(
        self,
        sequences: Sequence[Iterator[Tensor]],
        *,
        window: int,
        seed: int,
        options: WaveNetOptions,
    ) -> Generator[Iterator[Tensor]]:
        """Draw audio of several sequences in one batch; see `Decoder.generate_all`."""
        del window  # the plan of chunks is fixed, because the samples depend on it
        return generate(self, sequences, seed=seed, options=options)
