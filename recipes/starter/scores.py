"""Scores for the starter recipe: music21 corpus in, plain lists of notes out.

A source is one encoded work (a chorale, a movement, a tune). It is parsed once, written as a
small neutral MIDI file (one track a part, no programs, no tempo of its own) and read back from
there ever after. Nothing here knows about instruments or sound.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mido
from music21 import converter, corpus, harmony, stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TICKS_PER_BEAT = 480

# Only composers long in the public domain, only encodings without a restriction in the file.
# Left out on purpose: Essen folk songs (non-commercial), the UT Orpheus Monteverdi, uploads of
# unknown licence (Joplin, bwv files taken from musescore.com) and files carrying a bare (c).
MOVEMENT_FOLDERS = {
    "beethoven": "Ludwig van Beethoven",
    "haydn": "Joseph Haydn",
    "mozart": "Wolfgang Amadeus Mozart",
    "schumann_robert/opus41no1": "Robert Schumann",
    "schumann_clara/polonaise": "Clara Schumann",
    "cpebach": "Carl Philipp Emanuel Bach",
    "weber": "Carl Maria von Weber",
}
HELD_OUT_WORK = "mozart-k155"  # every movement of it, so that no theme leaks into training
MOVEMENTS = 42  # of 55: enough for hours, and slow to parse
HELD_OUT_CHORALES = 40  # candidates for the paired set, the first chorales in rank order


@dataclass(frozen=True)
class Source:
    """One encoded work: `path` inside the corpus, `number` the tune within an ABC book."""

    name: str
    kind: str  # "chorale", "movement" or "tune"
    composer: str
    path: Path
    number: int = 0


@dataclass(frozen=True)
class Note:
    """One sounding note; `start` and `length` in quarter notes, `pitch` a MIDI number."""

    start: float
    length: float
    pitch: int
    part: int


@dataclass(frozen=True)
class Score:
    """A parsed source. Notes are sorted by start; part 0 is the top line."""

    source: Source
    notes: tuple[Note, ...]

    @property
    def n_parts(self) -> int:
        """Number of parts that hold notes."""
        return 1 + max(note.part for note in self.notes)

    @property
    def beats(self) -> float:
        """Length in quarter notes, from 0 to the end of the last note."""
        return max(note.start + note.length for note in self.notes)


def rank(*words: object) -> int:
    """Return a number that looks random, the same on every machine and in every run."""
    text = "/".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def find_sources(seed: int) -> list[Source]:
    """List every usable source, in an order that depends on the seed alone."""
    sources = [*_chorales(), *_movements(), *_tunes()]
    return sorted(sources, key=lambda source: rank(seed, source.name))


def _chorales() -> Iterator[Source]:
    for path in sorted(corpus.getComposer("bach")):
        number = re.fullmatch(r"bwv(\d+)\.?\d*\.mxl", Path(path).name)
        # From BWV 500 on there are solo songs and keyboard pieces; -a, -w and -sc are variants.
        if number and (int(number[1]) < 250 or 250 <= int(number[1]) < 439):
            yield Source(f"bach-{Path(path).stem}", "chorale", "Johann Sebastian Bach", Path(path))


def _movements() -> Iterator[Source]:
    root = Path(corpus.getComposer("bach")[0]).parent.parent
    for folder, composer in MOVEMENT_FOLDERS.items():
        base = root / folder
        paths = base.rglob("*.mxl") if base.is_dir() else base.parent.glob(f"{base.name}*.mxl")
        for path in sorted(paths):
            words = path.relative_to(root).with_suffix("").parts
            yield Source("-".join(words).replace("_", ""), "movement", composer, path)


def _tunes() -> Iterator[Source]:
    for path in sorted(Path(p) for p in corpus.getComposer("airdsAirs")):
        for number in range(1, 1 + _read_abc(path).count("\nX:")):
            name = f"aird-{path.stem}-{number:03d}"
            yield Source(name, "tune", "traditional, published by James Aird", path, number)


def _read_abc(path: Path) -> str:
    return "\n" + path.read_text(encoding="utf-8", errors="replace")


def is_held_out(source: Source, sources: Sequence[Source]) -> bool:
    """Tell whether a source is reserved for the paired set; `sources` come from find_sources."""
    if source.name.startswith(HELD_OUT_WORK):
        return True
    chorales = [other.name for other in sources if other.kind == "chorale"]
    return source.name in chorales[:HELD_OUT_CHORALES]


def select_sources(sources: Sequence[Source], minutes: float) -> list[Source]:
    """Take as many sources as `minutes` of training sound a domain need, and all held-out ones."""
    spare = 4 if minutes else 0
    wanted = {
        "chorale": HELD_OUT_CHORALES + spare + round(4 * minutes),
        "movement": MOVEMENTS if minutes else 0,
        "tune": spare + round(4 * minutes),
    }
    chosen = [source for source in sources if source.name.startswith(HELD_OUT_WORK)]
    for kind, count in wanted.items():
        others = (s for s in sources if s.kind == kind and s not in chosen)
        chosen += [source for source, _ in zip(others, range(count), strict=False)]
    return [source for source in sources if source in chosen]


def load_scores(sources: Sequence[Source], folder: Path, jobs: int) -> list[Score]:
    """Parse what `folder` does not hold yet, in `jobs` processes, and read everything back."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [source for source in sources if not (folder / f"{source.name}.mid").exists()]
    # The slow movements first, so that the last worker is not left alone with one of them.
    todo.sort(key=lambda source: source.kind != "movement")
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(_cache, todo, [folder] * len(todo)))
    scores = (Score(source, _read_notes(folder / f"{source.name}.mid")) for source in sources)
    return [score for score in scores if score.notes]


def _cache(source: Source, folder: Path) -> None:
    """Write a source as MIDI; an unusable one becomes an empty file, so it is tried only once."""
    try:
        notes = list(_parse(source))
    except Exception as error:  # music21 raises nearly anything on an odd file
        print(f"skipped {source.name}: {error!r}", flush=True)
        notes = []
    n_parts = len({note.part for note in notes})
    if (source.kind == "chorale" and n_parts != 4) or len(notes) < 24:
        notes = []
    temporary = folder / f"{source.name}.part"
    _notes_to_midi(notes).save(temporary)
    temporary.rename(folder / f"{source.name}.mid")


def _parse(source: Source) -> Iterator[Note]:
    if source.kind == "tune":
        text = "X:" + _read_abc(source.path).split("\nX:")[source.number]
        work = converter.parse(text, format="abc", forceSource=True)
    else:
        work = converter.parse(source.path, forceSource=True)
    parts = work.parts if isinstance(work, stream.Score) else [work]
    sounding = [notes for part in parts if (notes := list(_part_notes(part)))]
    for index, notes in enumerate(sounding):
        for start, length, pitch in notes:
            yield Note(start, length, pitch, index)


def _part_notes(part: stream.Stream[Any]) -> Iterator[tuple[float, float, int]]:
    for element in part.stripTies().flatten().notes:
        # Chord symbols are names, not notes; grace notes have no length to play.
        if isinstance(element, harmony.Harmony) or element.quarterLength <= 0:
            continue
        for pitch in element.pitches:
            yield float(element.offset), float(element.quarterLength), int(pitch.midi)


def _notes_to_midi(notes: Iterable[Note]) -> mido.MidiFile:
    tracks: dict[int, list[tuple[int, int, int]]] = {}
    for note in notes:
        start = round(note.start * TICKS_PER_BEAT)
        end = max(start + 1, round((note.start + note.length) * TICKS_PER_BEAT))
        tracks.setdefault(note.part, []).extend([(start, 1, note.pitch), (end, 0, note.pitch)])
    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    for part in sorted(tracks):
        track = midi.add_track()
        now = 0
        for tick, on, pitch in sorted(tracks[part]):
            track.append(mido.Message("note_on", note=pitch, velocity=64 * on, time=tick - now))
            now = tick
    return midi


def _read_notes(path: Path) -> tuple[Note, ...]:
    """Read back what `_notes_to_midi` wrote; a unison inside one part becomes a single note."""
    notes: list[Note] = []
    for part, track in enumerate(mido.MidiFile(path).tracks):
        now = 0
        started: dict[int, int] = {}
        for message in track:
            now += message.time
            if message.type != "note_on":
                continue
            start = started.pop(message.note, None)
            if start is not None and now > start:
                length = (now - start) / TICKS_PER_BEAT
                notes.append(Note(start / TICKS_PER_BEAT, length, message.note, part))
            if message.velocity:
                started[message.note] = now
    return tuple(sorted(notes, key=lambda note: (note.start, note.part, note.pitch)))


def melody_key(score: Score) -> tuple[int, ...]:
    """Return the first ten melodic steps of the top part, in semitones, repeats left out.

    Bach set many melodies several times: two settings of one melody share this key.
    """
    pitches = [note.pitch for note in score.notes if note.part == 0]
    steps = [after - before for before, after in pairwise(pitches)]
    return tuple(step for step in steps if step)[:10]
