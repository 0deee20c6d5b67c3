"""Train the classifier that the package ships, on several originals of each instrument.

    python recipes/calibration/train.py --corpus corpus --out classifier

In: the folder that `recipes/starter/render.py` has filled, for its scores and its banks of recorded
notes. Each domain plays music of the training scores on its own original, on the same instruments
of other fonts and on other recorded notes, half of the time in a room. Nothing of it is what the
benchmark holds back. Out: the renderings in `classifier/DOMAIN/`, which a second run does not make
again, and `core/pretrained/timbre.safetensors`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "starter"))

import sampler
from domains import DOMAINS, FIRST
from instruments import banks_of, open_bank, prepare_banks
from performing import excerpt, fit_to_range, perform
from scores import Score, find_sources, is_held_out, load_scores, melody_key, rank, select_sources
from sound import FONTS, SAMPLE_RATE, Room, n_samples, place, set_level, synthesize

from core.metrics.timbre.training import train_classifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampler import Bank
    from sound import Event, Waveform

RESULT = Path(__file__).resolve().parents[2] / "core" / "pretrained" / "timbre.safetensors"
SECONDS = 26.0  # of score in one file
FILES = 20  # of each domain
SCORE_MINUTES = 12.0  # that `select_sources` is asked for
LEVEL_DB = -20.0

# The General MIDI programs that a domain is, from the highest part to the lowest. The zones of the
# recipe's own table come on top.
PROGRAMS: dict[str, tuple[tuple[int, ...], ...]] = {
    "piano": ((0,), (1,)),
    "strings": ((48,), (49,), (40, 40, 41, 42)),
    "winds": ((73, 68, 71, 70),),
    "guitar": ((24,), (25,)),
}
# Banks of recorded notes, likewise.
RECORDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "piano": (("upright",),),
    "organ": (("organ",),),
    "strings": (("violin", "violin", "cello"),),
    "winds": (("flute", "clarinet", "bassoon"),),
    "guitar": (("nylon",), ("steel",)),
}


@dataclass(frozen=True)
class Player:
    """Who plays a file: a font with programs, or the sampler with banks; neither is the original.

    Attributes:
        font: Its name; "" for the sampler.
        voices: Programs or banks from the highest part to the lowest; empty for the recipe's own
            zones.
    """

    font: str
    voices: tuple[int | str, ...]

    @property
    def name(self) -> str:
        """For the name of a file."""
        return "-".join([self.font or "notes", *map(str, self.voices)])


def players_of(domain: str) -> list[Player]:
    """Return all players of a domain, its original first."""
    programs = PROGRAMS.get(domain, ((),))
    fonts = [font.name for font in FONTS if font.weight > 0]
    return [
        Player("", ()),
        *(Player("", banks) for banks in RECORDED.get(domain, ())),
        *(Player(font, own) for own in programs for font in fonts),
    ]


def main() -> None:
    """Read the command line, render what is missing, train, write."""
    parser = argparse.ArgumentParser(description="Train the shipped timbre classifier.")
    parser.add_argument("--corpus", type=Path, required=True, help="what render.py has filled")
    parser.add_argument("--out", type=Path, required=True, help="folder for the renderings")
    options = parser.parse_args()
    scores = _training_scores(options.corpus / "midi")
    recorded = {name for own in RECORDED.values() for voices in own for name in voices}
    prepare_banks(options.corpus / "notes", sorted({*banks_of(FIRST), *recorded}))
    for index in range(FILES):
        for domain in FIRST:
            _render(domain, index, scores, options.corpus / "notes", options.out)
        print(f"{index + 1} of {FILES} files of each domain", flush=True)
    tracks = {domain: _read(options.out / domain) for domain in FIRST}
    train_classifier(tracks, SAMPLE_RATE, seed=0).save(RESULT)


def _training_scores(folder: Path) -> list[Score]:
    sources = find_sources(seed=0)
    scores = load_scores(select_sources(sources, SCORE_MINUTES), folder, jobs=1)
    melodies = {melody_key(own) for own in scores if is_held_out(own.source, sources)}
    free = [own for own in scores if melody_key(own) not in melodies]
    return [own for own in free if not is_held_out(own.source, sources)]


def _render(domain: str, index: int, scores: Sequence[Score], notes: Path, out: Path) -> None:
    players = players_of(domain)
    player = players[index % len(players)]
    path = out / domain / f"{index:02d}-{player.name}.flac"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([rank("timbre", domain), index])
    score = scores[int(rng.integers(len(scores)))]
    tempo = float(rng.uniform(60, 130))
    cut, _ = excerpt(score.notes, SECONDS * tempo / 60, rng)
    own = DOMAINS[domain]
    placed = fit_to_range(cut, own.low, own.high, int(rng.integers(-5, 6)))
    events, _ = perform(placed, 60 / tempo, rng)
    waveform = _play(domain, player, events, notes)
    if index // len(players) % 2 == 1:
        room = Room(float(rng.uniform(0.3, 1.8)), float(rng.uniform(-16, -4)), index)
        waveform = place(waveform, room)
    temporary = path.with_suffix(".part")
    levelled = set_level(waveform, LEVEL_DB)
    sf.write(temporary, levelled, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
    temporary.rename(path)


def _play(domain: str, player: Player, events: Sequence[Event], notes: Path) -> Waveform:
    own = DOMAINS[domain]
    channels = sorted({event.channel for event in events})
    if player.font:
        (font,) = (font for font in FONTS if font.name == player.font)
        # A domain of several zones is what its middle zone is in a font that has no zones.
        voices = player.voices or (own.zones[len(own.zones) // 2].program,)
        return synthesize(events, {c: int(_voice(voices, channels, c)) for c in channels}, font)
    open_own = partial(_bank, notes)

    def bank_of(event: Event) -> Bank:
        if player.voices:
            return open_own(str(_voice(player.voices, channels, event.channel)))
        return open_own(own.zone(event.pitch).source)

    return sampler.play(events, bank_of, n_samples(events))


@cache
def _bank(notes: Path, name: str) -> Bank:
    return open_bank(name, notes)


def _voice(voices: tuple[int | str, ...], channels: Sequence[int], channel: int) -> int | str:
    """Return the voice of a part: the outer parts have the outer voices."""
    steps = max(1, len(channels) - 1)
    return voices[round((len(voices) - 1) * channels.index(channel) / steps)]


def _read(folder: Path) -> Iterator[np.ndarray]:
    for path in sorted(folder.glob("*.flac")):
        yield sf.read(path, dtype="float32")[0]


if __name__ == "__main__":
    main()
