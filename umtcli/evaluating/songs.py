"""Audio given to `umt eval`: measured, and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.evaluation import EVALUATION_RATE
from umtcli.errors import Batch
from umtcli.evaluating.subjects import Subject, read_subjects
from umtcli.evaluating.tables import card_json, card_table, heard_text, warning_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from core.evaluation.song import SongFigures
    from core.metrics.timbre import TimbreClassifier
    from umtcli.console import Environment
    from umtcli.evaluating.asked import Asked


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


def load_classifier(env: Environment, data: Path | None) -> TimbreClassifier:
    """Return the classifier of prepared domains, or the shipped one where there are none."""
    from core.data.domain import load_domains
    from core.evaluation.classifier_cache import classifier_of, shipped_classifier

    if data is None:
        return shipped_classifier()
    return classifier_of(load_domains(data, None), data, notice=env.notice)


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
