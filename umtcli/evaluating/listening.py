"""`umt eval --listening-test` and `--ratings`: from clips to a page, from answers to figures."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.evaluation import EVALUATION_RATE
from core.evaluation.listening import KEY_NAME, Lineup, Rated, make_test
from core.evaluation.ratings import read_answers
from core.metrics.catalogue import COPY, ROW_LABELS, TRANSLATION, TRUE
from umtcli.console import Progress
from umtcli.errors import Batch
from umtcli.evaluating.pairs import open_pairs
from umtcli.evaluating.subjects import read_subjects
from umtcli.outputs import Destination, check_destination, open_destination

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.evaluation.listening import Test
    from core.evaluation.paired import Piece
    from core.evaluation.ratings import Ratings
    from core.metrics.intervals import Interval
    from core.translator import Translator
    from umtcli.console import Environment
    from umtcli.evaluating.asked import Asked
    from umtcli.evaluating.subjects import Subject

PAGE_NAME = "listen.html"
# About 15 minutes for a listener: eight pairs with three clips each, and six lineups.
N_PAIRS, N_LINEUPS = 8, 6


def write_test(env: Environment, asked: Asked) -> None:
    """Write a test of translations: the page for the listeners, and the key they must not see."""
    from umtcli.report.listening import listening_page

    assert asked.test is not None
    places = [Destination(asked.test / name, makes_parents=True) for name in (PAGE_NAME, KEY_NAME)]
    for place in places:
        check_destination(place, force=asked.force)
    batch = Batch(env)
    if asked.paired is not None:
        _, _, model, pieces = open_pairs(env, asked)
        test, sample_rate = test_of_pieces(env, model, pieces), model.sample_rate
    else:
        test = test_of_subjects(list(read_subjects(batch, asked)), EVALUATION_RATE)
        sample_rate = EVALUATION_RATE
    texts = (listening_page(test, sample_rate), json.dumps(test.key, indent=1) + "\n")
    for place, text in zip(places, texts, strict=True):
        with open_destination(env, place, force=asked.force) as stream:
            stream.write(text.encode())
    n_questions = len(test.shown["ratings"]) + len(test.shown["lineups"])
    page, key = places
    env.notice(f"wrote {page}, {n_questions} questions; send it to listeners")
    env.notice(f"wrote {key}; keep it to yourself, beside the answers for --ratings")
    batch.finish("eval", is_json=False)


def test_of_subjects(subjects: Sequence[Subject], sample_rate: int) -> Test:
    """Make a test of translations and their sources; those without a source are left out."""
    rated: list[Rated] = []
    by_source: dict[str, list[Subject]] = defaultdict(list)
    for own in subjects:
        if own.source is None or own.source_name is None:
            continue
        by_source[own.source_name].append(own)
        outputs = {TRANSLATION: own.waveform, COPY: own.source}
        if own.references:
            outputs[TRUE] = own.references[0]
        target = own.target or "the target"
        rated += [
            Rated(system, own.source_name, target, own.source, output)
            for system, output in outputs.items()
        ]
    lineups = [
        Lineup(name, group[0].source, tuple(own.waveform for own in group))
        for name, group in by_source.items()
        if len(group) > 1 and group[0].source is not None
    ]
    return make_test(rated, lineups, sample_rate)


def test_of_pieces(env: Environment, model: Translator, pieces: Sequence[Piece]) -> Test:
    """Translate some of the pairs of paired music, and make a test of them."""
    rng = np.random.default_rng(0)
    rated: list[Rated] = []
    lineups: list[Lineup] = []
    chosen = rng.permutation(
        [
            (number, *pair)
            for number, piece in enumerate(pieces)
            for pair in permutations(sorted(piece.files[piece.rendering]), 2)
        ]
    )[:N_PAIRS]
    with Progress(env, "translating", len(chosen) + N_LINEUPS, unit="questions") as progress:
        for number, source, target in chosen:
            rated += _rated_pair(model, pieces[int(number)], str(source), str(target))
            progress.advance(1)
        for piece, source in originals(pieces):
            lineups.append(_lineup(model, piece, source))
            progress.advance(1)
    return make_test(rated, [own for own in lineups if own.translations], model.sample_rate)


def originals(pieces: Sequence[Piece]) -> list[tuple[Piece, str]]:
    """Choose the originals of the lineups, as piece and domain; both take turns."""
    chosen: list[tuple[Piece, str]] = []
    for number in range(N_LINEUPS):
        piece = pieces[number % len(pieces)]
        used = Counter(domain for _, domain in chosen)
        domains = sorted(piece.files[piece.rendering])
        source = min(domains, key=lambda own: (chosen.count((piece, own)), used[own]))
        chosen.append((piece, source))
    return chosen


def _rated_pair(model: Translator, piece: Piece, source: str, target: str) -> list[Rated]:
    from core.audio.reader import read_audio

    files = piece.files[piece.rendering]
    played, truth = (read_audio(files[name], model.sample_rate) for name in (source, target))
    output = model.translate(played, model.sample_rate, to=target)
    outputs = {TRANSLATION: output, COPY: played, TRUE: truth}
    return [Rated(system, piece.name, target, played, output) for system, output in outputs.items()]


def _lineup(model: Translator, piece: Piece, source: str) -> Lineup:
    from core.audio.reader import read_audio

    files = piece.files[piece.rendering]
    played = read_audio(files[source], model.sample_rate)
    latents = model.encode(played, model.sample_rate)
    targets = [domain for domain in sorted(files) if domain != source]
    return Lineup(piece.name, played, tuple(model.decode(latents, to=name) for name in targets))


def show_ratings(env: Environment, asked: Asked) -> None:
    """Read the answers of all listeners and show what they say on average."""
    ratings = read_answers([Path(name) for name in asked.inputs])
    if not asked.is_json:
        _show_ratings(env, ratings)
        return
    env.write_json(
        "eval",
        {
            "listeners": ratings.n_listeners,
            "results": [asdict(own) for own in ratings.opinions],
            "lineup": None if ratings.lineup is None else asdict(ratings.lineup),
        },
    )


def _show_ratings(env: Environment, ratings: Ratings) -> None:
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{ratings.n_listeners} listeners: mean opinions from 1 to 5, with 95 %")
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("clips", "ratings", "quality", "success of translation"):
        table.add_column(heading, justify="left" if heading == "clips" else "right")
    for own in ratings.opinions:
        table.add_row(
            ROW_LABELS[own.system],
            str(own.n),
            _with_interval(own.quality, own.quality_interval),
            _with_interval(own.success, own.success_interval),
        )
    if ratings.opinions:
        env.write_table(table)
    found = ratings.lineup
    if found is not None:
        env.write_text(
            f"lineup: the original was found in {_with_interval(found.accuracy, found.interval)} "
            f"of {found.n}; chance {found.chance:.2f}, as often by guessing with a probability "
            f"of {found.p_value:.3f}\n"
        )


def _with_interval(value: float, interval: Interval | None) -> str:
    if interval is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{interval[0]:.2f} to {interval[1]:.2f}]"
