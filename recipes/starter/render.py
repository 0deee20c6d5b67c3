"""Render the starter corpus: originals and renditions of many domains, and a paired set.

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

import sampler
import soundfile as sf
from beside import make
from domains import DOMAINS, FIRST, NEWCOMER
from instruments import (
    RECORDED,
    SOURCES,
    banks_of,
    open_bank,
    play_original,
    prepare_banks,
)
from plan import ORIGINAL, RECORDED_NOTES, Job, plan_paired, plan_song, plan_training
from programs import find_reaches
from scores import find_sources, is_held_out, load_scores, melody_key, select_sources
from sound import (
    FONTS,
    SAMPLE_RATE,
    Font,
    Waveform,
    equalise,
    font_sha256,
    level_db,
    midi_file,
    mix,
    n_samples,
    place,
    set_level,
    synthesize,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MANIFEST_EVERY = 25  # files


def _play(job: Job, notes: Path) -> Waveform:
    """Play a job's events, dry and alone."""
    if job.player == ORIGINAL:
        return play_original(job.recipe["domain"], job.events, notes)
    if job.player == RECORDED_NOTES:
        return sampler.play(
            job.events,
            lambda event: open_bank(str(job.voices[event.channel]), notes),
            n_samples(job.events),
            tuning_cents=job.tuning_cents,
        )
    programs = {channel: int(program) for channel, program in job.voices.items()}
    (font,) = [font for font in FONTS if font.name == job.player]
    return synthesize(job.events, programs, font, tuning_cents=job.tuning_cents)


def render(job: Job, out: Path) -> dict[str, Any]:
    """Render one file and return its line of the manifest."""
    waveform = _play(job, out / "notes")
    if job.room is not None:
        waveform = place(waveform, job.room)
    if job.equaliser is not None:
        waveform = equalise(waveform, job.equaliser)
    if job.beside is not None:
        fonts = {font.name: font for font in FONTS}
        other = make(job.beside, len(waveform), job.recipe["tempo_qpm"], fonts)
        waveform = mix(waveform, other, job.beside.level_db)
    waveform = set_level(waveform, job.rms_db)
    path = out / job.file
    path.parent.mkdir(parents=True, exist_ok=True)
    if job.recipe["split"] == "train":
        programs = {channel: int(program) for channel, program in job.voices.items()}
        midi_file(job.events, programs).save(path.with_suffix(".mid"))
    temporary = path.with_suffix(".part")
    sf.write(temporary, waveform, SAMPLE_RATE, subtype="PCM_16", format=path.suffix[1:])
    temporary.rename(path)
    rms_db, peak_db = level_db(waveform)
    return {
        "file": job.file,
        **job.recipe,
        "player": job.player,
        "voices": list(dict.fromkeys(job.voices.values())),
        "effects": {
            "tuning_cents": job.tuning_cents,
            "room": asdict(job.room) if job.room else None,
            "equaliser": asdict(job.equaliser) if job.equaliser else None,
            "beside": asdict(job.beside) if job.beside else None,
        },
        "rms_dbfs": round(rms_db, 2),
        "peak_dbfs": round(peak_db, 2),
        "job": job.key,
        "sha256": _sha256(path),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def render_all(jobs: Sequence[Job], out: Path, n_processes: int, seed: int) -> None:
    """Render what the manifest does not already vouch for, in order, and keep the manifest.

    Files of other domains and of more minutes that are there already stay in it.
    """
    path = out / "manifest.json"
    old = json.loads(path.read_text())["files"] if path.exists() else []
    known = {line["job"]: line for line in old if _is_intact(line, out)}
    lines = {job.file: known[job.key] for job in jobs if job.key in known}
    planned = {job.file for job in jobs}
    others = [line for line in known.values() if line["file"] not in planned]
    todo = [job for job in jobs if job.file not in lines]
    print(f"{len(jobs)} files planned, {len(lines)} there already", flush=True)
    began = time.monotonic()
    head = _manifest_head(seed)
    with ProcessPoolExecutor(n_processes, initializer=os.nice, initargs=(5,)) as pool:
        for count, line in enumerate(pool.map(render, todo, [out] * len(todo)), start=1):
            lines[line["file"]] = line
            if count % MANIFEST_EVERY == 0:
                made = [lines[job.file] for job in jobs if job.file in lines]
                _write_manifest(path, head, [*made, *others])
                print(f"{count}/{len(todo)} in {time.monotonic() - began:.0f} s", flush=True)
    _write_manifest(path, head, [*(lines[job.file] for job in jobs), *others])
    print(f"done in {time.monotonic() - began:.0f} s", flush=True)


def _is_intact(line: Mapping[str, Any], out: Path) -> bool:
    path = out / line["file"]
    return path.exists() and _sha256(path) == str(line["sha256"])


def _manifest_head(seed: int) -> dict[str, Any]:
    names = ("music21", "mido", "numpy", "scipy", "soundfile", "soxr")
    return {
        "seed": seed,
        "sample_rate": SAMPLE_RATE,
        "versions": {
            "fluidsynth": _first_line(["fluidsynth", "--version"]),
            "timidity": _first_line(["timidity", "--version"]),
            "libsndfile": sf.__libsndfile_version__,
            **{name: version(name) for name in names},
        },
        "domains": {
            name: {
                "keys": [domain.low, domain.high],
                "glides": domain.bends,
                "instruments": [asdict(zone) for zone in domain.zones],
                "licences": sorted({SOURCES[zone.source].licence for zone in domain.zones}),
            }
            for name, domain in DOMAINS.items()
        },
        "recorded_notes": [
            {
                "name": name,
                "licence": source.licence,
                "packages": [f"{one}@{source.version}" for one in source.packages.values()],
            }
            for name, source in SOURCES.items()
            if source.packages is not None
        ],
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
    parser.add_argument("--domains", default=",".join(FIRST), help="names, or all")
    parser.add_argument("--minutes", type=float, default=60.0, help="training minutes a domain")
    parser.add_argument("--renditions", type=int, default=3, help="of each training file")
    parser.add_argument("--paired-pieces", type=int, default=0, help="pieces of the paired set")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--song", type=Path, help="render only the examples' song, to this file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    every = [name for name in DOMAINS if name != NEWCOMER]
    options.domains = every if options.domains == "all" else options.domains.split(",")
    if unknown := set(options.domains) - set(DOMAINS):
        parser.error(f"--domains: {', '.join(sorted(unknown))}; there are {', '.join(DOMAINS)}")
    return options


def main() -> None:
    """Parse scores, plan every file, render."""
    options = parse_arguments()
    sources = find_sources(options.seed)
    chosen = select_sources(sources, options.minutes)
    scores = load_scores(chosen, options.out / "midi", options.jobs)
    reserved = [score for score in scores if is_held_out(score.source, sources)]
    notes = options.out / "notes"
    if options.song:
        prepare_banks(notes, banks_of(["strings"]))
        render(plan_song(reserved, str(options.song.resolve())), options.out)
        return
    paired = sorted({*FIRST, *options.domains})
    prepare_banks(notes, banks_of(paired if options.paired_pieces else options.domains))
    melodies = {melody_key(score) for score in reserved}
    names = {score.source.name for score in reserved}
    free = [s for s in scores if s.source.name not in names and melody_key(s) not in melodies]
    print(f"{len(free)} scores for training, {len(reserved)} held out", flush=True)
    jobs: list[Job] = []
    if options.minutes:
        reaches = {}
        if options.renditions:
            prepare_banks(notes, RECORDED)
            fonts = [font for font in FONTS if font.weight]
            reaches = find_reaches(fonts, notes / "programs.json")
        jobs = plan_training(
            free,
            options.domains,
            options.minutes,
            n_renditions=options.renditions,
            reaches=reaches,
            seed=options.seed,
        )
    if options.paired_pieces:
        jobs += plan_paired(
            reserved, options.paired_pieces, options.seed, {name: DOMAINS[name] for name in paired}
        )
    render_all(jobs, options.out, options.jobs, options.seed)


if __name__ == "__main__":
    main()
