"""Render music for a WaveNet: a few domains of one plain instrument, each with music of its own.

    python recipes/wavenet/music.py --out corpus [--minutes 24] [--jobs 2]

In: the scores, performances and synthesizers of recipes/starter, whose requirements and Debian
packages this needs. Out: `train/DOMAIN/*.flac`, which no two domains share a score of; and
`paired/PIECE/*.flac`, held-out pieces with the same notes on every domain and on instruments that
are none (`STRANGERS`), for `umt eval`. There are no takes: a WaveNet learns unsupervised.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "starter"))

import plan
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

DOMAINS = {
    "organ": plan._keyboard(36, 96, {19: 1.0}),
    "piano": plan._keyboard(36, 96, {0: 1.0}),
    "strings": plan._keyboard(36, 96, {48: 1.0}),
}
STRANGERS = {  # sources that no domain sounds like
    "accordion": plan._keyboard(36, 96, {21: 1.0}),
    "clarinet": plan._keyboard(36, 96, {71: 1.0}),
    "guitar": plan._keyboard(36, 96, {24: 1.0}),
}


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


def plan_all(
    free: list[Score], reserved: list[Score], *, minutes: float, n_pieces: int, seed: int
) -> list[plan.Job]:
    """Plan the training files of all domains, and the paired set."""
    jobs = []
    for name, scores in share_out(free, seed).items():
        # A domain alone: then every score of its share is its to play.
        own = {name: DOMAINS[name]}
        jobs += map(plan._flat, plan._plan_domain(name, scores, 60 * minutes, seed, own))
    paired = plan.plan_paired(reserved, n_pieces, seed, DOMAINS | STRANGERS)
    return jobs + [job for job in paired if job.font == plan.TARGET_FONT]


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
    print(f"{len(free)} scores for training, {len(reserved)} held out", flush=True)
    jobs = plan_all(
        free, reserved, minutes=options.minutes, n_pieces=options.paired_pieces, seed=seed
    )
    render_all(jobs, options.out, options.jobs, seed)


if __name__ == "__main__":
    main()
