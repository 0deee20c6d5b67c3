"""Which files there are, and everything that decides what each of them holds.

A training file and its renditions follow from (seed, domain, index), never from the order of the
workers nor from how many minutes are asked for, so a corpus can grow. A paired piece is played by
all domains with all fonts from one list of events, so that its versions are aligned by
construction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from beside import KITS, Beside
from domains import DOMAINS, Domain
from instruments import RECORDED
from performing import (
    LANES,
    channel_of,
    cut,
    excerpt,
    fit_to_range,
    glide,
    part_of,
    perform,
    untangle,
)
from scores import Note, Score, rank
from sound import FONTS, TAIL_SECONDS, Equaliser, Event, Room, end_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from programs import Reach

MAX_SECONDS = 88.0  # of score in one training file; the tail comes on top
ORIGINAL, RECORDED_NOTES = "original", "recorded"  # players that are no font
RECORDED_SHARE = 0.25  # of the renditions: by recorded notes
OWN_SHARE = 0.1  # of the others: by the domain's own program
ONE_PROGRAM_SHARE = 0.5  # of renditions: all parts alike
BESIDE_SHARE = 1 / 3  # of renditions: with drums, noise or speech-like sound beside the music
PAIRED_SECONDS = (20.0, 36.0)  # shortest and longest, of score
PAIRED_MOVEMENTS = 2  # pieces of the paired set that are not chorales
FLAT_RMS_DB = -20.0
SONG_WORK, SONG_BEATS, SONG_TEMPO = "mozart-k155-movement1", 47.0, 126.0  # up to its first cadence

# What the k-th file of a domain holds, over and over: by time, single lines are about 3 in 10.
TEXTURES = (
    "chorale", "movement", "tune", "chorale", "line", "movement", "tune",
    "chorale", "movement", "tune", "chorale",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """Everything that decides the content of one file. `recipe` is what the manifest keeps.

    `player` is a font, `RECORDED_NOTES` or `ORIGINAL`. `voices` are the General MIDI programs of
    the channels; with recorded notes the names of their banks; of an original the programs that
    stand for it in its score, while its domain's own instruments play it.
    """

    file: str
    player: str
    voices: dict[int, int | str]
    events: tuple[Event, ...]
    rms_db: float
    tuning_cents: float
    room: Room | None
    equaliser: Equaliser | None
    beside: Beside | None
    recipe: dict[str, Any]

    @property
    def key(self) -> str:
        """Hash of all the above: a file made from an equal job need not be made again."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def flat_job(
    file: str,
    player: str,
    voices: dict[int, int | str],
    events: tuple[Event, ...],
    recipe: dict[str, Any],
) -> Job:
    """Return the job of a file that is dry, in tune, and at the common level."""
    return Job(file, player, voices, events, FLAT_RMS_DB, 0.0, None, None, None, recipe)


def plan_training(
    scores: Sequence[Score],
    names: Iterable[str],
    minutes: float,
    *,
    n_renditions: int,
    reaches: Mapping[tuple[str, int], Reach],
    seed: int,
) -> list[Job]:
    """Plan `minutes` of training files for each domain, each followed by its renditions.

    A training file is flat: its domain's own instruments, dry and in tune. Its renditions are the
    same performance by any instruments, in any room. All domains grow together.

    Args:
        scores: what may be played.
        names: the domains.
        minutes: of each of them.
        n_renditions: of each file.
        reaches: the keys that each font's programs play.
        seed: other numbers give other music.
    """
    placed = []
    for name in names:
        originals = _plan_domain(name, scores, 60 * minutes, seed)
        placed += [(index / len(originals), name, job) for index, job in enumerate(originals)]
    jobs: list[Job] = []
    for _, _, original in sorted(placed, key=lambda item: item[:2]):
        jobs.append(original)
        jobs += (_rendition(original, k, reaches, seed) for k in range(n_renditions))
    return jobs


def _plan_domain(name: str, scores: Sequence[Score], seconds: float, seed: int) -> list[Job]:
    pools: dict[str, list[Score]] = {"chorale": [], "movement": [], "tune": []}
    for score in scores:
        # The few movements serve all domains, each time with another excerpt; half the others do.
        is_movement = score.source.kind == "movement"
        if is_movement or rank(seed, name, score.source.name) % 2:
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
        jobs.append(_original(name, len(jobs), score, seed, is_line=texture == "line"))
        seconds -= jobs[-1].recipe["seconds"]
    return jobs


def _original(name: str, index: int, score: Score, seed: int, *, is_line: bool) -> Job:
    domain = DOMAINS[name]
    rng = np.random.default_rng([seed, rank(name), index])
    tempo = float(np.round(rng.uniform(60, 140), 1))
    notes = score.notes
    if is_line:
        part = int(rng.integers(score.n_parts))
        notes = tuple(replace(note, part=0) for note in notes if note.part == part)
    notes, first_beat = excerpt(notes, MAX_SECONDS * tempo / 60, rng)
    if len({note.part for note in notes}) == 1:
        octaves = int(rng.integers(-3, 3))
    else:
        octaves = int(rng.choice([-1, 0, 0, 0, 1]))
    transposition = int(rng.integers(-5, 6)) + 12 * octaves
    placed = fit_to_range(notes, domain.low, domain.high, transposition)
    events, style = perform(placed, 60 / tempo, rng)
    if domain.bends:
        events, bends = glide(events, rng)
        style |= bends
    force = float(np.mean([event.velocity for event in events]))
    dry = flat_job(
        f"train/{name}/{score.source.name}-{index:03d}.flac",
        ORIGINAL,
        _own_voices(domain, events),
        events,
        recipe_of(
            split="train", domain=name, score=score, tempo=tempo, transposition=transposition,
            first_beat=first_beat, events=events, seed=[seed, name, index], style=style,
            texture="line" if len({part_of(event.channel) for event in events}) == 1 else "full",
        ),
    )  # fmt: skip
    return replace(dry, rms_db=float(np.round(FLAT_RMS_DB + 0.12 * (force - 80), 1)))


def _own_voices(domain: Domain, events: Sequence[Event]) -> dict[int, int | str]:
    """Return the program that stands for each part: that of the middle one of its keys."""
    return {
        channel: domain.zone(int(np.median(pitches))).program
        for channel, pitches in _pitches(events).items()
    }


def _pitches(events: Sequence[Event]) -> dict[int, list[int]]:
    """Return for each channel the keys of its part, those of its other channel among them."""
    by_part: dict[int, list[int]] = {}
    for event in events:
        by_part.setdefault(part_of(event.channel), []).append(event.pitch)
    channels = sorted({event.channel for event in events})
    return {channel: by_part[part_of(channel)] for channel in channels}


def _rendition(
    original: Job, index: int, reaches: Mapping[tuple[str, int], Reach], seed: int
) -> Job:
    rng = np.random.default_rng([seed, rank("rendition", original.file), index])
    domain, pitches = original.recipe["domain"], _pitches(original.events)
    voices: dict[int, int | str]
    if rng.uniform() < RECORDED_SHARE:
        player, name = RECORDED_NOTES, "recorded"
        voices = _draw_voices(pitches, dict(RECORDED), "salamander", rng)
    else:
        player = str(rng.choice([f.name for f in FONTS], p=[f.weight for f in FONTS]))
        name = "any"
        own = {program: reach for (font, program), reach in reaches.items() if font == player}
        if rng.uniform() < OWN_SHARE:
            name, voices = domain, original.voices
        else:
            voices = _draw_voices(pitches, own, 0, rng)
    room, equaliser, tuning = _effects(rng)
    file = original.file.replace("train/", "takes/", 1).removesuffix(".flac")
    return replace(
        original,
        file=f"{file}/{name}--{player}-{index}.flac",
        player=player,
        voices=voices,
        rms_db=float(np.round(rng.uniform(-26, -16), 1)),
        tuning_cents=tuning,
        room=room,
        equaliser=equaliser,
        beside=_beside(rng),
        recipe=original.recipe | {"split": "rendition", "played_by": name},
    )


def _draw_voices(
    pitches: Mapping[int, Sequence[int]],
    reaches: Mapping[Any, Reach],
    otherwise: int | str,
    rng: np.random.Generator,
) -> dict[int, int | str]:
    """Draw instruments that reach all keys: one for all parts, or one for each."""

    def draw(keys: Iterable[int]) -> int | str:
        own = list(keys)
        able = [
            name for name, (low, high) in reaches.items() if low <= min(own) and max(own) <= high
        ]
        return able[int(rng.integers(len(able)))] if able else otherwise

    if rng.uniform() < ONE_PROGRAM_SHARE:
        one = draw(pitch for own in pitches.values() for pitch in own)
        return dict.fromkeys(pitches, one)
    parts = {part_of(channel): own for channel, own in pitches.items()}
    drawn = {part: draw(own) for part, own in parts.items()}
    return {channel: drawn[part_of(channel)] for channel in pitches}


def _beside(rng: np.random.Generator) -> Beside | None:
    """Draw what sounds beside a rendition; half of what does is drums."""
    wanted, kind = rng.uniform(), str(rng.choice(["drums", "drums", "noise", "speech"]))
    level, seed, kit = rng.uniform(-20, -3), int(rng.integers(1 << 31)), int(rng.choice(KITS))
    font = str(rng.choice(["fluid", "musescore", "timgm"]))
    if wanted >= BESIDE_SHARE:
        return None
    return Beside(kind, float(np.round(level, 1)), seed, kit, font)


def _effects(rng: np.random.Generator) -> tuple[Room | None, Equaliser | None, float]:
    """Draw a room for half of the files, an equaliser for six in ten, and a tuning for all."""
    low, high, peak = np.round(rng.uniform(size=3), 3)
    octave = rng.uniform(0, 4)
    has_room, has_equaliser = rng.uniform() < 0.5, rng.uniform() < 0.6
    tuning = float(np.round(rng.uniform(-8, 8), 1))
    decay = float(np.round(0.2 * 12 ** rng.uniform(), 2))
    wet, seed = float(np.round(rng.uniform(-16, -1), 1)), int(rng.integers(1 << 31))
    low_db, high_db, peak_db = (float(np.round(8 * x - 4, 1)) for x in (low, high, peak))
    equaliser = Equaliser(low_db, high_db, peak_db, peak_hz=float(np.round(300 * 2**octave)))
    return (
        Room(decay, wet, seed) if has_room else None,
        equaliser if has_equaliser else None,
        tuning,
    )


def recipe_of(
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
        "seconds": round(end_seconds(events) + TAIL_SECONDS, 3),
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
        if len({note.part for note in notes}) != 4:
            continue
        for transposition in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5):
            if all(_fits(notes, domain, transposition) for domain in domains.values()):
                return notes, transposition, first_beat
    return None


def _fits(notes: Sequence[Note], domain: Domain, transposition: int) -> bool:
    return all(domain.low <= note.pitch + transposition <= domain.high for note in notes)


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
        by_zone, programs = _spread(events, domain)
        held_out = {font.name: font.weight == 0 for font in FONTS}
        for player in (ORIGINAL, *held_out):
            yield flat_job(
                f"paired/{score.source.name}/{name}--{player}.flac",
                player,
                programs,
                by_zone,
                recipe_of(
                    split="paired",
                    domain=name,
                    score=score,
                    tempo=tempo,
                    transposition=transposition,
                    first_beat=first_beat,
                    events=events,
                    held_out_font=held_out.get(player, False),
                ),
            )


def _spread(
    events: Sequence[Event], domain: Domain
) -> tuple[tuple[Event, ...], dict[int, int | str]]:
    """Give each zone of each part a channel, so that any font can play a domain of several."""
    n_zones = len(domain.zones)
    spread: list[Event] = []
    programs: dict[int, int | str] = {}
    for event in events:
        zone = domain.zone(event.pitch)
        lane = LANES[part_of(event.channel) * n_zones + domain.zones.index(zone)]
        programs[lane] = zone.program
        spread.append(replace(event, channel=lane))
    return tuple(spread), programs


def plan_song(scores: Sequence[Score], name: str) -> Job:
    """Plan the song of the examples: a held-out opening, by strings in a small room."""
    score = next(score for score in scores if score.source.name == SONG_WORK)
    notes, first_beat = cut(score.notes, 0.0, SONG_BEATS)
    events = _play_flat(notes, SONG_TEMPO)
    dry = flat_job(
        name,
        ORIGINAL,
        _own_voices(DOMAINS["strings"], events),
        events,
        recipe_of(
            split="song",
            domain="strings",
            score=score,
            tempo=SONG_TEMPO,
            transposition=0,
            first_beat=first_beat,
            events=events,
        ),
    )
    return replace(dry, room=Room(0.8, -8.0, 0))
