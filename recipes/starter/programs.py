"""Which keys the melodic programs of a font really play, found by playing them.

Fonts stretch some programs over keys at which they are silent or sound another note; a rendition
by those would teach the encoder wrong notes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from performing import LANES
from sound import SAMPLE_RATE, Event, Font, Waveform, programs_of, synthesize

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Reach = tuple[int, int]  # the lowest and the highest key

LAST_MELODIC = 111  # beyond are percussion and effects
EFFECTS = frozenset({47, 55, *range(96, 104)})  # timpani, orchestra hit, pads of many sounds
KEYS = range(24, 109, 6)
SECONDS, EVERY_SECONDS = 0.8, 1.2
MARGIN = 3  # keys beyond the outermost that was played


def find_reaches(fonts: Iterable[Font], cache: Path) -> dict[tuple[str, int], Reach]:
    """Return the keys of each font's programs; what was found is kept in a file."""
    found: dict[str, dict[str, Reach]] = json.loads(cache.read_text()) if cache.exists() else {}
    for font in fonts:
        if font.name not in found:
            print(f"playing the programs of {font.name}", flush=True)
            reaches = _reaches_of(font)
            found[font.name] = {str(program): reach for program, reach in reaches.items()}
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.write_text(json.dumps(found, indent=1) + "\n")
    return {
        (font, int(program)): (reach[0], reach[1])
        for font, own in found.items()
        for program, reach in own.items()
    }


def _reaches_of(font: Font) -> dict[int, Reach]:
    programs = sorted(p for p in programs_of(font.path) if p <= LAST_MELODIC and p not in EFFECTS)
    reaches = {}
    for first in range(0, len(programs), len(LANES)):
        own = dict(zip(LANES, programs[first:], strict=False))
        places = [(channel, key) for channel in own for key in KEYS]
        events = [
            Event(EVERY_SECONDS * index, SECONDS, key, 90, channel)
            for index, (channel, key) in enumerate(places)
        ]
        played = synthesize(events, own, font)
        for channel, program in own.items():
            sounding = []
            for index, (other, key) in enumerate(places):
                begin = round(EVERY_SECONDS * index * SAMPLE_RATE)
                note = played[begin : begin + round(SECONDS * SAMPLE_RATE)]
                if other == channel and is_note(note, key):
                    sounding.append(key)
            reach = _longest_run(sounding)
            if reach is not None:
                reaches[program] = reach
    return reaches


def _longest_run(keys: list[int]) -> Reach | None:
    runs: list[list[int]] = []
    for key in keys:
        if runs and key - runs[-1][-1] == KEYS.step:
            runs[-1].append(key)
        else:
            runs.append([key])
    longest = max(runs, key=len, default=[])
    return (longest[0] - MARGIN, longest[-1] + MARGIN) if len(longest) >= 3 else None


def is_note(waveform: Waveform, key: int) -> bool:
    """Tell whether a sound is the note of a key: most of it partials, the odd ones among them."""
    if np.sqrt(np.mean(waveform**2)) < 1e-3:
        return False
    size = 1 << 17
    power = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), size)) ** 2
    fundamental = 440 * 2 ** ((key - 69) / 12)
    shares = []
    for partial in range(1, 13):
        centre = partial * fundamental * size / SAMPLE_RATE
        around = max(centre * 0.02, 2 * size / len(waveform))
        if centre + around < len(power):
            shares.append(power[round(centre - around) : round(centre + around) + 1].sum())
    odd, even = sum(shares[::2]), sum(shares[1::2])
    return bool(odd + even > 0.5 * power.sum() and odd > 0.01 * even)
