"""Render the starter corpus: training audio for six domains and a paired benchmark.

    python recipes/starter/render.py --out corpus [--minutes 60] [--jobs 2]

What a file holds follows from the arguments alone, so the order in which the workers finish
changes nothing, and a second run renders only what is missing or different. The manifest
is written now and then on the way, so that an interrupted run can go on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soundfile as sf
from plan import DOMAINS, Job, plan_newcomer, plan_paired, plan_song, plan_training
from scores import find_sources, is_held_out, load_scores, melody_key, select_sources
from sound import FONTS, SAMPLE_RATE, Font, equalise, font_sha256, level_db, set_level, synthesize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MANIFEST_EVERY = 25  # files


def render(job: Job, out: Path) -> dict[str, Any]:
    """Render one file and return its line of the manifest."""
    font = next(font for font in FONTS if font.name == job.font)
    waveform = synthesize(
        job.events, job.programs, font, tuning_cents=job.tuning_cents, reverb=job.reverb
    )
    if job.equaliser is not None:
        waveform = equalise(waveform, job.equaliser)
    waveform = set_level(waveform, job.rms_db)
    path = out / job.file
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    sf.write(temporary, waveform, SAMPLE_RATE, subtype="PCM_16", format=path.suffix[1:])
    temporary.rename(path)
    rms_db, peak_db = level_db(waveform)
    return {
        "file": job.file,
        **job.recipe,
        "font": font.name,
        "programs": [font.substitutes.get(p, p) for p in job.programs.values()],
        "effects": {
            "tuning_cents": job.tuning_cents,
            "reverb": asdict(job.reverb) if job.reverb else None,
            "equaliser": asdict(job.equaliser) if job.equaliser else None,
        },
        "rms_dbfs": round(rms_db, 2),
        "peak_dbfs": round(peak_db, 2),
        "job": job.key,
        "sha256": _sha256(path),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def render_all(jobs: Sequence[Job], out: Path, n_processes: int, seed: int) -> None:
    """Render what the manifest does not already vouch for, in order, and keep the manifest."""
    path = out / "manifest.json"
    old = json.loads(path.read_text())["files"] if path.exists() else []
    known = {line["job"]: line for line in old if _is_intact(line, out)}
    lines = {job.file: known[job.key] for job in jobs if job.key in known}
    todo = [job for job in jobs if job.file not in lines]
    print(f"{len(jobs)} files planned, {len(lines)} there already", flush=True)
    began = time.monotonic()
    head = _manifest_head(seed)
    with ProcessPoolExecutor(n_processes, initializer=os.nice, initargs=(5,)) as pool:
        for count, line in enumerate(pool.map(render, todo, [out] * len(todo)), start=1):
            lines[line["file"]] = line
            if count % MANIFEST_EVERY == 0:
                _write_manifest(path, head, [lines[j.file] for j in jobs if j.file in lines])
                print(f"{count}/{len(todo)} in {time.monotonic() - began:.0f} s", flush=True)
    _write_manifest(path, head, [lines[job.file] for job in jobs])
    print(f"done in {time.monotonic() - began:.0f} s", flush=True)


def _is_intact(line: Mapping[str, Any], out: Path) -> bool:
    path = out / line["file"]
    return path.exists() and _sha256(path) == str(line["sha256"])


def _manifest_head(seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "sample_rate": SAMPLE_RATE,
        "versions": {
            "fluidsynth": _first_line(["fluidsynth", "--version"]),
            "timidity": _first_line(["timidity", "--version"]),
            "libsndfile": sf.__libsndfile_version__,
            **{name: version(name) for name in ("music21", "mido", "numpy", "scipy", "soundfile")},
        },
        "fonts": [_font_line(font) for font in FONTS],
    }


def _font_line(font: Font) -> dict[str, Any]:
    return {
        "name": font.name,
        "path": str(font.path),
        "debian_package": font.package,
        "licence": font.licence,
        "held_out": font.weight == 0,
        "related": dict(font.related),
        "sha256": font_sha256(font.path),
    }


def _first_line(command: Sequence[str]) -> str:
    shown = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return shown.stdout.split("\n")[0]


def _write_manifest(path: Path, head: Mapping[str, Any], lines: Sequence[Any]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps({**head, "files": lines}, indent=1) + "\n")
    temporary.rename(path)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Render the starter corpus.")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill")
    parser.add_argument("--minutes", type=float, default=60.0, help="training minutes a domain")
    parser.add_argument("--paired-pieces", type=int, default=12, help="pieces of the paired set")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--newcomer",
        action="store_true",
        help="render an instrument to add to the starter, and the paired set with it, in one font",
    )
    parser.add_argument("--song", type=Path, help="render only the examples' song, to this file")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Parse scores, plan every file, render."""
    options = parse_arguments()
    sources = find_sources(options.seed)
    chosen = select_sources(sources, options.minutes)
    scores = load_scores(chosen, options.out / "midi", options.jobs)
    reserved = [score for score in scores if is_held_out(score.source, sources)]
    if options.song:
        render(plan_song(reserved, options.song.name), options.song.parent)
        return
    melodies = {melody_key(score) for score in reserved}
    names = {score.source.name for score in reserved}
    free = [s for s in scores if s.source.name not in names and melody_key(s) not in melodies]
    print(f"{len(free)} scores for training, {len(reserved)} held out", flush=True)
    minutes, n_pieces, seed = options.minutes, options.paired_pieces, options.seed
    if options.newcomer:
        jobs = plan_newcomer(free, reserved, minutes=minutes, n_pieces=n_pieces, seed=seed)
    else:
        jobs = plan_training(free, minutes, seed)
        jobs += plan_paired(reserved, n_pieces, seed, DOMAINS)
    render_all(jobs, options.out, options.jobs, seed)


if __name__ == "__main__":
    main()
