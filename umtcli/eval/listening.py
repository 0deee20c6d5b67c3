"""`umt eval --listening-test` and `--ratings`: from clips to a page, from answers to figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.evaluation import EVALUATION_RATE
from core.evaluation.listening import (
    KEY_NAME,
    Lineup,
    RatedClip,
    key_json,
    make_test,
    read_answers,
)
from core.metrics.catalogue import COPY, ROW_LABELS, TRANSLATION, TRUE
from umtcli.console import Progress
from umtcli.errors import ItemResults
from umtcli.eval import JSON_VERSION
from umtcli.eval.inputs import read_inputs
from umtcli.eval.options import write_text_file
from umtcli.eval.paired import open_pairs
from umtcli.outputs import Destination, check_destination

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.evaluation.listening import ListeningTest, Ratings
    from core.evaluation.paired import Piece
    from core.metrics.intervals import Interval
    from core.translator import Translator
    from umtcli.console import Environment
    from umtcli.eval.inputs import EvalInput
    from umtcli.eval.options import EvalOptions

PAGE_NAME = "listen.html"
# About 15 minutes for a listener: eight pairs with three clips each, and six lineups.
N_PAIRS, N_LINEUPS = 8, 6


def write_test(env: Environment, options: EvalOptions) -> None:
    """Write a test of translations: the page for the listeners, and the key they must not see."""
    from umtcli.eval.page import listening_page

    assert options.listening_test is not None
    names = (PAGE_NAME, KEY_NAME)
    places = [Destination(options.listening_test / name, makes_parents=True) for name in names]
    for place in places:  # before minutes of translating
        check_destination(place, force=options.force)
    batch = ItemResults(env)
    if options.paired is not None:
        _, _, model, pieces = open_pairs(env, options)
        test, sample_rate = _test_of_pieces(env, model, pieces), model.sample_rate
    else:
        test = _test_of_inputs(list(read_inputs(batch, options)), EVALUATION_RATE)
        sample_rate = EVALUATION_RATE
    texts = (listening_page(test, sample_rate), key_json(test.key))
    for place, text in zip(places, texts, strict=True):
        write_text_file(env, place, text, force=options.force)
    n_questions = len(test.trials.ratings) + len(test.trials.lineups)
    page, key = places
    env.notice(f"wrote {page}, {n_questions} questions; send it to listeners")
    env.notice(f"wrote {key}; keep it to yourself, beside the answers for --ratings")
    batch.finish("eval", is_json=False)


def _test_of_inputs(inputs: Sequence[EvalInput], sample_rate: int) -> ListeningTest:
    """Make a test of translations and their sources; those without a source are left out."""
    rated: list[RatedClip] = []
    by_source: dict[str, list[EvalInput]] = defaultdict(list)
    for own in inputs:
        if own.source is None or own.source_name is None:
            continue
        by_source[own.source_name].append(own)
        outputs = {TRANSLATION: own.waveform, COPY: own.source}
        if own.references:
            outputs[TRUE] = own.references[0]
        target = own.target or "the target"
        rated += [
            RatedClip(system, own.source_name, target, own.source, output)
            for system, output in outputs.items()
        ]
    lineups = [
        Lineup(name, group[0].source, tuple(own.waveform for own in group))
        for name, group in by_source.items()
        if len(group) > 1 and group[0].source is not None
    ]
    return make_test(rated, lineups, sample_rate)


def _test_of_pieces(env: Environment, model: Translator, pieces: Sequence[Piece]) -> ListeningTest:
    """Translate some of the pairs of paired music, and make a test of them."""
    rng = np.random.default_rng(0)  # the same test from the same music
    rated: list[RatedClip] = []
    lineups: list[Lineup] = []
    chosen = rng.permutation(
        [
            (number, *pair)
            for number, piece in enumerate(pieces)
            for pair in permutations(sorted(piece.files[piece.rendering]), 2)
        ]
    )[:N_PAIRS]
    with Progress(env, "translating", len(chosen) + N_LINEUPS, unit="questions") as progress:
        # NumPy has made strings of the tuples' values.
        for number, source, target in chosen:
            rated += _rated_pair(model, pieces[int(number)], str(source), str(target))
            progress.advance(1)
        for piece, source in choose_originals(pieces):
            lineups.append(_lineup(model, piece, source))
            progress.advance(1)
    return make_test(rated, [own for own in lineups if own.translations], model.sample_rate)


def choose_originals(pieces: Sequence[Piece]) -> list[tuple[Piece, str]]:
    """Choose the originals of the lineups, as piece and domain, each as often as the others."""
    chosen: list[tuple[Piece, str]] = []
    for number in range(N_LINEUPS):
        piece = pieces[number % len(pieces)]
        used = Counter(domain for _, domain in chosen)
        domains = sorted(piece.files[piece.rendering])
        source = min(domains, key=lambda own: (chosen.count((piece, own)), used[own]))
        chosen.append((piece, source))
    return chosen


def _rated_pair(model: Translator, piece: Piece, source: str, target: str) -> list[RatedClip]:
    from core.audio.reader import read_audio

    files = piece.files[piece.rendering]
    played, truth = (read_audio(files[name], model.sample_rate) for name in (source, target))
    output = model.translate(played, model.sample_rate, to=target)
    outputs = {TRANSLATION: output, COPY: played, TRUE: truth}
    return [
        RatedClip(system, piece.name, target, played, output) for system, output in outputs.items()
    ]


def _lineup(model: Translator, piece: Piece, source: str) -> Lineup:
    from core.audio.reader import read_audio

    files = piece.files[piece.rendering]
    played = read_audio(files[source], model.sample_rate)
    latents = model.encode(played, model.sample_rate)
    targets = [domain for domain in sorted(files) if domain != source]
    return Lineup(piece.name, played, tuple(model.decode(latents, to=name) for name in targets))


def show_ratings(env: Environment, options: EvalOptions) -> None:
    """Read the answers of all listeners and show their means."""
    ratings = read_answers([Path(name) for name in options.inputs])
    if not options.is_json:
        _show_ratings(env, ratings)
        return
    env.write_json(
        "eval",
        {
            "version": JSON_VERSION,
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
            Text(_with_interval(own.quality, own.quality_interval)),
            Text(_with_interval(own.success, own.success_interval)),
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
