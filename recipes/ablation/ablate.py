"""Change one thing at a time in preset `fast`, train shortly, and measure translations.

    python recipes/starter/render.py --out corpus
    umt prep corpus/train/* --out corpus/data
    umt prep corpus/takes/* --out corpus/takes-data
    python recipes/starter/render.py --out quick --minutes 0 --paired-pieces 2
    python recipes/ablation/ablate.py corpus/data corpus/takes-data quick/paired --held-out freepats

Every variant is trained and measured by the commands that users have. A run that is interrupted
goes on where it was. Writes `table.md` and what `umt eval --json` says of each variant. With
`--recordings`, a folder of short clips of real music, these are translated and measured, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

# What is changed, as TOML for `umt train --config`. Gradient reversal needs no row of its own:
# it gives the encoder the gradient of `negated`.
VARIANTS = {
    "fast, as it is": "",
    "fast, another seed": "training.seed = 1",
    "confusion: none": "confusion.weight = 0.0",
    "confusion: uniform, weight 0.03": "confusion.weight = 0.03",
    "confusion: uniform, weight 0.3": "confusion.weight = 0.3",
    "confusion: uniform, weight 1": "confusion.weight = 1.0",
    "confusion: negated, weight 0.01": 'confusion.objective = "negated"\nconfusion.weight = 0.01',
    "confusion: negated, weight 0.1": 'confusion.objective = "negated"',
    "attacks: none": "model.attack_weight = 0.0",
    "attacks: weight 4": "model.attack_weight = 4.0",
    "latent noise: none": "model.latent_noise = 0.0",
    "latent noise: 0.15": "model.latent_noise = 0.15",
    "no takes": "distortion.take_share = 0.0",
    "no takes, no confusion": "distortion.take_share = 0.0\nconfusion.weight = 0.0",
    "no takes, no reshaping": "distortion.take_share = 0.0\ndistortion.reshape_share = 0.0",
    "distortion: none but takes": (
        "distortion.equalizer_db = 0.0\n"
        "distortion.noise_db = 0.0\ndistortion.room_seconds = 0.0\ndistortion.gain_db = 0.0"
    ),
    "distortion: pitch": "distortion.pitch_semitones = 0.5",
    "distortion: no equalizer": "distortion.equalizer_db = 0.0",
    "distortion: no noise": "distortion.noise_db = 0.0",
    "distortion: no room": "distortion.room_seconds = 0.0",
    "distortion: no gain": "distortion.gain_db = 0.0",
    "latents: 21.5 a second": "model.downsampling = 4",
    "latents: 86 a second": "model.downsampling = 1",
    "latents: 184 channels": "model.latent_dim = 184",
    "latents: 256 channels": "model.latent_dim = 256",
    "not causal": "model.causal = false",
    "decoder: 192 channels": "model.decoder_channels = 192\nmodel.decoder_hidden = 384",
    "decoder: 384 channels": "model.decoder_channels = 384\nmodel.decoder_hidden = 768",
}
COLUMNS = {
    "chroma": "chroma",
    "target_probability": "heard as the target",
    "log_spectral_distance_db": "distance, dB",
    "spectral_contrast_db": "contrast, dB",
}
ON_RECORDINGS = {
    "chroma": "chroma, recordings",
    "target_probability": "heard, from recordings",
}
ACCURACY = "confusion/validation accuracy"


def main() -> None:
    """Read the command line; train, measure and tabulate."""
    parser = argparse.ArgumentParser(description="Change one thing at a time.")
    parser.add_argument("data", type=Path, help="prepared domains")
    parser.add_argument("takes", type=Path, help="their prepared takes")
    parser.add_argument("paired", type=Path, help="PIECE/DOMAIN--RENDERING.EXTENSION")
    parser.add_argument("--held-out", default="freepats", help="a rendering never trained on")
    parser.add_argument("--recordings", type=Path, help="clips, of which chroma is measured")
    parser.add_argument("--domains", default="guitar,piano,strings")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--segment-seconds", type=float, default=2.0)
    parser.add_argument("--only", help="variants whose names begin so")
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    options = parser.parse_args()
    for name in VARIANTS:
        if name.startswith(options.only or ""):
            measure(name, options)
            if options.recordings:
                measure_recordings(name, options)
            (options.out / "table.md").write_text(table(options), encoding="utf-8")


def measure(name: str, options: argparse.Namespace) -> None:
    """Train one variant and measure it, unless that was done before."""
    folder = _folder(name, options)
    result = folder / "eval.json"
    if result.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    changes = [f"training.segment_seconds = {options.segment_seconds}", VARIANTS[name]]
    changes += ["training.validation_items = 8", f"training.validate_steps = {options.steps}"]
    (folder / "changes.toml").write_text("\n".join(changes) + "\n", encoding="utf-8")
    _umt(
        "train", "--data", options.data, "--takes", options.takes, "--domains", options.domains,
        "--config", folder / "changes.toml", "--steps", options.steps, "--run", folder, "--quiet",
    )  # fmt: skip
    result.write_text(_umt("eval", "--model", folder, "--paired", options.paired, "--json"))


def measure_recordings(name: str, options: argparse.Namespace) -> None:
    """Translate the clips into all domains and measure them, unless that was done before."""
    folder = _folder(name, options)
    result = folder / "recordings.json"
    if result.exists():
        return
    clips = sorted(options.recordings.iterdir())
    targets = [part for domain in options.domains.split(",") for part in ("--to", domain)]
    out = folder / "recordings"
    _umt("translate", *clips, *targets, "--model", folder, "--output", out, "--force", "--quiet")
    result.write_text(_umt("eval", *sorted(out.iterdir()), "--json", "--quiet"))


def table(options: argparse.Namespace) -> str:
    """Return what was measured so far, as Markdown."""
    heads = ["changed", *COLUMNS.values(), f"heard, from {options.held_out}", "domain named"]
    if options.recordings:
        heads += ON_RECORDINGS.values()
    lines = [heads, ["---"] * len(heads)]
    for name in VARIANTS:
        result = _folder(name, options) / "eval.json"
        if result.exists():
            lines.append([name, *_figures(json.loads(result.read_text()), options.held_out)])
            lines[-1].append(f"{_last_accuracy(result.with_name('log.jsonl')):.2f}")
            if options.recordings:
                lines[-1] += _recording_figures(result.with_name("recordings.json"))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figures(report: dict[str, Any], held_out: str) -> list[str]:
    def mean(metric: str, results: list[dict[str, Any]]) -> str:
        return f"{fmean(one['rows']['translation'][metric] for one in results):.2f}"

    foreign = [one for one in report["results"] if one["rendering"] == held_out]
    if not foreign:
        sys.exit(f"no source was rendered with {held_out}")
    own = [mean(metric, report["results"]) for metric in COLUMNS]
    return [*own, mean("target_probability", foreign)]


def _recording_figures(path: Path) -> list[str]:
    if not path.exists():
        return ["" for _ in ON_RECORDINGS]
    found = [one["metrics"] for one in json.loads(path.read_text())["results"]]
    return [
        f"{fmean(one[metric]['rows']['translation']['value'] for one in found):.2f}"
        for metric in ON_RECORDINGS
    ]


def _last_accuracy(log: Path) -> float:
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return float([record[ACCURACY] for record in records if ACCURACY in record][-1])


def _folder(name: str, options: argparse.Namespace) -> Path:
    return Path(options.out) / "".join(c if c.isalnum() or c == "." else "-" for c in name)


def _umt(*arguments: object) -> str:
    command = [sys.executable, "-m", "umtcli", *map(str, arguments)]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return shown.stdout


if __name__ == "__main__":
    main()
