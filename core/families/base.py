"""The seam between the framework and a family of networks.

A family provides an encoder (waveform to latents), a decoder (latents to waveform, one per
domain) and the description below. Everything else — confusion network, data, training
loop, checkpoints, model file, commands, evaluation — depends on this module only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from torch import Tensor, nn

from core.families.windows import run_in_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from core.key_range import KeyRange


@dataclass(frozen=True)
class GenerationOptions:
    """Base of a family's generation options: a frozen dataclass, every field with a default.

    Attributes:
        is_live: Whether the result is heard while the source is played. It is then made frame by
            frame, and looks no further ahead than the networks have to.
    """

    is_live: bool = field(default=False, kw_only=True)


ConfigT = TypeVar("ConfigT")
OptionsT = TypeVar("OptionsT", bound=GenerationOptions)


class Encoder(nn.Module, ABC):
    """Maps a waveform to latents; shared by all domains.

    Attributes:
        hop_length: Samples per latent frame.
        frames_before: Latent frames before a frame whose samples can change it.
        frames_after: Latent frames after it, likewise.
        score_weight: Of `score_loss` in training; 0 for a family that learns nothing from scores.
    """

    hop_length: int
    frames_before: int
    frames_after: int
    score_weight: float = 0.0

    def score_loss(self, latents: Tensor, score: Tensor) -> Tensor:
        """Return how far latents are from a score, a scalar; 0 for a family without such a loss.

        Args:
            latents: Of training, float [B, L, D].
            score: What was played, NaN where that is not known, float [B, L, 2, 88]; see
                `core.data.score.score_roll`.
        """
        del score
        return latents.new_zeros(())

    @abstractmethod
    def forward(self, waveform: Tensor) -> Tensor:
        """Encode.

        Args:
            waveform: float [B, T], -1..1, T a multiple of the hop length.

        Returns:
            Latents, float [B, L, D] with L = T / hop length.
        """

    def stream(self, samples: Iterator[Tensor], *, window: int) -> Iterator[Tensor]:
        """Encode a recording as it arrives, with the latents of the whole.

        Args:
            samples: float [t] each, or [t, C] of C channels if the family plays more than one; in
                all a multiple of the hop length.
            window: Latent frames to work on at a time. Here a window is at least as long as its
                context, or most of the work would be done over and over.

        Yields:
            Latents, float [l, D], or [l, C, D] of C channels. Of channels that are the same, those
            of one. They do not depend on how the samples are cut into blocks.
        """
        hop = self.hop_length
        return run_in_windows(
            samples,
            lambda own: self(own.unsqueeze(0))[0],
            window=max(window, self.frames_before) * hop,
            before=self.frames_before * hop,
            after=self.frames_after * hop,
            ratio=hop,
        )


class Decoder(nn.Module, ABC, Generic[OptionsT]):
    """Maps latents to the waveform of one domain; generic in the family's generation options.

    Attributes:
        n_codes: How many classes `codes` has; 0 for a family without.
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
        """Return the family's figure for held-out audio, a scalar; lower is better.

        Args:
            latents: float [B, L, D].
            waveform: float [B, T], the original, T = L times the hop length.
        """

    @abstractmethod
    def baselines(self, waveform: Tensor) -> dict[str, float]:
        """Return the held-out figures of predictions that need no training, by name.

        Args:
            waveform: float [B, T], the audio that the figure is taken on.
        """

    def codes(self, waveform: Tensor) -> Tensor | None:
        """Return the classes that the figure is an entropy of, int64 [B, T].

        None for a family whose figure is not an entropy.

        Args:
            waveform: float [B, T].
        """
        del waveform
        return None

    @abstractmethod
    def generate(
        self, blocks: Iterator[Tensor], *, window: int, seed: int, options: OptionsT
    ) -> Iterator[Tensor]:
        """Generate audio from latents that arrive in blocks.

        The samples do not depend on how the latents are cut into blocks.

        Args:
            blocks: Latents, float [l, D] each, or [l, C, D] of C channels if the family plays
                more than one.
            window: Latent frames to work on at a time, for families that have a choice.
            seed: Seed of random draws, for families that draw.
            options: The family's generation options.

        Yields:
            Waveform blocks, float [t] or [t, C]; together as long as all latents.
        """

    def generate_all(
        self, sequences: Sequence[Iterator[Tensor]], *, window: int, seed: int, options: OptionsT
    ) -> Generator[Iterator[Tensor]]:
        """Generate audio from several sequences of latents, each with the samples it has alone.

        By default one after the other; a family may work on the next before one is done.

        Args:
            sequences: Blocks of latents as for `generate`, taken in order, maybe on a thread.
            window: As for `generate`.
            seed: As for `generate`.
            options: As for `generate`.

        Yields:
            The waveform blocks of each sequence, to be taken before those of the next; blocks
            that are not taken are not generated. An error of reading a sequence is raised where
            its waveform is taken, and the others can still be taken.
        """
        for blocks in sequences:
            yield self.generate(blocks, window=window, seed=seed, options=options)


class Fold(Protocol):
    """Moves notes of one stream of latents by octaves into a range.

    Attributes:
        n_below: Frames of notes so far that were moved up.
        n_above: Frames of notes so far that were moved down.
    """

    n_below: int
    n_above: int

    def __call__(self, latents: Tensor) -> Tensor:
        """Return the next frames, float [l, D] or [l, C, D]."""


@dataclass(frozen=True)
class NoteLatents(Generic[ConfigT]):
    """What can be done with latents that hold notes.

    Attributes:
        transpose: Moves the notes of latents, float [..., D], by semitones; raises UsageError
            where it cannot.
        fold: Builds what moves notes into a range.
        count: Returns in how many frames of latents, float [l, D] or [l, C, D], each key is a
            note: float [128], by MIDI number.
    """

    transpose: Callable[[Tensor, ConfigT, float], Tensor]
    fold: Callable[[ConfigT, KeyRange], Fold]
    count: Callable[[Tensor, ConfigT], Tensor]


@dataclass(frozen=True)
class Family(Generic[ConfigT, OptionsT]):
    """Everything that the framework knows about a family.

    Attributes:
        encoder: Builds the encoder from the family's configuration.
        decoder: Builds one decoder from the family's configuration.
        options: Frozen dataclass of the generation options with their defaults.
        figure: Name and unit of `Decoder.heldout_figure`.
        is_stereo: Whether its models can encode and play two channels.
        notes: What can be done with the notes in latents; None for latents without notes.
        live: Builds, of encoder, decoders, the ranges of their domains and the seed of random
            draws, a module that TorchScript compiles, and that translates latent frame by latent
            frame as music is played; see `core.export.live`. None for families that are too slow.
    """

    encoder: Callable[[ConfigT], Encoder]
    decoder: Callable[[ConfigT], Decoder[OptionsT]]
    options: type[OptionsT]
    figure: str
    is_stereo: bool = False
    notes: NoteLatents[ConfigT] | None = None
    live: (
        Callable[[Encoder, Sequence[Decoder[OptionsT]], Sequence[KeyRange | None], int], nn.Module]
        | None
    ) = None

    def build_options(self, given: Mapping[str, object]) -> OptionsT:
        """Return the generation options with some values given, the others at their defaults.

        Args:
            given: Values by name; all names are fields of `options`.

        Raises:
            UsageError: A value is impossible.
        """
        build: Callable[..., OptionsT] = self.options
        return build(**given)
