"""Render music for a WaveNet: a few domains of one plain instrument, each with music of its own.

    python recipes/wavenet/music.py --out corpus [--minutes 24] [--jobs 2]

In: the scores, performances and synthesizers of recipes/starter, whose requirements and Debian
packages this needs. Out: `train/DOMAIN/*.flac`, which no two domains share a score of; and
`paired/PIECE/*.flac`, held-out pieces with the same notes on every domain and on instruments that
are none (`STRANGERS`), for `umt eval`. All is one General MIDI program of one font. There are no
renditions: a WaveNet learns unsupervised.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "starter"))

import numpy as np
import plan
from domains import Domain, Zone
from performing import EVEN, excerpt, fit_to_range, perform
from render import render_all
from scores import (
    Score,
    find_sources,
    is_held_out,
    load_scores,
    melody_key,
    rank,
    select_sources,
)

FONT = "fluid"
DOMAINS = {"organ": 19, "piano": 0, "strings": 48}
STRANGERS = {"accordion": 21, "clarinet": 71, "guitar": 24}  # that no domain sounds like
LOW, HIGH = 36, 96


def share_out(scores: list[Score], seed: int) -> dict[str, list[Score]]:
    """Give each score to one domain: in turn, kind by kind."""
    shares: dict[str, list[Score]] = {name: [] for name in DOMAINS}
    names = list(DOMAINS)
    for kind in ("chorale", "movement", "tune"):
        own = [score for score in scores if score.source.kind == kind]
        own.sort(key=lambda score: rank(seed, "share", score.source.name))
        for index, score in enumerate(own):
            shares[names[index % len(names)]].append(score)
    return shares


def plan_domain(name: str, scores: list[Score], seconds: float, seed: int) -> list[plan.Job]:
    """Plan the training files of a domain."""
    pools = {
        kind: [score for score in scores if score.source.kind == kind]
        for kind in ("chorale", "movement", "tune")
    }
    pools["line"] = pools["movement"][::-1]
    used = dict.fromkeys(pools, 0)
    jobs: list[plan.Job] = []
    while seconds > 0:
        texture = plan.TEXTURES[len(jobs) % len(plan.TEXTURES)]
        score = pools[texture][used[texture] % len(pools[texture])]
        used[texture] += 1
        jobs.append(_plan_file(name, len(jobs), score, seed, is_line=texture == "line"))
        seconds -= jobs[-1].recipe["seconds"]
    return jobs


def _plan_file(name: str, index: int, score: Score, seed: int, *, is_line: bool) -> plan.Job:
    rng = np.random.default_rng([seed, list(DOMAINS).index(name), index])
    tempo = float(np.round(rng.uniform(60, 140), 1))
    notes = score.notes
    if is_line:
        part = int(rng.integers(score.n_parts))
        notes = tuple(replace(note, part=0) for note in notes if note.part == part)
    notes, first_beat = excerpt(notes, plan.MAX_SECONDS * tempo / 60, rng)
    octaves = int(rng.integers(-3, 3)) if len({note.part for note in notes}) == 1 else 0
    transposition = int(rng.integers(-5, 6)) + 12 * octaves
    placed = fit_to_range(notes, LOW, HIGH, transposition)
    events, style = perform(placed, 60 / tempo, rng, EVEN)
    return plan.flat_job(
        f"train/{name}/{score.source.name}-{index:03d}.flac",
        FONT,
        dict.fromkeys({event.channel for event in events}, DOMAINS[name]),
        events,
        plan.recipe_of(
            split="train", domain=name, score=score, tempo=tempo, transposition=transposition,
            first_beat=first_beat, events=events, seed=[seed, name, index], style=style,
        ),
    )  # fmt: skip


def plan_all(
    free: list[Score], reserved: list[Score], *, minutes: float, n_pieces: int, seed: int
) -> list[plan.Job]:
    """Plan the training files of all domains, and the paired set."""
    jobs = []
    for name, scores in share_out(free, seed).items():
        jobs += plan_domain(name, scores, 60 * minutes, seed)
    players = {
        name: Domain((Zone(LOW, HIGH, "", program),), bends=False)
        for name, program in (DOMAINS | STRANGERS).items()
    }
    paired = plan.plan_paired(reserved, n_pieces, seed, players)
    return jobs + [job for job in paired if job.player == FONT]


def main() -> None:
    """Parse scores, plan every file, render."""
    parser = argparse.ArgumentParser(description="Render music for a WaveNet.")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill")
    parser.add_argument("--minutes", type=float, default=24.0, help="training minutes a domain")
    parser.add_argument("--paired-pieces", type=int, default=6, help="pieces of the paired set")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seed = options.seed
    sources = find_sources(seed)
    chosen = select_sources(sources, options.minutes)
    scores = load_scores(chosen, options.out / "midi", options.jobs)
    reserved = [score for score in scores if is_held_out(score.source, sources)]
    melodies = {melody_key(score) for score in reserved}
    names = {score.source.name for score in reserved}
    free = [s for s in scores if s.source.name not in names and melody_key(s) not in melodies]
    jobs = plan_all(
        free, reserved, minutes=options.minutes, n_pieces=options.paired_pieces, seed=seed
    )
    render_all(jobs, options.out, options.jobs, seed)


if __name__ == "__main__":
    main()
