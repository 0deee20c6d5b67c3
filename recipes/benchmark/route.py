"""The MIDI route: what a user would do without umt.

    python recipes/benchmark/route.py --music benchmark

In: the sources that `music.py` made. Each is transcribed by basic-pitch with its defaults, and its
notes are played by the originals that the decoders learnt from. Out: `route--SOURCE--DOMAIN.flac`
beside them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile as sf
from basic_pitch import ICASSP_2022_MODEL_PATH
from basic_pitch.inference import Model, predict
from music import FIRST, play_original, write_audio
from sound import Event

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> None:
    """Transcribe and play what is missing."""
    parser = argparse.ArgumentParser(description="Transcribe the sources and play their notes.")
    parser.add_argument("--music", type=Path, required=True, help="what music.py has filled")
    options = parser.parse_args()
    network = Model(ICASSP_2022_MODEL_PATH)
    for path in _sources(options.music):
        source = path.stem.removeprefix("source--")
        outputs = {name: path.parent / f"route--{source}--{name}.flac" for name in FIRST}
        missing = {name: output for name, output in outputs.items() if not output.exists()}
        if not missing:
            continue
        events = _transcribe(path, network)
        n_samples = sf.info(path).frames
        for name, output in missing.items():
            played = play_original(name, events, options.music)
            write_audio(output, played, n_samples)
        print(f"{path.parent.name}: {source}, {len(events)} notes", flush=True)


def _sources(music: Path) -> list[Path]:
    """Return the sources in the order of their pieces, those of the quick size first."""
    found = []
    for path in music.glob("*/piece.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for name, facts in content["sources"].items():
            file = path.parent / f"source--{name}.flac"
            found.append((not facts["is_quick"], content["order"], file))
    return [file for _, _, file in sorted(found)]


def _transcribe(path: Path, network: Model) -> Sequence[Event]:
    _, _, notes = predict(path, network)
    return [
        Event(float(start), float(end - start), int(pitch), max(1, round(127 * loudness)), 0)
        for start, end, pitch, loudness, *_ in sorted(notes)
    ]


if __name__ == "__main__":
    main()
