"""Build the benchmark's music: each piece by sources that nobody trained on, and truly played.

    python recipes/benchmark/music.py --out benchmark

In: held-out scores of `recipes/starter`, its table of domains, Debian's fonts, npm's recorded
notes. Out, in `benchmark/`: for each piece `source--NAME.flac`, what is translated, and
`true--DOMAIN.flac`, the same performance by the original that the decoder of the domain learnt
from; `piece.json` has the notes. The same versions give the same bytes, and what is there already
is not rendered again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "starter"))

import instruments
from domains import DOMAINS, FIRST, Domain
from instruments import banks_of, prepare_banks
from performing import EVEN, cut, perform
from plan import FLAT_RMS_DB
from scores import Score, find_sources, is_held_out, load_scores
from sound import SAMPLE_RATE, Event, set_level
from sources import SOURCES, beat_of, fetch_notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sound import Waveform

SECONDS = 13.0  # of score; a tail comes on top
SEED = 17
QUICK_PIECES = 2
LINE_RANGE = (64, 86)  # MIDI pitches in which the soloists can play
STRUCK_OR_PLUCKED = {"piano", "harpsichord", "guitar", "harp", "electric-guitar", "bass"}


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a held-out score; a line is its top voice alone.

    The seed is that of the performance.
    """

    score: str
    first_beat: float
    tempo_qpm: float
    seed: int
    is_line: bool = False

    @property
    def name(self) -> str:
        """The folder of the piece."""
        return f"{self.score}-{'line' if self.is_line else 'full'}"


# Ordered so that the first ones are a benchmark by themselves.
EXCERPTS = (
    Excerpt("mozart-k155-movement1", 54, 112, seed=0),
    Excerpt("mozart-k155-movement2", 40, 72, seed=4, is_line=True),
    Excerpt("bach-bwv340", 0, 84, seed=2),
    Excerpt("mozart-k155-movement2", 0, 66, seed=3),
    Excerpt("bach-bwv227.7", 0, 80, seed=1, is_line=True),
    Excerpt("bach-bwv113.8", 0, 76, seed=5),
)


def main() -> None:
    """Read the command line and render what is missing."""
    parser = argparse.ArgumentParser(description="Render the benchmark's sources and truths.")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill")
    options = parser.parse_args()
    fetch_notes(options.out / "notes")
    prepare_banks(options.out / "banks", banks_of(FIRST))
    scores = held_out_scores(options.out / "midi")
    for index, excerpt in enumerate(EXCERPTS):
        _render_piece(excerpt, scores[excerpt.score], options.out, index)
        print(excerpt.name, flush=True)


def held_out_scores(folder: Path) -> dict[str, Score]:
    """Parse the scores of all excerpts, once; by name."""
    sources = find_sources(seed=0)
    wanted = {excerpt.score for excerpt in EXCERPTS}
    chosen = [source for source in sources if source.name in wanted]
    for source in chosen:
        if not is_held_out(source, sources):
            raise ValueError(f"{source.name} is in the training music")
    return {score.source.name: score for score in load_scores(chosen, folder, jobs=1)}


def _render_piece(excerpt: Excerpt, score: Score, out: Path, index: int) -> None:
    folder = out / excerpt.name
    folder.mkdir(parents=True, exist_ok=True)
    events = performance(excerpt, score)
    sources = [name for name, source in SOURCES.items() if source.is_line == excerpt.is_line]
    played = {
        f"source--{name}.flac": partial(_play_source, name, events, excerpt, out)
        for name in sources
    }
    played |= {
        f"true--{domain}.flac": partial(play_original, domain, events, out) for domain in FIRST
    }
    for file, play in played.items():
        if not (folder / file).exists():
            write_audio(folder / file, play())
    content = {
        "order": index,
        "score": asdict(excerpt),
        "sources": {
            name: {
                "label": SOURCES[name].label,
                "instrument": SOURCES[name].instrument,
                "is_quick": index < QUICK_PIECES and SOURCES[name].is_quick,
            }
            for name in sources
        },
        "targets": {
            domain: {
                "is_struck_or_plucked": domain in STRUCK_OR_PLUCKED,
                "notes": _notes(domain, events),
            }
            for domain in FIRST
        },
    }
    (folder / "piece.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def performance(excerpt: Excerpt, score: Score) -> tuple[Event, ...]:
    """Return how an excerpt is played: the same by all sources and targets."""
    notes, _ = cut(score.notes, excerpt.first_beat, SECONDS * excerpt.tempo_qpm / 60)
    if excerpt.is_line:
        notes = tuple(note for note in notes if note.part == 0)
        pitches = [note.pitch for note in notes]
        lowest, highest = LINE_RANGE
        shift = next(
            own
            for own in sorted(range(-24, 25), key=abs)
            if lowest <= min(pitches) + own and max(pitches) + own <= highest
        )
        first = notes[0].start
        notes = tuple(
            replace(note, pitch=note.pitch + shift, start=note.start - first) for note in notes
        )
    events, _ = perform(
        notes, 60 / excerpt.tempo_qpm, np.random.default_rng([SEED, excerpt.seed]), EVEN
    )
    return events


def _play_source(name: str, events: Sequence[Event], excerpt: Excerpt, out: Path) -> Waveform:
    source = SOURCES[name]
    beside = _drums(events, excerpt) if source.has_drums else []
    return source.play([*events, *beside], out / "notes")


def _drums(events: Sequence[Event], excerpt: Excerpt) -> list[Event]:
    last = max(event.start_seconds for event in events)
    seconds_per_beat = 60 / excerpt.tempo_qpm
    return beat_of(seconds_per_beat, last / seconds_per_beat)


def play_original(domain: str, events: Sequence[Event], out: Path) -> Waveform:
    """Play events on what the decoder of a domain learnt from."""
    own = _within_range(DOMAINS[domain], events)
    return instruments.play_original(domain, own, out / "banks")


def _within_range(domain: Domain, events: Sequence[Event]) -> list[Event]:
    """Move notes that an instrument cannot play by octaves."""
    moved = []
    for event in events:
        pitch = event.pitch
        while pitch < domain.low:
            pitch += 12
        while pitch > domain.high:
            pitch -= 12
        moved.append(replace(event, pitch=pitch))
    return moved


def _notes(domain: str, events: Sequence[Event]) -> list[tuple[float, float, int]]:
    """Return start and end in seconds, and MIDI pitch, of what a domain plays."""
    return [
        (own.start_seconds, round(own.start_seconds + own.length_seconds, 4), own.pitch)
        for own in _within_range(DOMAINS[domain], events)
    ]


def write_audio(path: Path, waveform: Waveform, n_samples: int | None = None) -> None:
    """Write FLAC at the benchmark's level, cut or padded to a length."""
    levelled = set_level(waveform, FLAT_RMS_DB)
    if n_samples is not None:
        levelled = np.pad(levelled, (0, max(0, n_samples - len(levelled))))[:n_samples]
    temporary = path.with_suffix(".part")
    sf.write(temporary, levelled, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
    temporary.rename(path)


if __name__ == "__main__":
    main()
