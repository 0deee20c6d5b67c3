"""Render the sources of `examples/` that the starter's own instruments do not play.

    python recipes/benchmark/examples.py --out examples

In: held-out scores, as `music.py` has them. Out: `whistle.flac`, a line by the synthesized whistle,
and `band.flac`, brass with a drum kit by FluidR3.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "starter"))

from music import EXCERPTS, held_out_scores, performance, write_audio
from sound import DRUMS, FONTS, SAMPLE_RATE, synthesize
from sources import BRASS, beat_of, whistle

SECONDS = 12.0
FONT = "fluid"
LINE, FULL = EXCERPTS[1], EXCERPTS[0]


def main() -> None:
    """Read the command line and render."""
    parser = argparse.ArgumentParser(description="Render two sources of the examples.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--midi", type=Path, default=Path("corpus/midi"), help="parsed scores")
    options = parser.parse_args()
    scores = held_out_scores(options.midi)
    length = round(SECONDS * SAMPLE_RATE)
    line = whistle(performance(LINE, scores[LINE.score]), options.midi)
    write_audio(options.out / "whistle.flac", line, length)
    events = list(performance(FULL, scores[FULL.score]))
    seconds_per_beat = 60 / FULL.tempo_qpm
    last = max(event.start_seconds for event in events)
    events += beat_of(seconds_per_beat, last / seconds_per_beat)
    (font,) = (font for font in FONTS if font.name == FONT)
    channels = {event.channel for event in events if event.channel != DRUMS}
    programs = {channel: BRASS[min(channel, len(BRASS) - 1)] for channel in channels}
    write_audio(options.out / "band.flac", synthesize(events, programs, font), length)


if __name__ == "__main__":
    main()
