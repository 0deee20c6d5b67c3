"""Measure whether a model's presences are notes: single recorded notes, and octaves.

    python recipes/benchmark/notes.py notes --model starter

In: a folder with a folder of recorded notes for each instrument (`A4.wav`, `Cs3.mp3`); those that
all training leaves alone are fetched into it. Out: for each instrument, how far the note's own key
stands above every other key, and for how many of its octaves, two notes of one instrument at equal
level, both keys do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "starter"))

from sound import SAMPLE_RATE
from sources import HELD_OUT_NOTES, fetch_notes, is_note, midi_pitch, recorded_note

from core.metrics.presences import CLEAR_DB, LOWEST_KEY, N_KEYS, presences_db, separation_db
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Collection

    from sound import Waveform

SECONDS = 1.0  # of each note
STEADY_SECONDS = (0.15, 0.6)  # after the attack
RMS = 0.1


def main() -> None:
    """Print a table, a row for each instrument and one for those never heard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notes", type=Path, help="folder of the recorded notes")
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    fetch_notes(options.notes)
    model = Translator.load(options.model)
    print(f"instrument | notes | clear by {CLEAR_DB:g} dB | median | octaves | both found")
    held_out: tuple[list[float], list[float]] = ([], [])
    for folder in sorted(path for path in options.notes.iterdir() if path.is_dir()):
        pitches = {midi_pitch(path.stem) for path in folder.iterdir() if is_note(path)}
        notes = {
            pitch: one_second(recorded_note(folder, pitch))
            for pitch in sorted(pitches)
            if LOWEST_KEY <= pitch < LOWEST_KEY + N_KEYS
        }
        singles = [separation(model, notes[pitch], {pitch}) for pitch in notes]
        octaves = [
            separation(model, notes[low] + notes[low + 12], {low, low + 12})
            for low in notes
            if low + 12 in notes
        ]
        print(f"{folder.name} | {describe(singles, octaves)}", flush=True)
        if folder.name in HELD_OUT_NOTES:
            held_out[0].extend(singles)
            held_out[1].extend(octaves)
    print(f"never heard in training | {describe(*held_out)}")


def one_second(note: Waveform) -> Waveform:
    """Return the beginning of a note at a level that all have in common."""
    length = round(SECONDS * SAMPLE_RATE)
    beginning = np.pad(note[:length], (0, max(0, length - len(note))))
    return RMS * beginning / np.sqrt(np.mean(beginning**2))


def separation(model: Translator, waveform: Waveform, keys: Collection[int]) -> float:
    """Return by how much keys stand above all others while they sound, in dB."""
    peak = np.abs(waveform).max()
    latents = model.encode((waveform / max(1.0, peak)).astype(np.float32), SAMPLE_RATE)
    first, last = (round(seconds * model.latent_rate) for seconds in STEADY_SECONDS)
    return separation_db(presences_db(latents[first:last]), keys)


def describe(singles: list[float], octaves: list[float]) -> str:
    """Return a row of the table."""
    clear = np.mean(np.array(singles) >= CLEAR_DB)
    row = f"{len(singles)} | {clear:.2f} | {np.median(singles):.1f} dB | {len(octaves)}"
    return f"{row} | {np.mean(np.array(octaves) > 0):.2f}" if octaves else f"{row} |"


if __name__ == "__main__":
    main()
