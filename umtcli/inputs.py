"""What can be decoded: audio that is encoded first, or latents from a file.

In: an input as the user named it. Out: blocks of latents, and what is known of their length
before they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, cast

from core.errors import AudioError, LatentsError, UmtError, input_label
from umtcli.outputs import STREAM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from core.audio.reader import AudioInput
    from core.model_file import FoundModel, ModelHeader
    from core.translator import Translator
    from umtcli.console import Environment
    from umtcli.errors import Batch

    Latents = NDArray[np.float32]

BLOCK_FRAMES = 20  # of stored latents, handed on together


@dataclass(frozen=True)
class LatentStream:
    """Latents in the making.

    Attributes:
        blocks: float32 (L, D) each.
        n_frames: Frames in all; None when not known in advance.
        gain_db: By how much the input was raised before it was encoded; None when the gain follows
            the input.
    """

    blocks: Iterator[Latents]
    n_frames: int | None
    gain_db: float | None = 0.0


class Source(Protocol):
    """One input of `umt decode` or `umt translate`; a context manager.

    Attributes:
        path: The regular file it comes from; None for a stream, which is opened only once.
        start_seconds: Where in the input the part that is used begins.
        seconds: Length of that part; None for all.
    """

    path: Path | None
    start_seconds: float
    seconds: float | None

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def check(self, model: FoundModel, header: ModelHeader) -> float | None:
        """Check that the model can use it; return its length in seconds if known."""

    def encode(self, translator: Translator) -> LatentStream:
        """Return its latents, made as they are asked for."""


class AudioSource:
    """An audio file or stream; see `Source`."""

    def __init__(
        self,
        env: Environment,
        name: str,
        *,
        start_seconds: float = 0.0,
        seconds: float | None = None,
        plays_along: bool = False,
    ) -> None:
        from core.audio.reader import open_audio

        self.env = env
        self.plays_along = plays_along
        self.start_seconds = start_seconds
        self.seconds = seconds
        self.audio: AudioInput = open_audio(
            env.stdin if name == STREAM else name,
            name=name,
            start_seconds=start_seconds,
            seconds=seconds,
        )
        self.path = _regular_file(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.audio.close()

    def check(self, model: FoundModel, header: ModelHeader) -> float | None:
        """Return the length in seconds if known; any model can encode any audio."""
        del model, header
        return self.audio.n_samples / self.audio.sample_rate if self.audio.n_samples else None

    def encode(self, translator: Translator) -> LatentStream:
        """Bring the audio to the model's rate and level, and encode it as it is read."""
        from core.audio.levels import level_input

        levelled = level_input(
            self.audio, translator.sample_rate, translator.level_db, follows=self.plays_along
        )
        if levelled.gain_db:
            self.env.notice(
                f"{input_label(self.audio.name)} is quiet: raised by {levelled.gain_db:.1f} dB to "
                "the level the model was trained at"
            )
        n_samples = levelled.n_samples
        n_frames = None if n_samples is None else -(-n_samples // translator.hop_length)
        blocks = translator.encode_blocks(levelled.blocks)
        return LatentStream(blocks, n_frames, levelled.gain_db)


class LatentsSource:
    """A `.npy` file or stream of latents; see `Source`."""

    start_seconds = 0.0
    seconds: float | None = None

    def __init__(self, env: Environment, name: str) -> None:
        self.name = name
        self.latents = read_latents_from(env, name)
        self.path = _regular_file(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self, model: FoundModel, header: ModelHeader) -> float | None:
        """Check the number of latent dimensions.

        Raises:
            LatentsError: Another model made them.
        """
        n_frames, latent_dim = self.latents.shape
        length: float = n_frames * header.hop_length / header.sample_rate
        if latent_dim != header.latent_dim:
            raise LatentsError(
                f"{input_label(self.name)}: {latent_dim} values a frame, model {model.name} has "
                f"{header.latent_dim}; name the model that encoded it with -m"
            )
        return length

    def encode(self, translator: Translator) -> LatentStream:
        """Return the latents as they are."""
        del translator
        return LatentStream(in_blocks(self.latents), len(self.latents))


def read_latents_from(env: Environment, name: str) -> Latents:
    """Read a `.npy` file, or stdin for "-".

    Raises:
        LatentsError: It does not hold latents.
    """
    from core.latents import read_latents

    return read_latents(env.stdin if name == STREAM else Path(name), name)


def in_blocks(latents: Latents) -> Iterator[Latents]:
    """Cut stored latents, float32 (L, D), into blocks of copies."""
    for start in range(0, len(latents), BLOCK_FRAMES):
        yield latents[start : start + BLOCK_FRAMES].copy()


def spool(blocks: Iterable[Latents], latent_dim: int) -> Latents:
    """Store latents in a temporary file, so that no input is too long for memory.

    Args:
        blocks: float32 (L, D) each.
        latent_dim: D.

    Returns:
        float32 (L, D), all blocks, mapped from the file.

    Raises:
        UmtError: There is no room in the temporary directory.
    """
    import numpy as np

    from core.files import temporary_file

    n_frames = 0
    with temporary_file(error=UmtError) as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=np.float32).tobytes())
            n_frames += len(block)
        file.rewind()
        mapped = np.memmap(file.stream, dtype=np.float32, mode="r", shape=(n_frames, latent_dim))
    return cast("Latents", mapped)


def find_sources(batch: Batch, inputs: Sequence[str]) -> list[str]:
    """Replace directories by the audio files in them; one without any is a failed item."""
    from core.audio.formats import find_audio

    sources: list[str] = []
    for name in inputs:
        if name == STREAM or not Path(name).is_dir():
            sources.append(name)  # as typed: provenance quotes it
            continue
        with batch.item(name):
            found = [str(path) for path in find_audio([Path(name)])]
            if not found:
                raise AudioError(f"{name}: no audio files in this directory")
            sources += found
    return sources


def _regular_file(name: str) -> Path | None:
    path = Path(name)
    return path if name != STREAM and path.is_file() else None
