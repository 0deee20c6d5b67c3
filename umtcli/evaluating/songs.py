"""Audio given to `umt eval`: found, read with its source and references, measured, shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import AudioError, input_label
from core.evaluation import EVALUATION_RATE
from umtcli.evaluating.tables import card_json, card_table, warning_of
from umtcli.failures import Batch
from umtcli.sources import find_sources
from umtcli.streams import STREAM, choose_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from core.audio.provenance import Provenance
    from core.audio.reading import AudioInput
    from core.evaluation.song import SongFigures
    from core.metrics.timbre import TimbreClassifier
    from umtcli.console import Environment
    from umtcli.evaluating.asked import Asked


@dataclass(frozen=True)
class Subject:
    """One piece of audio to be measured, with what it came from and what it should be.

    Attributes:
        name: As typed; "-" for stdin.
        waveform: float32 [T] at 44.1 kHz, and so are all others.
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
        """What to call it."""
        return input_label(self.name)


def measure_songs(env: Environment, asked: Asked) -> None:
    """Measure the inputs one after the other, and show what was found."""
    batch = Batch(env)
    subjects = read_subjects(batch, asked)
    classifier = load_classifier(env, asked.data)
    found = []
    for subject in subjects:
        with batch.item(subject.name):
            figures = evaluate_subject(env, subject, classifier)
            batch.results.append(subject_json(subject, figures))
            if asked.page is not None:
                found.append((subject, figures))
            if not asked.is_json:
                show_subject(env, subject, figures)
    if found:
        from umtcli.report.results import songs_page

        asked.write_page(env, songs_page(found))
    batch.finish("eval", is_json=asked.is_json)


def read_subjects(batch: Batch, asked: Asked) -> Iterator[Subject]:
    """Find the inputs now, and read each in its turn; those that cannot be read fail."""
    names = find_sources(batch, choose_inputs(batch.env, asked.inputs))
    read = (_try_to_read(batch, name, asked) for name in names)
    return (subject for subject in read if subject is not None)


def load_classifier(env: Environment, data: Path | None) -> TimbreClassifier:
    """Return the classifier of prepared domains, or the shipped one where there are none."""
    from core.data.domain import load_domains
    from core.evaluation.judge import classifier_of, shipped_classifier

    if data is None:
        return shipped_classifier()
    return classifier_of(load_domains(data, None), data, notice=env.notice)


def _try_to_read(batch: Batch, name: str, asked: Asked) -> Subject | None:
    with batch.item(name):
        return _read_subject(batch.env, name, asked)
    return None


def _read_subject(env: Environment, name: str, asked: Asked) -> Subject:
    """Read one input, and its source if that is given or can be found."""
    from core.audio.reading import open_audio, read_audio

    with open_audio(env.stdin if name == STREAM else name, name=name) as audio:
        provenance = audio.provenance
        waveform = _read(audio)
    source_name, source = _read_source(env, name, provenance, asked)
    return Subject(
        name=name,
        waveform=waveform,
        source_name=source_name,
        source=source,
        target=asked.target or (provenance.domain if provenance else None),
        reference_names=tuple(str(path) for path in asked.references),
        references=tuple(read_audio(path, EVALUATION_RATE) for path in asked.references),
    )


def _read_source(
    env: Environment, name: str, provenance: Provenance | None, asked: Asked
) -> tuple[str | None, NDArray[np.float32] | None]:
    from core.audio.reading import open_audio, read_audio

    if asked.source is not None:
        return str(asked.source), read_audio(asked.source, EVALUATION_RATE)
    path = _find_source(env, name, provenance)
    if path is None or provenance is None:
        return None, None
    start, seconds = provenance.start_seconds, provenance.seconds
    with open_audio(path, start_seconds=start, seconds=seconds) as audio:
        return str(path), _read(audio)


def _read(audio: AudioInput) -> NDArray[np.float32]:
    import numpy as np

    from core.audio.reading import resample_blocks

    blocks = list(resample_blocks(audio.blocks(), audio.sample_rate, EVALUATION_RATE))
    if not sum(map(len, blocks)):
        raise AudioError(f"{input_label(audio.name)}: no samples, nothing to measure")
    return np.concatenate(blocks)


def _find_source(env: Environment, name: str, provenance: Provenance | None) -> Path | None:
    """Return the file that the audio says it was made from, if it is there and unchanged."""
    from core.audio.provenance import file_sha256

    label = input_label(name)
    if provenance is None:
        env.notice(f"{label} does not say what it was made from: measured alone; add --source")
        return None
    path = Path(provenance.source)
    if provenance.source_sha256 is None:
        env.notice(f"{label} was made from a stream: measured alone; add --source")
    elif not path.is_file():
        env.notice(f"{label} was made from {path}, which is not here: measured alone; add --source")
    elif file_sha256(path) != provenance.source_sha256:
        env.notice(f"{path} has changed since {label} was made: measured alone; add --source")
    else:
        return path
    return None


def evaluate_subject(
    env: Environment, subject: Subject, classifier: TimbreClassifier
) -> SongFigures:
    """Measure one piece of audio."""
    from core.evaluation.song import evaluate_song
    from core.evaluation.sound import Sound

    def heard(waveform: NDArray[np.float32]) -> Sound:
        return Sound(waveform, EVALUATION_RATE, classifier)

    if subject.target is not None and subject.target not in classifier.domains:
        known = ", ".join(classifier.domains)
        env.notice(
            f"{subject.label}: the timbre classifier does not know {subject.target}, only {known}; "
            "with --data it learns the prepared domains"
        )
    return evaluate_song(
        heard(subject.waveform),
        source=None if subject.source is None else heard(subject.source),
        target=subject.target,
        references=[heard(own) for own in subject.references],
    )


def subject_json(subject: Subject, figures: SongFigures) -> dict[str, Any]:
    """Return what was found out as JSON values."""
    return {
        "input": subject.name,
        "source": subject.source_name,
        "target": subject.target,
        "references": list(subject.reference_names),
        "seconds": figures.seconds,
        "source_domain": figures.source_domain,
        "heard": figures.heard,
        "source_heard": figures.source_heard,
        "typical": {name: list(ends) for name, ends in figures.typical.items()},
        "metrics": card_json(figures.card),
    }


def show_subject(env: Environment, subject: Subject, figures: SongFigures) -> None:
    """Write what was found out as a table."""
    against = f" from {subject.source_name}" if subject.source_name else ""
    title = f"{subject.label}{against}, {figures.seconds:.1f} s{heard_text(figures)}"
    env.write_table(card_table(figures.card, title, figures.typical))
    warning = warning_of(figures.card)
    if warning:
        env.notice(warning)


def heard_text(figures: SongFigures) -> str:
    """Return what the classifier hears, the likeliest domains first."""
    if figures.heard is None:
        return ""
    likely = sorted(figures.heard.items(), key=lambda item: -item[1])[:2]
    return "; heard as " + ", ".join(f"{name} {share:.0%}" for name, share in likely)
