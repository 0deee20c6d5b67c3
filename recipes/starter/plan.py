"""Which files there are, and everything that decides what each of them holds.

A training file follows from (seed, domain, index) and from the scores there are to choose from,
whose number grows with the minutes asked for; never from the order of the workers. A paired
piece is played by all domains with all fonts from one list of events, so that its versions are
aligned by construction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from performing import (
    Instrument,
    assign_seats,
    channel_of,
    cut,
    excerpt,
    fit_to_range,
    perform,
    untangle,
)
from scores import Note, Score, rank
from sound import FONTS, TAIL_SECONDS, Equaliser, Event, Reverb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_SECONDS = 88.0  # of score in one training file; the tail comes on top
DOMAINS_PER_SCORE = 3  # each chorale or tune is heard in half of the domains
OTHER_TAKES = 2  # of each training file by other domains, beside one by its own
TARGET_FONT = "fluid"  # of the training files: what decoders learn has one sound
PAIRED_SECONDS = (20.0, 36.0)  # shortest and longest, of score
PAIRED_MOVEMENTS = 2  # pieces of the paired set that are not chorales
FLAT_RMS_DB = -20.0
SONG_WORK, SONG_BEATS, SONG_TEMPO = "mozart-k155-movement1", 47.0, 126.0  # up to its first cadence


@dataclass(frozen=True)
class Domain:
    """The ensembles a domain is played by, with weights, and its solo instruments.

    An ensemble names one instrument for each of four parts, from the top. The first ensemble is
    the one of the paired set.
    """

    ensembles: tuple[tuple[float, tuple[Instrument, ...]], ...]
    solos: tuple[Instrument, ...]


def _keyboard(low: int, high: int, programs: Mapping[int, float]) -> Domain:
    instruments = [Instrument(program, low, high) for program in programs]
    shares = zip(programs.values(), instruments, strict=True)
    return Domain(tuple((share, (one,) * 4) for share, one in shares), tuple(instruments))


VIOLIN, VIOLA, CELLO = Instrument(40, 55, 98), Instrument(41, 48, 86), Instrument(42, 36, 76)
FLUTE, OBOE, CLARINET = Instrument(73, 59, 96), Instrument(68, 57, 90), Instrument(71, 50, 90)
BASSOON, HORN = Instrument(70, 34, 72), Instrument(60, 41, 77)
TUTTI, SLOW_TUTTI = Instrument(48, 36, 96), Instrument(49, 36, 96)

DOMAINS = {
    "piano": _keyboard(26, 103, {0: 0.85, 1: 0.15}),
    "harpsichord": _keyboard(29, 89, {6: 1.0}),
    "organ": _keyboard(36, 96, {19: 0.7, 16: 0.15, 20: 0.15}),
    "strings": Domain(
        (
            (0.75, (VIOLIN, VIOLIN, VIOLA, CELLO)),
            (0.15, (TUTTI,) * 4),
            (0.1, (SLOW_TUTTI,) * 4),
        ),
        (VIOLIN, VIOLA, CELLO),
    ),
    "winds": Domain(
        (
            (0.75, (FLUTE, OBOE, CLARINET, BASSOON)),
            (0.25, (FLUTE, CLARINET, HORN, BASSOON)),
        ),
        (FLUTE, OBOE, CLARINET, BASSOON, HORN),
    ),
    "guitar": _keyboard(38, 86, {24: 0.6, 25: 0.4}),
}
NEWCOMER = "accordion"  # unknown to the starter; recipes/adding adds it
DOMAINS_AND_NEWCOMER = DOMAINS | {NEWCOMER: _keyboard(36, 96, {21: 1.0})}

# What the k-th file of a domain holds, over and over: by time, single lines are about 3 in 10.
TEXTURES = (
    "chorale", "movement", "tune", "chorale", "movement", "tune",
    "chorale", "line", "chorale", "movement", "tune",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """Everything that decides the content of one file. `recipe` is what the manifest keeps."""

    file: str
    font: str
    programs: dict[int, int]
    events: tuple[Event, ...]
    rms_db: float
    tuning_cents: float
    reverb: Reverb | None
    equaliser: Equaliser | None
    recipe: dict[str, Any]

    @property
    def key(self) -> str:
        """Hash of all the above: a file made from an equal job need not be made again."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def plan_training(scores: Sequence[Score], minutes: float, seed: int) -> list[Job]:
    """Plan `minutes` of training files for each domain, each followed by its takes.

    A training file is flat: one font, dry, in tune. Its takes are the same performance, by
    its own domain and by others, in any font and room. All domains grow together.
    """
    plans = {name: _plan_domain(name, scores, 60 * minutes, seed, DOMAINS) for name in DOMAINS}
    placed = [(index / len(jobs), job) for jobs in plans.values() for index, job in enumerate(jobs)]
    takes = [job for _, job in sorted(placed, key=lambda pair: pair[0])]
    return [job for own in takes for job in (_flat(own), own, *_other_takes(own, seed))]


def plan_newcomer(
    scores: Sequence[Score],
    held_out: Sequence[Score],
    *,
    minutes: float,
    n_pieces: int,
    seed: int,
) -> list[Job]:
    """Plan one more domain: its training files, and the paired set with it, in one font."""
    domains = DOMAINS_AND_NEWCOMER
    training = _plan_domain(NEWCOMER, scores, 60 * minutes, seed, domains)
    paired = plan_paired(held_out, n_pieces, seed, domains)
    return [*map(_flat, training), *(job for job in paired if job.font == TARGET_FONT)]


def _plan_domain(
    name: str, scores: Sequence[Score], seconds: float, seed: int, domains: Mapping[str, Domain]
) -> list[Job]:
    pools: dict[str, list[Score]] = {"chorale": [], "movement": [], "tune": []}
    for score in scores:
        by_rank = sorted(domains, key=lambda domain: rank(seed, domain, score.source.name))
        # The few movements serve all domains, each time with another excerpt.
        if score.source.kind == "movement" or name in by_rank[:DOMAINS_PER_SCORE]:
            pools[score.source.kind].append(score)
    pools["movement"].sort(key=lambda score: rank(seed, name, score.source.name))
    pools["line"] = pools["movement"][::-1]
    used = dict.fromkeys(pools, 0)
    jobs: list[Job] = []
    while seconds > 0:
        texture = TEXTURES[len(jobs) % len(TEXTURES)]
        pool = pools[texture]
        score = pool[used[texture] % len(pool)]
        used[texture] += 1
        is_line = texture == "line"
        jobs.append(_own_take(name, len(jobs), score, seed, is_line=is_line, domains=domains))
        seconds -= jobs[-1].recipe["seconds"]
    return jobs


def _own_take(
    name: str, index: int, score: Score, seed: int, *, is_line: bool, domains: Mapping[str, Domain]
) -> Job:
    rng = np.random.default_rng([seed, sorted(domains).index(name), index])
    font = FONTS[int(rng.choice(len(FONTS), p=[font.weight for font in FONTS]))]
    tempo = float(np.round(rng.uniform(60, 140), 1))
    notes = score.notes
    if is_line:
        part = int(rng.integers(score.n_parts))
        notes = tuple(replace(note, part=0) for note in notes if note.part == part)
    notes, first_beat = excerpt(notes, MAX_SECONDS * tempo / 60, rng)
    domain = domains[name]
    if len({note.part for note in notes}) == 1:
        instruments: tuple[Instrument, ...] = (domain.solos[int(rng.integers(len(domain.solos)))],)
        octaves = int(rng.integers(-3, 3))
    else:
        weights = [weight for weight, _ in domain.ensembles]
        instruments = domain.ensembles[int(rng.choice(len(weights), p=weights))][1]
        octaves = 0
    transposition = int(rng.integers(-5, 6)) + 12 * octaves
    seats = assign_seats((note.part for note in notes), instruments)
    placed = fit_to_range(notes, seats, transposition)
    events, style = perform(placed, 60 / tempo, rng)
    reverb, equaliser, tuning = _effects(rng)
    return Job(
        file=f"takes/{name}/{score.source.name}-{index:03d}/{name}--{font.name}.flac",
        font=font.name,
        programs={part: seat.program for part, seat in seats.items()},
        events=events,
        rms_db=float(np.round(rng.uniform(-26, -16), 1)),
        tuning_cents=tuning,
        reverb=reverb,
        equaliser=equaliser,
        recipe=_recipe(
            split="take", domain=name, played_by=name, score=score, tempo=tempo,
            transposition=transposition, first_beat=first_beat, events=events,
            seed=[seed, name, index], texture="line" if len(seats) == 1 else "full", style=style,
        ),
    )  # fmt: skip


def _flat(own: Job) -> Job:
    return replace(
        own,
        file=f"{PurePath('train', *PurePath(own.file).parts[1:-1])}.flac",
        font=TARGET_FONT,
        rms_db=FLAT_RMS_DB,
        tuning_cents=0.0,
        reverb=None,
        equaliser=None,
        recipe=own.recipe | {"split": "train"},
    )


def _other_takes(own: Job, seed: int) -> Iterator[Job]:
    domain, score, index = own.recipe["domain"], own.recipe["score"], own.recipe["seed"][2]
    key = rank(seed, "takes", f"{domain}/{score}--{own.font}-{index:03d}")
    rng = np.random.default_rng([seed, key])
    others = [name for name in DOMAINS if name != domain]
    for name in rng.permutation(others)[:OTHER_TAKES].tolist():
        weights = [weight for weight, _ in DOMAINS[name].ensembles]
        ensemble = DOMAINS[name].ensembles[int(rng.choice(len(weights), p=weights))][1]
        if len(own.programs) == 1:
            solos = DOMAINS[name].solos
            ensemble = (solos[int(rng.integers(len(solos)))],)
        seats = assign_seats(own.programs, ensemble)
        font = FONTS[int(rng.choice(len(FONTS), p=[font.weight for font in FONTS]))]
        reverb, equaliser, tuning = _effects(rng)
        yield replace(
            own,
            file=str(PurePath(own.file).with_name(f"{name}--{font.name}.flac")),
            font=font.name,
            programs={part: seat.program for part, seat in seats.items()},
            reverb=reverb,
            equaliser=equaliser,
            tuning_cents=tuning,
            recipe=own.recipe | {"played_by": name},
        )


def _effects(rng: np.random.Generator) -> tuple[Reverb | None, Equaliser | None, float]:
    """Draw a room for half of the files, an equaliser for six in ten, and a tuning for all."""
    room, level, low, high, peak = np.round(rng.uniform(size=5), 3)
    octave = rng.uniform(0, 4)
    has_room, has_equaliser = rng.uniform() < 0.5, rng.uniform() < 0.6
    tuning = float(np.round(rng.uniform(-8, 8), 1))
    reverb = Reverb(float(0.1 + 0.7 * room), float(0.2 + 0.6 * level)) if has_room else None
    low_db, high_db, peak_db = (float(np.round(8 * x - 4, 1)) for x in (low, high, peak))
    equaliser = Equaliser(low_db, high_db, peak_db, peak_hz=float(np.round(300 * 2**octave)))
    return reverb, equaliser if has_equaliser else None, tuning


def _recipe(
    *,
    split: str,
    domain: str,
    score: Score,
    tempo: float,
    transposition: int,
    first_beat: float,
    events: Sequence[Event],
    **more: object,
) -> dict[str, Any]:
    """Return what the manifest says about a file, apart from the sound itself."""
    end = max(event.start_seconds + event.length_seconds for event in events)
    return {
        "split": split,
        "domain": domain,
        "score": score.source.name,
        "kind": score.source.kind,
        "composer": score.source.composer,
        "tempo_qpm": tempo,
        "transposition_semitones": transposition,
        "first_beat": first_beat,
        "n_notes": len(events),
        "seconds": round(end + TAIL_SECONDS, 3),
        **more,
    }


def plan_paired(
    scores: Sequence[Score], n_pieces: int, seed: int, domains: Mapping[str, Domain]
) -> list[Job]:
    """Plan the held-out pieces: every one on all domains and all fonts, with the same notes."""
    jobs: list[Job] = []
    kinds = ("movement", "chorale")
    left = {"movement": min(PAIRED_MOVEMENTS, n_pieces // 4)}
    left["chorale"] = n_pieces - left["movement"]
    for score in sorted(scores, key=lambda score: kinds.index(score.source.kind)):
        kind = score.source.kind
        tempo = 76.0 + rank(seed, "tempo", score.source.name) % 17
        fitting = _fitting_excerpt(score, tempo, domains) if left[kind] else None
        if fitting is not None:
            left[kind] -= 1
            jobs += _paired_jobs(score, tempo, *fitting, domains=domains)
    if any(left.values()):
        raise ValueError(f"too few held-out scores fit all domains: {left} pieces missing")
    return jobs


def _fitting_excerpt(
    score: Score, tempo: float, domains: Mapping[str, Domain]
) -> tuple[tuple[Note, ...], int, float] | None:
    """Find the first window and transposition in which every domain can play every note."""
    shortest, longest = (seconds * tempo / 60 for seconds in PAIRED_SECONDS)
    for start in np.arange(0.0, max(1.0, score.beats - shortest), 8.0):
        notes, first_beat = cut(score.notes, float(start), longest)
        if max(note.start + note.length for note in notes) < shortest:
            continue
        seats = [
            assign_seats((note.part for note in notes), domain.ensembles[0][1])
            for domain in domains.values()
        ]
        if len(seats[0]) != 4:
            continue
        for transposition in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5):
            if all(_fits(notes, seat, transposition) for seat in seats):
                return notes, transposition, first_beat
    return None


def _fits(notes: Sequence[Note], seats: Mapping[int, Instrument], transposition: int) -> bool:
    return all(
        seats[note.part].low <= note.pitch + transposition <= seats[note.part].high
        for note in notes
    )


def _play_flat(notes: Sequence[Note], tempo: float) -> tuple[Event, ...]:
    """Play notes exactly as written, all with one velocity."""
    beat = 60 / tempo
    return untangle(
        [Event(n.start * beat, 0.95 * n.length * beat, n.pitch, 80, channel_of(n)) for n in notes]
    )


def _paired_jobs(
    score: Score,
    tempo: float,
    notes: Sequence[Note],
    transposition: int,
    first_beat: float,
    *,
    domains: Mapping[str, Domain],
) -> Iterator[Job]:
    events = _play_flat([replace(n, pitch=n.pitch + transposition) for n in notes], tempo)
    for name, domain in domains.items():
        for font in FONTS:
            seats = assign_seats((note.part for note in notes), domain.ensembles[0][1])
            yield Job(
                file=f"paired/{score.source.name}/{name}--{font.name}.flac",
                font=font.name,
                programs={part: seat.program for part, seat in seats.items()},
                events=events,
                rms_db=FLAT_RMS_DB,
                tuning_cents=0.0,
                reverb=None,
                equaliser=None,
                recipe=_recipe(
                    split="paired",
                    domain=name,
                    score=score,
                    tempo=tempo,
                    transposition=transposition,
                    first_beat=first_beat,
                    events=events,
                    held_out_font=font.weight == 0,
                ),
            )


def plan_song(scores: Sequence[Score], name: str) -> Job:
    """Plan the song of the examples: a held-out opening, for string quartet in a small room."""
    score = next(score for score in scores if score.source.name == SONG_WORK)
    notes, first_beat = cut(score.notes, 0.0, SONG_BEATS)
    seats = assign_seats((note.part for note in notes), DOMAINS["strings"].ensembles[0][1])
    events = _play_flat(notes, SONG_TEMPO)
    return Job(
        file=name,
        font="fluid",  # under the MIT licence
        programs={part: seat.program for part, seat in seats.items()},
        events=events,
        rms_db=FLAT_RMS_DB,
        tuning_cents=0.0,
        reverb=Reverb(0.4, 0.5),
        equaliser=None,
        recipe=_recipe(
            split="song",
            domain="strings",
            score=score,
            tempo=SONG_TEMPO,
            transposition=0,
            first_beat=first_beat,
            events=events,
        ),
    )
