"""A paired set of additive music: two instruments, two makes of each, three pieces.

It stands for `recipes/starter` where there are no SoundFonts: the same notes exist on every
instrument, aligned by construction, in seconds and the same every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import soundfile

from tests.sounds import RATE, melody, organ, piano

if TYPE_CHECKING:
    from pathlib import Path

DOMAINS = {"organ": organ, "piano": piano}
MAKES = {"bright": 0.9, "mellow": 1.5}  # slope of the partials
SECONDS = 12


def write_paired_music(directory: Path, n_pieces: int = 3) -> Path:
    """Write `PIECE/DOMAIN--MAKE.wav`."""
    for number in range(n_pieces):
        notes = melody(number, SECONDS)
        for domain, play in DOMAINS.items():
            for make, brightness in MAKES.items():
                path = directory / f"piece{number}" / f"{domain}--{make}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, play(notes, RATE, brightness), RATE)
    return directory
