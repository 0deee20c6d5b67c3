"""A model on paired music: the same notes, truly played by several instruments.

In: a translator and a directory `PIECE/DOMAIN--RENDERING.EXTENSION`, in which all files of a
piece hold the same notes at the same time, each played by one domain in one rendering (by one
SoundFont, for example). Out: the figures of each translation beside all of its baselines.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.audio.reader import read_audio
from core.audio.resampling import resample_blocks, resampled_length
from core.errors import DataError
from core.evaluation import EVALUATION_RATE
from core.evaluation.analysis import Analysis, Figures, Goal, figures, sound_figures
from core.evaluation.score_card import (
    Rows,
    ScoreCard,
    card_of_many,
    unusual_figures,
    usual_ranges,
)
from core.metrics import degradations
from core.metrics.catalogue import COPY, NOISE, OTHER_RENDERING, TRANSLATION, TRUE, WRONG_PIECE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from core.metrics.intervals import Interval
    from core.metrics.timbre import TimbreClassifier
    from core.translator import Translator

PAIRED_NAME = re.compile(r"(?P<domain>.+)--(?P<rendering>.+)")


@dataclass(frozen=True)
class Piece:
    """The files of one piece of music.

    Attributes:
        name: Its directory's.
        rendering: The one that the input and the first true rendering are of.
        others: Further renderings; the last one is a baseline and no reference.
        files: By rendering and domain.
    """

    name: str
    rendering: str
    others: tuple[str, ...]
    files: dict[str, dict[str, Path]]


@dataclass(frozen=True)
class PairFigures:
    """One translation beside its baselines.

    Attributes:
        piece: The piece.
        rendering: The one that the input is of.
        source: Domain of the input.
        target: Domain of the output.
        rows: Figures by row of `core.metrics.catalogue`.
        output: float32 [T] at the model's rate; None where it was not kept.
    """

    piece: str
    rendering: str
    source: str
    target: str
    rows: Rows
    output: NDArray[np.float32] | None


@dataclass(frozen=True)
class Matrix:
    """The score cards of many translations.

    Attributes:
        n_pieces: Number of pieces of music.
        overall: Of all together.
        cells: By source and target.
        usual: By metric, the range that recordings usually show.
        unusual: The metrics whose overall mean is outside that range.
    """

    n_pieces: int
    overall: ScoreCard
    cells: dict[tuple[str, str], ScoreCard]
    usual: dict[str, Interval]
    unusual: tuple[str, ...]


def find_pieces(directory: Path, domains: Sequence[str]) -> list[Piece]:
    """Find the pieces that some of the domains play.

    The rendering that is translated alternates between pieces, so that each is covered.

    Raises:
        DataError: There are none, or none that two domains play in one rendering.
    """
    pieces: list[Piece] = []
    for path in sorted(path for path in directory.iterdir() if path.is_dir()):
        renderings: dict[str, dict[str, Path]] = defaultdict(dict)
        for file in sorted(path.iterdir()):
            match = PAIRED_NAME.fullmatch(file.stem)
            if match and match["domain"] in domains:
                renderings[match["rendering"]][match["domain"]] = file
        # What a single domain plays has nothing to be compared with.
        names = sorted(name for name, files in renderings.items() if len(files) > 1)
        if names:
            turn = len(pieces) % len(names)
            first, *others = names[turn:] + names[:turn]
            pieces.append(Piece(path.name, first, tuple(others), dict(renderings)))
    if not pieces:
        raise DataError(
            f"{directory}: no PIECE/DOMAIN--RENDERING files of two of {', '.join(domains)}; "
            "recipes/starter renders some"
        )
    return pieces


def evaluate_paired(
    model: Translator, pieces: Sequence[Piece], classifier: TimbreClassifier
) -> Iterator[PairFigures]:
    """Translate each piece from each of its domains into each other one, and compare.

    Args:
        model: With the decoders of all domains.
        pieces: From `find_pieces`.
        classifier: Of the domains; timbre figures of domains that it does not know are left out.

    Yields:
        Figures of each piece, source and target.
    """
    for number, piece in enumerate(pieces):
        other_music = pieces[(number + 1) % len(pieces)] if len(pieces) > 1 else None
        yield from _PieceComparison(model, piece, other_music, classifier).compare()


def pairs_of(pieces: Sequence[Piece]) -> int:
    """Return the number of translations that `evaluate_paired` makes of the pieces."""
    sizes = (len(piece.files[piece.rendering]) for piece in pieces)
    return sum(size * (size - 1) for size in sizes)


def summarise(found: Sequence[PairFigures], classifier: TimbreClassifier) -> Matrix:
    """Combine the figures of many translations, which that classifier helped to measure."""
    groups: dict[tuple[str, str], list[tuple[str, Rows]]] = defaultdict(list)
    for pair in found:
        groups[pair.source, pair.target].append((pair.piece, pair.rows))
    everything = [entry for group in groups.values() for entry in group]
    overall = card_of_many(everything)
    usual = usual_ranges(classifier, None)
    means = {name: rows[TRANSLATION].value for name, rows in overall.items() if TRANSLATION in rows}
    return Matrix(
        n_pieces=len({pair.piece for pair in found}),
        overall=overall,
        cells={names: card_of_many(group) for names, group in groups.items()},
        usual={name: own for name, own in usual.items() if name in means},
        unusual=unusual_figures(means, usual),
    )


class _PieceComparison:
    """The audio of one piece, each file read and analysed once."""

    def __init__(
        self,
        model: Translator,
        piece: Piece,
        other_music: Piece | None,
        classifier: TimbreClassifier,
    ) -> None:
        self.model, self.piece, self.classifier = model, piece, classifier
        self.played = self._read(piece, piece.rendering)
        # Of several renderings the last one is a baseline and no reference.
        renderings = [self.played, *(self._read(piece, name) for name in piece.others)]
        self.other_rendering = renderings.pop() if piece.others else {}
        self.references = {
            domain: [own[domain] for own in renderings if domain in own] for domain in self.played
        }
        self.other_music = self._read_other_music(other_music) if other_music else {}
        self.noise = {domain: self._noise_figures(domain) for domain in self.played}

    def _read(self, piece: Piece, rendering: str) -> dict[str, Analysis]:
        files = piece.files[rendering]
        return {
            domain: self._analysis(read_audio(files[domain], EVALUATION_RATE)) for domain in files
        }

    def _read_other_music(self, piece: Piece) -> dict[str, Analysis]:
        """Read another piece, repeated or cut to length: missing audio would count as silence."""
        length = len(next(iter(self.played.values())).waveform)
        played = self._read(piece, piece.rendering)
        return {
            domain: self._analysis(np.resize(own.waveform, length))
            for domain, own in played.items()
        }

    def _analysis(self, waveform: NDArray[np.float32]) -> Analysis:
        return Analysis(waveform, EVALUATION_RATE, self.classifier)

    def _noise_figures(self, target: str) -> Figures:
        noise = self._analysis(degradations.noise(self.played[target].waveform))
        return sound_figures(noise, self._known(target), self.references[target])

    def _known(self, domain: str) -> str | None:
        return domain if domain in self.classifier.domains else None

    def compare(self) -> Iterator[PairFigures]:
        """Translate from each domain into each other one."""
        rate = self.model.sample_rate
        for source, played in self.played.items():
            length = resampled_length(len(played.waveform), EVALUATION_RATE, rate)
            # Once for all targets: the encoder does not depend on them.
            latents = self.model.encode(played.waveform, played.sample_rate)
            for target in self.played:
                if target != source:
                    # Latents are whole frames; what is beyond the input was silence.
                    output = self.model.decode(latents, to=target)[:length]
                    measured = resample_blocks([output], rate, EVALUATION_RATE)
                    yield PairFigures(
                        self.piece.name,
                        self.piece.rendering,
                        source,
                        target,
                        self._rows(self._analysis(np.concatenate(list(measured))), source, target),
                        output,
                    )

    def _rows(self, output: Analysis, source: str, target: str) -> Rows:
        played = self.played[source]
        goal = Goal(played, self._known(target), self._known(source), self.references[target])
        rows = {TRANSLATION: figures(output, goal), COPY: figures(played, goal)}
        if target in self.other_music:
            rows[WRONG_PIECE] = figures(self.other_music[target], goal)
        rows[TRUE] = figures(self.played[target], goal)
        if target in self.other_rendering:
            rows[OTHER_RENDERING] = figures(self.other_rendering[target], goal)
        return rows | {NOISE: self.noise[target]}
