"""The seam between the framework and a family of networks.

A family brings an encoder (waveform to latents), a decoder (latents to waveform, one per
domain) and the description below. Everything else — confusion network, data, training
loop, checkpoints, model file, commands, evaluation — knows only this page.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence


class Encoder(nn.Module, ABC):
    """Maps a waveform to latents; shared by all domains.

    Attributes:
        frames_before: Latent frames before a frame whose samples can change it.
        frames_after: Latent frames after it, likewise.
    """

    frames_before: int
    frames_after: int

    @abstractmethod
    def forward(self, waveform: Tensor) -> Tensor:
        """Encode.

        Args:
            waveform: float [B, T], -1..1, T a multiple of the hop length.

        Returns:
            Latents, float [B, L, D] with L = T / hop length.
        """


class Decoder(nn.Module, ABC):
    """Maps latents to the waveform of one domain.

    Attributes:
        n_codes: How many classes `codes` has.
    """

    n_codes: int = 0

    @abstractmethod
    def reconstruction_loss(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the loss that training minimises, a scalar.

        Args:
            latents: float [B, L, D].
            waveform: float [B, T], the original, T = L times the hop length.
        """

    @abstractmethod
    def heldout_figure(self, latents: Tensor, waveform: Tensor) -> Tensor:
        """Return the family's figure for held-out audio, a scalar; lower is better."""

    @abstractmethod
    def baselines(self, waveform: Tensor) -> dict[str, float]:
        """Return the held-out figures of predictions that need no training, by name.

        Args:
            waveform: float [B, T], the audio that the figure is taken on.
        """

    def codes(self, waveform: Tensor) -> Tensor | None:
        """Return the classes whose bits the figure counts, int64 [B, T]; None for other figures.

        Args:
            waveform: float [B, T].
        """
        del waveform
        return None

    @abstractmethod
    def generate(
        self, blocks: Iterator[Tensor], *, window: int, seed: int, options: Any
    ) -> Iterator[Tensor]:
        """Generate audio from latents that arrive in blocks.

        The samples do not depend on how the latents are cut into blocks.

        Args:
            blocks: Latents, float [l, D] each.
            window: Latent frames to work on at a time, for families that have a choice.
            seed: Seed of random draws, for families that draw.
            options: The family's generation options.

        Yields:
            Waveform blocks, float [t]; together as long as all latents.
        """

    def generate_all(
        self, sequences: Sequence[Iterator[Tensor]], *, window: int, seed: int, options: Any
    ) -> Generator[Iterator[Tensor]]:
        """Generate audio from several sequences of latents, each with the samples it has alone.

        By default one after the other; a family may work on the next before one is done.

        Args:
            sequences: Blocks of latents as for `generate`, taken in order, maybe on a thread.
            window: As for `generate`.
            seed: As for `generate`.
            options: As for `generate`.

        Yields:
            The waveform blocks of each sequence, to be taken before those of the next; what
            is not taken is not made. An error of a sequence's blocks is raised where its
            waveform is taken, and spoils no other.
        """
        for blocks in sequences:
            yield self.generate(blocks, window=window, seed=seed, options=options)


@dataclass(frozen=True)
class Family:
    """What the framework must know about a family.

    Attributes:
        encoder: Builds the encoder from the family's configuration.
        decoder: Builds one decoder from the family's configuration.
        options: Frozen dataclass of the generation options with their defaults.
        figure: Name and unit of `Decoder.heldout_figure`.
    """

    encoder: Callable[[Any], Encoder]
    decoder: Callable[[Any], Decoder]
    options: type[Any]
    figure: str


def run_in_windows(
    blocks: Iterator[Tensor],
    run: Callable[[Tensor], Tensor],
    *,
    window: int,
    before: int,
    after: int,
) -> Iterator[Tensor]:
    """Apply a network to a long sequence in windows, as if it were applied to the whole.

    Each window carries frames of context on both sides; what the network makes of them is
    thrown away, so every kept frame has seen everything within its receptive field. At the
    true ends of the sequence the windows end too, so the network pads as it would there::

        sequence   |=================================|
        window 1   |kkkkkkkk....|
        window 2        |....kkkkkkkk....|             k kept, . context
        window 3                     |....kkkkkkkkkkk|

    The windows lie at multiples of `window`, however the sequence arrives in blocks.

    Args:
        blocks: float [l, A] each, frames first.
        run: The network, float [n, A] to float [n, B].
        window: Frames kept of a window.
        before: Frames of context before a window.
        after: Frames of context after it.

    Yields:
        float [n, B]; together as many frames as came in.
    """
    pending: list[Tensor] = []
    held = 0  # frames in `pending`
    done = 0  # of those, how many are already yielded: context of the next window
    for block in blocks:
        pending.append(block)
        held += len(block)
        while held >= done + window + after:
            # One block may hold hours: cut from it, do not copy it for each window.
            frames = torch.cat(pending) if len(pending) > 1 else pending[0]
            yield run(frames[: done + window + after])[done : done + window]
            keep_from = max(0, done + window - before)
            pending = [frames[keep_from:]]
            held, done = len(pending[0]), done + window - keep_from
    if held > done:
        yield run(torch.cat(pending))[done:]
