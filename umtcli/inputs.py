"""What a command reads: stdin, files, and the files below directories.

In: names as typed. Out: opened inputs, audio or latents, which are read later.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import AudioError, UsageError, input_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from core.audio.reader import AudioInput
    from core.latents import LatentsInput
    from umtcli.console import Environment
    from umtcli.errors import ItemResults

    Latents = NDArray[np.float32]

STREAM = "-"


@dataclass(frozen=True)
class Input:
    """One input of a command.

    Attributes:
        name: The path as typed, or "-" for stdin; of a file in a directory, below the
            directory as typed. Provenance quotes it.
        directory: The directory as typed that it was found in; "" for a file named itself.
    """

    name: str
    directory: str = ""

    @property
    def label(self) -> str:
        """What messages call it."""
        return input_label(self.name)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, which can be read again."""
        return self.name != STREAM and os.path.isfile(self.name)


def choose_inputs(env: Environment, given: Sequence[str]) -> list[str]:
    """Return the inputs to read, which is stdin if none were given and something is on it.

    Raises:
        UsageError: Nothing to read, stdin named twice, or stdin is a terminal.
    """
    if not given and env.stdin_kind != "data":
        raise UsageError("no input: name a file, or pipe one in")
    inputs = list(given) or [STREAM]
    if inputs.count(STREAM) > 1:
        raise UsageError("- is named twice, but stdin can be read only once")
    if STREAM in inputs and env.stdin_kind == "terminal":
        raise UsageError("stdin is a terminal; name a file, or pipe one in")
    return inputs


def find_inputs(results: ItemResults, names: Sequence[str]) -> list[Input]:
    """Replace directories by the audio files in them; one without any is a failed item."""
    from core.audio.formats import find_audio

    inputs: list[Input] = []
    for name in names:
        if name == STREAM or not os.path.isdir(name):
            inputs.append(Input(name))
            continue
        with results.item(name):
            found = [Input(str(path), name) for path in find_audio([Path(name)])]
            if not found:
                raise AudioError(f"{name}: no audio files in this directory")
            inputs += found
    return inputs


def open_audio_input(
    env: Environment,
    name: str,
    *,
    mono: bool,
    is_reread: bool = False,
    start_seconds: float = 0.0,
    seconds: float | None = None,
) -> AudioInput:
    """Open an audio file, or stdin for "-"; two channels stay two unless `mono`.

    A pipe that is read twice (`is_reread`) is stored on the disk first.

    Raises:
        AudioError: It cannot be read.
    """
    from core.audio.reader import open_audio

    source = env.stdin if name == STREAM else name
    return open_audio(
        source,
        name=name,
        start_seconds=start_seconds,
        seconds=seconds,
        mono=mono,
        is_reread=is_reread,
    )


def open_latents_input(env: Environment, name: str) -> LatentsInput:
    """Open a `.npy` file, or stdin for "-".

    Raises:
        LatentsError: It does not hold latents.
    """
    from core.latents import open_latents

    return open_latents(env.stdin if name == STREAM else Path(name), name)
