"""HTML pages that need no other file: their audio, pictures, styles and scripts are inside.

In: results of an evaluation, or a listening test. Out: text. The templates escape everything that
comes from outside (file names, tags, domain names), and the page's own policy forbids the browser
to fetch anything, from a network or from the disk.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import core
from core.audio.reader import read_audio
from core.evaluation import EVALUATION_RATE
from core.metrics.catalogue import METRICS, ROW_LABELS, TRANSLATION, TRUE
from umtcli.eval import tables
from umtcli.eval.media import audio_uri, frequency_ticks, spectrogram_uri
from umtcli.eval.summary import summary_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from core.evaluation.listening import ListeningTest
    from core.evaluation.paired import Matrix, PairFigures, Piece
    from core.evaluation.score_card import ScoreCard
    from core.evaluation.song import SongFigures
    from core.metrics.catalogue import Metric
    from core.metrics.intervals import Interval
    from umtcli.eval.inputs import EvalInput

CLIP_SECONDS = 10  # of each player below a matrix, which may have dozens
ROLES = ("source", TRANSLATION, TRUE)  # of those players; evaluation.js has them too


@dataclass(frozen=True)
class Player:
    """An audio player with its picture.

    Attributes:
        role: What it plays, in one word or two.
        caption: What it plays, with its name.
        audio: Data URI.
        picture: Data URI.
    """

    role: str
    caption: str
    audio: str
    picture: str


@dataclass(frozen=True)
class Card:
    """A score card as text.

    Attributes:
        baselines: Headings of the baselines' columns.
        groups: Rows by question.
        warnings: Lines on the marks in it.
    """

    baselines: list[str]
    groups: dict[str, list[tables.CardRow]]
    warnings: list[str]


@dataclass(frozen=True)
class Section:
    """The evaluation of one piece of audio."""

    label: str
    target: str | None
    summary: str
    facts: str
    players: list[Player]
    card: Card
    metrics: tuple[str, ...]


def audio_page(sections: Sequence[Section]) -> str:
    """Return the page of translations, each beside its source and references."""
    return _render(
        "audio.html",
        title=f"umt eval: {', '.join(own.label for own in sections)}",
        sections=sections,
        metrics=_metrics(name for own in sections for name in own.metrics),
    )


def paired_page(
    matrix: Matrix, figures: Sequence[PairFigures], piece: Piece, model_name: str, sample_rate: int
) -> str:
    """Return the page of a model on paired music, with the matrix as a heat map.

    Args:
        matrix: Of all translations.
        figures: Of each; those of `piece` have their output.
        piece: The piece that is played on the page.
        model_name: Name of the model.
        sample_rate: Rate of the outputs, Hz.
    """
    played = [pair for pair in figures if pair.piece == piece.name]
    # A cell without audio shows its figures all the same.
    playable = {_pair_key(pair.source, pair.target) for pair in played}
    data = {
        "metrics": {name: _matrix_values(matrix, name) for name in matrix.overall},
        "pairs": {
            _pair_key(pair.source, pair.target): {
                "source": f"played {pair.source}",
                TRANSLATION: _pair_key(pair.source, pair.target),
                TRUE: f"played {pair.target}",
            }
            for pair in played
        },
        "clips": {
            name: asdict(player) for name, player in _clips(played, piece, sample_rate).items()
        },
    }
    return _render(
        "paired.html",
        title=f"umt eval: {model_name}",
        model=model_name,
        n_translations=len(figures),
        n_pieces=matrix.n_pieces,
        card=_card(matrix.overall, matrix.usual, matrix.unusual),
        menu={name: tables.metric_label(METRICS[name]) for name in matrix.overall},
        targets=sorted({target for _, target in matrix.cells}),
        lines=_matrix_lines(matrix, playable),
        piece=piece.name,
        clip_seconds=CLIP_SECONDS,
        roles={role: ROW_LABELS.get(role, role) for role in ROLES},
        data=data,
        metrics=_metrics(matrix.overall),
    )


def listening_page(test: ListeningTest, sample_rate: int) -> str:
    """Return the page of a listening test, which holds lossless clips and nothing of the key."""
    clips = {
        name: audio_uri(clip, sample_rate, "FLAC") for name, clip in sorted(test.clips.items())
    }
    data = {**asdict(test.trials), "clips": clips}
    return _render("listening.html", title="Listening test", data=data)


def _render(template: str, **values: object) -> str:
    return _templates().get_template(template).render(values)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("umtcli.eval"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["version"] = core.__version__
    environment.globals["frequencies"] = frequency_ticks()
    environment.globals["inlined"] = lambda name: Markup(_source(name))  # noqa: S704  # our own file
    return environment


def _source(name: str) -> str:
    """Return a stylesheet or script as it is: braces in it are no template's."""
    environment = _templates()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _metrics(names: Iterable[str]) -> list[Metric]:
    """Return the definitions of some metrics, each once, in the order of the catalogue."""
    known = set(names)
    return [metric for name, metric in METRICS.items() if name in known]


def audio_section(own: EvalInput, figures: SongFigures) -> Section:
    """Return what the page has of one translation, its sound and pictures included."""
    clips = [("Translation", own.label, own.waveform)]
    if own.source is not None and own.source_name is not None:
        clips.insert(0, ("Source", own.source_name, own.source))
    references = zip(own.reference_names, own.references, strict=True)
    clips += [("Reference", name, waveform) for name, waveform in references]
    players = [
        _player(role, f"{role}: {name}", waveform, EVALUATION_RATE)
        for role, name, waveform in clips
    ]
    return Section(
        label=own.label,
        target=own.target,
        summary=summary_text(own, figures),
        facts=f"{figures.seconds:.1f} s{tables.heard_text(figures)}",
        players=players,
        card=_card(figures.card, figures.usual, figures.unusual),
        metrics=tuple(figures.card),
    )


def _card(card: ScoreCard, usual: Mapping[str, Interval], unusual: Sequence[str]) -> Card:
    return Card(
        baselines=[ROW_LABELS[row] for row in tables.baselines_of(card)],
        groups=tables.card_rows(card, usual, unusual),
        warnings=tables.warnings_of(card, usual, unusual),
    )


def _player(role: str, caption: str, waveform: NDArray[np.float32], sample_rate: int) -> Player:
    return Player(
        role=role,
        caption=caption,
        audio=audio_uri(waveform, sample_rate, "MP3"),
        picture=spectrogram_uri(waveform, sample_rate),
    )


def _matrix_lines(matrix: Matrix, playable: set[str]) -> dict[str, list[tuple[str, bool]]]:
    """Return the cells of each source: their keys, empty for no cell, and whether they play."""
    targets = sorted({target for _, target in matrix.cells})
    lines = {}
    for source in sorted({source for source, _ in matrix.cells}):
        keys = [
            _pair_key(source, target) if (source, target) in matrix.cells else ""
            for target in targets
        ]
        lines[source] = [(key, key in playable) for key in keys]
    return lines


def _matrix_values(matrix: Matrix, name: str) -> dict[str, dict[str, str | float | None]]:
    metric = METRICS[name]
    values: dict[str, dict[str, str | float | None]] = {}
    for (source, target), card in matrix.cells.items():
        rows = card.get(name, {})
        found = rows.get(TRANSLATION)
        baselines = (
            f"{ROW_LABELS[row]} {tables.value_text(metric, own)}"
            for row, own in rows.items()
            if row != TRANSLATION
        )
        values[_pair_key(source, target)] = {
            "text": tables.value_text(metric, found),
            "score": None if found is None else found.score,
            "note": f"score {tables.score_text(found)}; " + ", ".join(baselines),
        }
    return values


def _pair_key(source: str, target: str) -> str:
    return json.dumps([source, target])  # a domain's name may have spaces in it


def _clips(played: Sequence[PairFigures], piece: Piece, sample_rate: int) -> dict[str, Player]:
    n_samples = CLIP_SECONDS * sample_rate
    clips = {
        f"played {domain}": _player(
            "true rendering",
            f"{domain}, truly played",
            read_audio(file, sample_rate)[:n_samples],
            sample_rate,
        )
        for domain, file in piece.files[piece.rendering].items()
    }
    for pair in played:
        assert pair.output is not None
        caption = f"{pair.source} → {pair.target}, translated"
        key = _pair_key(pair.source, pair.target)
        clips[key] = _player("translation", caption, pair.output[:n_samples], sample_rate)
    return clips
