"""How well a WaveNet translates held-out music, at a temperature, from domains and from strangers.

    python recipes/wavenet/measure.py MODEL corpus/paired [--temperature 0.7]

`umt eval --paired` measures more, at temperature 1 and from the model's own domains alone. Here
an excerpt of each piece is translated from every instrument that it was rendered on, and from a
whistle with glides, into every domain. All that goes into one domain shares batches, so a minute
of music is enough for a core to work with. Prints a line a source and target and their means:

chroma      cosine of the translation's pitch classes with the source's; beside it other music
            of the target, and the target's own rendering
of the way  from other music to the true rendering
heard       probability of the target to the shipped timbre classifier; chance is 1/6
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

import numpy as np
import soundfile as sf

from core.audio.reader import read_audio
from core.evaluation.analysis import Analysis
from core.evaluation.classifier_cache import shipped_classifier
from core.metrics import content
from core.translator import Translator

WHISTLE_NOTES = (69, 71, 73, 76, 74, 73, 71, 69, 66, 69, 71, 73)  # MIDI, half a second each
GLIDE_SECONDS = 0.08


def whistle(sample_rate: int, seconds: float) -> np.ndarray:
    """Return a sine that plays notes with glides between them and some vibrato, float32 [T]."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    place = time / 0.5
    number = place.astype(int) % len(WHISTLE_NOTES)
    notes = np.array(WHISTLE_NOTES, float)
    glide = np.clip((place % 1) * 0.5 / GLIDE_SECONDS, 0, 1)
    pitch = notes[number - 1] + glide * (notes[number] - notes[number - 1])
    pitch = pitch + 0.15 * np.sin(2 * np.pi * 5.5 * time)
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((pitch - 69) / 12)) / sample_rate
    return (0.14 * np.sin(phase)).astype(np.float32)


def excerpts(paired: Path, rate: int, start: float, seconds: float) -> dict[str, dict]:
    """Read an excerpt of each piece on each instrument: name, instrument, float32 [T]."""
    pieces: dict[str, dict] = {}
    for file in sorted(paired.glob("*/*--*.flac")):
        samples = read_audio(file, rate)[round(start * rate) : round((start + seconds) * rate)]
        pieces.setdefault(file.parent.name, {})[file.stem.split("--")[0]] = samples
    return pieces


def main() -> None:
    """Read the command line; translate, measure, print."""
    parser = argparse.ArgumentParser(description="Measure a WaveNet's translations.")
    parser.add_argument("model", type=Path)
    parser.add_argument("paired", type=Path)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--start", type=float, default=2.0, help="of each piece, seconds")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each piece")
    parser.add_argument("--pieces", type=int, default=3)
    parser.add_argument("--sources", help="instruments, A,B; all by default")
    parser.add_argument("--out", type=Path, help="keep the translations and the figures here")
    options = parser.parse_args()
    model = Translator.load(options.model).eval()
    rate, classifier = model.sample_rate, shipped_classifier()
    pieces = excerpts(options.paired, rate, options.start, options.seconds)
    names = list(pieces)[: options.pieces]
    wanted = options.sources.split(",") if options.sources else [*pieces[names[0]], "whistle"]
    jobs = [(name, source) for name in names for source in wanted if source != "whistle"]
    waves = [pieces[name][source] for name, source in jobs]
    if "whistle" in wanted:
        jobs.append(("whistle", "whistle"))
        waves.append(whistle(rate, options.seconds))
    latents = [model.encode(wave, rate) for wave in waves]
    chosen = model.generation_options({"temperature": options.temperature})
    heard = [Analysis(wave, rate, classifier) for wave in waves]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for target in model.domains:
        made = model.decode_all([[own] for own in latents], to=target, options=chosen)
        for (name, source), own, blocks in zip(jobs, heard, made, strict=True):
            output = np.concatenate(list(blocks))[: len(own.waveform)]
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                sf.write(options.out / f"{name}.{source}.{target}.wav", output, rate)
            others = [other for other in pieces if other != name]
            truth = pieces[name][target] if name in pieces else None
            result = _figures(
                own,
                Analysis(output, rate, classifier),
                Analysis(pieces[others[0]][target], rate, classifier),
                None if truth is None else Analysis(truth, rate, classifier),
                target,
            )
            found.setdefault((source, target), []).append(result)
    _show(found, model.domains)
    if options.out is not None:
        plain = {" to ".join(key): results for key, results in found.items()}
        (options.out / "figures.json").write_text(json.dumps(plain, indent=1) + "\n")


def _chroma(source: Analysis, output: Analysis) -> float:
    score = content.compare(source.content, output.content, has_chance=False)["chroma"].value
    assert score is not None
    return score


def _figures(
    source: Analysis, output: Analysis, other: Analysis, truth: Analysis | None, target: str
) -> dict[str, float]:
    found = {
        "chroma": _chroma(source, output),
        "other music": _chroma(source, other),
        "heard": output.probabilities.get(target, 0.0),
    }
    if truth is not None:
        found["true"] = _chroma(source, truth)
        found["true heard"] = truth.probabilities.get(target, 0.0)
    return found


def _show(found: dict[tuple[str, str], list[dict[str, float]]], domains: tuple[str, ...]) -> None:
    print("| source | target | chroma | other music | true | of the way | heard | true heard |")
    print("|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, str], list[dict[str, float]]] = dict(sorted(found.items()))
    for key, results in found.items():
        source, target = key
        kind = "domains" if source in domains else "whistle" if source == "whistle" else "strangers"
        if source != target:
            groups.setdefault((f"all {kind}", "others"), []).extend(results)
    for (source, target), results in groups.items():
        mean = {
            name: fmean(result[name] for result in results if name in result)
            for name in ("chroma", "other music", "true", "heard", "true heard")
            if any(name in result for result in results)
        }
        # A whistle has no true rendering: the way is to its own chroma, 1.
        end = mean.get("true", 1.0)
        share = (mean["chroma"] - mean["other music"]) / (end - mean["other music"])
        cells = [
            f"{mean[name]:.2f}" if name in mean else ""
            for name in ("chroma", "other music", "true")
        ]
        cells += [f"{share:.0%}", f"{mean['heard']:.2f}", f"{mean.get('true heard', 0):.2f}"]
        print(f"| {source} | {target} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
