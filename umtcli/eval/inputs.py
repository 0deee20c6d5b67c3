"""Audio given to `umt eval`: found, and read with its source and references."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import AudioError, input_label
from core.evaluation import EVALUATION_RATE
from umtcli.inputs import STREAM, choose_inputs, find_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from core.audio.provenance import Provenance
    from core.audio.reader import AudioInput
    from umtcli.console import Environment
    from umtcli.errors import ItemResults
    from umtcli.eval.options import EvalOptions


@dataclass(frozen=True)
class EvalInput:
    """One piece of audio to be evaluated, with its source and its goal.

    Attributes:
        name: As typed; "-" for stdin.
        waveform: float32 [T] at 44.1 kHz, as are all others.
        source_name: Its source, if that is known and still there.
        source: The part of the source that was translated.
        target: The domain it should be in.
        reference_names: True renderings.
        references: Their waveforms.
    """

    name: str
    waveform: NDArray[np.float32]
    source_name: str | None
    source: NDArray[np.float32] | None
    target: str | None
    reference_names: tuple[str, ...] = ()
    references: tuple[NDArray[np.float32], ...] = ()

    @property
    def label(self) -> str:
        """Its name in tables and messages."""
        return input_label(self.name)


def read_inputs(batch: ItemResults, options: EvalOptions) -> Iterator[EvalInput]:
    """Find all inputs at once, and read each in its turn; unreadable ones fail by themselves."""
    # Directories are listed now, so that one without audio fails before anything is measured.
    inputs = find_inputs(batch, choose_inputs(batch.env, options.inputs))
    read = (_try_to_read(batch, own.name, options) for own in inputs)
    return (own for own in read if own is not None)


def _try_to_read(batch: ItemResults, name: str, options: EvalOptions) -> EvalInput | None:
    with batch.item(name):
        return read_input(batch.env, name, options)
    return None


def read_input(env: Environment, name: str, options: EvalOptions) -> EvalInput:
    """Read one input, and its source if that is given or can be found.

    Raises:
        AudioError: It cannot be read.
    """
    from core.audio.reader import open_audio, read_audio

    with open_audio(env.stdin if name == STREAM else name, name=name) as audio:
        provenance = audio.provenance
        waveform = _read(audio)
    source_name, source = _read_source(env, name, provenance, options)
    return EvalInput(
        name=name,
        waveform=waveform,
        source_name=source_name,
        source=source,
        target=options.target or (provenance.domain if provenance else None),
        reference_names=tuple(str(path) for path in options.references),
        references=tuple(read_audio(path, EVALUATION_RATE) for path in options.references),
    )


def _read_source(
    env: Environment, name: str, provenance: Provenance | None, options: EvalOptions
) -> tuple[str | None, NDArray[np.float32] | None]:
    from core.audio.reader import open_audio, read_audio

    if options.source is not None:
        return str(options.source), read_audio(options.source, EVALUATION_RATE)
    label = input_label(name)
    # Never an error: a source that is gone is no reason not to measure the audio.
    if provenance is None:
        env.notice(f"{label} does not say what it was made from: measured alone; add --source")
        return None, None
    path, start, seconds = provenance.source, provenance.start_seconds, provenance.seconds
    if provenance.source_sha256 is None:
        env.notice(f"{label} was made from a stream: measured alone; add --source")
    elif provenance.find_source() is None:
        env.notice(
            f"{label} was made from {path}, which is not here or has changed since: measured "
            "alone; add --source"
        )
    else:
        try:
            with open_audio(path, start_seconds=start, seconds=seconds) as audio:
                return path, _read(audio)
        except AudioError as error:  # the provenance names a part that the source does not have
            env.notice(f"{label}: its source cannot be read ({error}): measured alone")
    return None, None


def _read(audio: AudioInput) -> NDArray[np.float32]:
    import numpy as np

    from core.audio.resampling import resample_blocks

    blocks = list(resample_blocks(audio.blocks(), audio.sample_rate, EVALUATION_RATE))
    if not sum(map(len, blocks)):
        raise AudioError(f"{input_label(audio.name)}: no samples, nothing to measure")
    return np.concatenate(blocks)
