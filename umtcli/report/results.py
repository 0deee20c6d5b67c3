"""What `umt eval --html` found out, as one page with players, spectrograms and tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import core
from core.audio.reader import read_audio
from core.evaluation import EVALUATION_RATE
from core.metrics.catalogue import METRICS, QUESTIONS, ROW_LABELS, TRANSLATION, TRUE
from umtcli.evaluating import tables
from umtcli.report.media import audio_uri, spectrogram_uri
from umtcli.report.page import escape, isolated, json_block, make_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from core.evaluation.paired import Matrix, PairFigures, Piece
    from core.evaluation.score_card import ScoreCard
    from core.evaluation.song import SongFigures
    from umtcli.evaluating.subjects import Subject

CLIP_SECONDS = 10  # of each player below a matrix, which may have dozens
ROLES = ("source", TRANSLATION, TRUE)  # of those players; results.js names them too

_ENDS = (
    "The share is of the way between a metric's two ends: for the music from other music, for the "
    "target from the unchanged input, for the quality from noise, each to the true rendering; "
    "without one, for the music to the unchanged input, for the rest to other music. In square "
    "brackets: 95 % bootstrap interval."
)
_SCALE = (
    '<span class="keys" style="background: linear-gradient(to right, hsl(10 65% 72%), '
    'hsl(105 65% 72%), hsl(200 65% 72%))"></span>'
)


def songs_page(found: Sequence[tuple[Subject, SongFigures]]) -> str:
    """Return the page of translations, each beside its source and references."""
    sections = [_song_section(subject, figures) for subject, figures in found]
    names = ", ".join(subject.label for subject, _ in found)
    told = ", ".join(isolated(subject.label) for subject, _ in found)
    body = f"{_head('Evaluation', told)}\n" + "\n".join(sections)
    return make_page(f"umt eval: {names}", body, script="results.js")


def pairs_page(
    matrix: Matrix, figures: Sequence[PairFigures], piece: Piece, model_name: str, sample_rate: int
) -> str:
    """Return the page of a model on paired music, with the matrix as a heat map.

    Args:
        matrix: Of all translations.
        figures: Of each; those of `piece` have their output.
        piece: The piece to listen to.
        model_name: What to call the model.
        sample_rate: Rate of the outputs, Hz.
    """
    heard = [pair for pair in figures if pair.piece == piece.name]
    clips = _clips(heard, piece, sample_rate)
    data = {
        "metrics": {name: _matrix_values(matrix, name) for name in matrix.overall},
        "pairs": {
            _pair_key(pair.source, pair.target): {
                "source": f"played {pair.source}",
                TRANSLATION: _pair_key(pair.source, pair.target),
                TRUE: f"played {pair.target}",
            }
            for pair in heard
        },
        "clips": clips,
    }
    told = f"{isolated(model_name)}: {len(figures)} translations of {matrix.n_pieces} pieces"
    body = "\n".join(
        (
            _head("Paired evaluation", told),
            _card_table(matrix.overall, None),
            "<h2>Source × target</h2>",
            _metric_menu(list(matrix.overall)),
            _matrix_table(matrix, {_pair_key(pair.source, pair.target) for pair in heard}),
            f"<p class=quiet>Colour: share, <span>0 %</span> {_SCALE} 100 %. A cell also chooses "
            f"what is played below: the first {CLIP_SECONDS} s of {isolated(piece.name)}.</p>",
            '<div class="players" aria-live="polite">',
            *map(_empty_player, ROLES),
            "</div>",
        )
    )
    block = json_block("matrix-data", data)
    return make_page(f"umt eval: {model_name}", body, script="results.js", data=block)


def _head(title: str, told: str) -> str:
    """Return the head of a page; what is told is HTML."""
    version = f"umt {core.__version__}"
    return f'<h1>{escape(title)}</h1>\n<p class="quiet">{told} · {version}</p>'


def _song_section(subject: Subject, figures: SongFigures) -> str:
    players = [_player(f"Translation: {subject.label}", subject.waveform)]
    if subject.source is not None:
        players.insert(0, _player(f"Source: {subject.source_name}", subject.source))
    for name, waveform in zip(subject.reference_names, subject.references, strict=True):
        players.append(_player(f"Reference: {name}", waveform))
    target = f"; target {isolated(subject.target)}" if subject.target else ""
    told = f"{figures.seconds:.1f} s{target}{escape(tables.heard_text(figures))}"
    return (
        f"<section>\n<h2>{escape(subject.label)}</h2>\n<p>{told}</p>\n"
        f'<div class="players">\n{"".join(players)}</div>\n'
        f"{_card_table(figures.card, figures.typical)}\n</section>"
    )


def _player(caption: str, waveform: NDArray[np.float32]) -> str:
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>\n"
        f'<div class="picture"><img alt="spectrogram" '
        f'src="{spectrogram_uri(waveform, EVALUATION_RATE)}"><i></i></div>\n'
        f'<audio controls preload="metadata" aria-label="{escape(caption)}" '
        f'src="{audio_uri(waveform, EVALUATION_RATE, "MP3")}"></audio></figure>\n'
    )


def _empty_player(role: str) -> str:
    label = ROW_LABELS.get(role, role)
    return (
        f'<figure id="clip-{role}"><figcaption></figcaption>\n'
        f'<div class="picture"><img alt="spectrogram"><i></i></div>\n'
        f'<audio controls preload="metadata" aria-label="{escape(label)}"></audio></figure>'
    )


def _card_table(card: ScoreCard, typical: Any) -> str:
    """Return a score card as a table, with its warning and what the share means."""
    shown = tables.rows_of(card)[1:]
    headings = ["figure", ROW_LABELS[TRANSLATION], "share", *(ROW_LABELS[row] for row in shown)]
    if typical:
        headings.append("typical of the target")
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in headings)
    body: list[str] = []
    for question, text in QUESTIONS.items():
        names = [name for name in card if METRICS[name].question == question]
        if names:
            width = len(headings)
            body.append(f'<tr class="question"><th colspan="{width}">{escape(text)}</th></tr>')
        body += [_card_line(name, card, shown, typical) for name in names]
    warning = tables.warning_of(card)
    told = f"<p>{escape(warning)}</p>" if warning else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f'<tbody>{"".join(body)}</tbody></table></div>\n<p class="quiet">{_ENDS}</p>{told}'
    )


def _card_line(name: str, card: ScoreCard, shown: Sequence[str], typical: Any) -> str:
    metric, rows = METRICS[name], card[name]
    found = rows.get(TRANSLATION)
    interval = tables.interval_text(metric, found)
    value = tables.value_text(metric, found)
    if interval != tables.NOTHING:
        value += f" [{interval}]"
    cells = [f'<td class="value">{value}</td>', f"<td>{tables.share_text(found)}</td>"]
    cells += [f"<td>{tables.value_text(metric, rows.get(row))}</td>" for row in shown]
    if typical:
        cells.append(f"<td>{tables.range_text(metric, typical.get(name))}</td>")
    label = escape(tables.metric_label(metric))
    return f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>\n'


def _metric_menu(names: Sequence[str]) -> str:
    options = "".join(
        f'<option value="{name}">{escape(tables.metric_label(METRICS[name]))}</option>'
        for name in names
    )
    return f'<p><label>Figure <select id="metric">{options}</select></label></p>'


def _matrix_table(matrix: Matrix, playable: set[str]) -> str:
    targets = sorted({target for _, target in matrix.cells})
    head = "".join(f'<th scope="col">{escape(target)}</th>' for target in targets)
    lines = []
    for source in sorted({source for source, _ in matrix.cells}):
        cells = []
        for target in targets:
            key = _pair_key(source, target)
            tag = "button" if key in playable else "span"
            marked = f'{tag} data-pair="{escape(key)}"' if (source, target) in matrix.cells else tag
            cells.append(f"<td><{marked}></{tag}></td>")
        lines.append(f'<tr><th scope="row">{escape(source)}</th>{"".join(cells)}</tr>')
    return (
        '<div class="scroll"><table class="matrix">\n'
        f'<thead><tr><th scope="col">from \\ to</th>{head}</tr></thead>\n'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _matrix_values(matrix: Matrix, name: str) -> dict[str, Any]:
    metric = METRICS[name]
    values = {}
    for (source, target), card in matrix.cells.items():
        rows = card.get(name, {})
        found = rows.get(TRANSLATION)
        yardsticks = (
            f"{ROW_LABELS[row]} {tables.value_text(metric, own)}"
            for row, own in rows.items()
            if row != TRANSLATION
        )
        values[_pair_key(source, target)] = {
            "text": tables.value_text(metric, found),
            "share": None if found is None else found.share,
            "note": f"share {tables.share_text(found)}; " + ", ".join(yardsticks),
        }
    return values


def _pair_key(source: str, target: str) -> str:
    return json.dumps([source, target])  # a domain's name may have spaces in it


def _clips(
    heard: Sequence[PairFigures], piece: Piece, sample_rate: int
) -> dict[str, dict[str, str]]:
    files = piece.files[piece.rendering]
    clips = {
        f"played {domain}": _clip(
            read_audio(files[domain], sample_rate), sample_rate, f"{domain}, truly played"
        )
        for domain in files
    }
    for pair in heard:
        assert pair.output is not None
        name = f"{pair.source} → {pair.target}, translated"
        key = _pair_key(pair.source, pair.target)
        clips[key] = _clip(pair.output, sample_rate, name)
    return clips


def _clip(waveform: NDArray[np.float32], sample_rate: int, name: str) -> dict[str, str]:
    cut = waveform[: CLIP_SECONDS * sample_rate]
    return {
        "name": name,
        "audio": audio_uri(cut, sample_rate, "MP3"),
        "picture": spectrogram_uri(cut, sample_rate),
    }
