r"""Add an instrument to a model from more and more recordings, and measure when it pays.

    python recipes/starter/render.py --domains accordion --renditions 0 --paired-pieces 12 \
        --out newcomer
    python recipes/adding/add.py newcomer

Held-out pieces, played by the model's domains in turn, are translated by the new decoder and by
all old ones, and `umt eval` says how far each is from the same notes truly played by the new
instrument. All of it is done by the commands that users have; a run that is interrupted goes on
where it was. Writes `table.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import soundfile as sf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PIECE_SECONDS = 10.0  # of each held-out piece


def main() -> None:
    """Read the command line; add, measure and tabulate."""
    parser = argparse.ArgumentParser(description="Add an instrument from more and more recordings.")
    parser.add_argument("corpus", type=Path, help="what render.py made")
    parser.add_argument("--model", default="starter", help="the model to add to")
    parser.add_argument("--minutes", default="2,10,60", help="of recordings, before they are split")
    parser.add_argument("--steps", default="25,50,100", help="updates of the new decoder")
    parser.add_argument("--out", type=Path, default=Path("adding"))
    options = parser.parse_args()
    work = Work(options.corpus, options.model, options.out)
    updates = options.steps.split(",")
    old = work.distances_of_old()
    nearest = min(old, key=lambda domain: fmean(old[domain]))
    told = ", ".join(f"{domain} {fmean(values):.2f}" for domain, values in old.items())
    heads = [
        "recordings",
        "to learn from",
        f"{nearest} as it is",
        *(f"{n} updates" for n in updates),
    ]
    lines = [heads, ["---"] * len(heads)]
    for minutes in options.minutes.split(","):
        held = work.prepare(minutes)
        found = work.distances_of_new(minutes, updates, like=nearest)
        cells = [f"{sum(held.values()):.1f} min", f"{held['train']:.1f} min"]
        cells.append(f"{fmean(old[nearest]):.2f} dB")
        lines.append([*cells, *(_cell(found[n], old[nearest]) for n in updates)])
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        speed = f"An update took {work.seconds_per_update(minutes, updates[-1]):.1f} s."
        text = f"Log-spectral distance of the old decoders, dB: {told}.\n\n{table}\n{speed}\n"
        (options.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


class Work:
    """What is made of a corpus: pieces, models with one more domain, their translations.

    Args:
        corpus: `train/DOMAIN` of one domain, and `paired/PIECE/DOMAIN--RENDERING.EXTENSION`.
        model: The model that has the other domains.
        out: Where everything goes.
    """

    def __init__(self, corpus: Path, model: str, out: Path) -> None:
        self.model, self.out = model, out
        (self.recordings,) = (corpus / "train").iterdir()
        self.domain = self.recordings.name
        self.old_domains: list[str] = []
        self.pieces: list[str] = []
        for number, folder in enumerate(sorted((corpus / "paired").iterdir())):
            played = {
                path.stem.split("--")[0]: path for path in sorted(folder.glob("*--original.*"))
            }
            true = played.pop(self.domain)
            self.old_domains = list(played)
            self.pieces.append(folder.name)
            _cut(played[self.old_domains[number % len(played)]], self._file("sources", folder.name))
            _cut(true, self._file("true", folder.name))

    def _file(self, kind: str, piece: str) -> Path:
        return self.out / kind / f"{piece}.flac"

    def distances_of_old(self) -> dict[str, list[float]]:
        """Return how far each old decoder's translations are from the truth, by domain."""
        self._translate(self.model, self.old_domains, self.out / "old")
        return self._distances({name: f"old/PIECE.{name}.wav" for name in self.old_domains})

    def prepare(self, minutes: str) -> dict[str, float]:
        """Prepare some of the recordings; return the minutes of each split."""
        folder = self.out / f"{minutes}-minutes"
        chosen = folder / self.domain
        chosen.mkdir(parents=True, exist_ok=True)
        for path in _first_minutes(self.recordings, float(minutes)):
            shutil.copy(path, chosen)
        report = json.loads(_umt("prep", chosen, "--out", folder / "data", "--json"))
        split: dict[str, float] = report["results"][0]["minutes"]
        return split

    def distances_of_new(
        self, minutes: str, updates: Sequence[str], *, like: str
    ) -> dict[str, list[float]]:
        """Train a decoder for each number of updates; return how far each is from the truth."""
        made = {}
        for number in updates:
            run = self.out / f"{minutes}-minutes" / f"{number}-updates"
            _umt(
                "train", "--data", run.with_name("data"), "--add-domain", self.domain,
                "--from", self.model, "--like", like, "--steps", number, "--run", run,
            )  # fmt: skip
            self._translate(run, [self.domain], run / "made")
            made[number] = f"{minutes}-minutes/{run.name}/made/PIECE.{self.domain}.wav"
        return self._distances(made)

    def seconds_per_update(self, minutes: str, number: str) -> float:
        """Return how long an update of a run took, by the clock."""
        log = self.out / f"{minutes}-minutes" / f"{number}-updates" / "log.jsonl"
        records = [json.loads(line) for line in log.read_text().splitlines()]
        last = [record for record in records if "seconds" in record][-1]
        return float(last["seconds"]) / int(last["step"])

    def _translate(self, model: object, targets: Sequence[str], folder: Path) -> None:
        to = [word for target in targets for word in ("--to", target)]
        sources = [self._file("sources", piece) for piece in self.pieces]
        folder.mkdir(parents=True, exist_ok=True)  # or a single translation would be this file
        _umt("translate", *sources, *to, "--model", model, "-o", folder, "--force")

    def _distances(self, made: Mapping[str, str]) -> dict[str, list[float]]:
        """Return distances to the truth of each piece, in dB; PIECE in a path stands for each."""
        found: dict[str, list[float]] = {label: [] for label in made}
        for piece in self.pieces:
            files = [self.out / path.replace("PIECE", piece) for path in made.values()]
            source, true = self._file("sources", piece), self._file("true", piece)
            shown = _umt("eval", *files, "--source", source, "--reference", true, "--json")
            for label, result in zip(made, json.loads(shown)["results"], strict=True):
                rows = result["metrics"]["log_spectral_distance_db"]["rows"]
                found[label].append(rows["translation"]["value"])
        return found


def _cut(path: Path, to: Path) -> None:
    with sf.SoundFile(path) as file:
        waveform = file.read(round(PIECE_SECONDS * file.samplerate))
        to.parent.mkdir(parents=True, exist_ok=True)
        sf.write(to, waveform, file.samplerate)


def _first_minutes(recordings: Path, minutes: float) -> Iterator[Path]:
    """Yield recordings in the order in which they were planned, by turns of all textures."""
    seconds = 0.0
    for path in sorted(recordings.glob("*.flac"), key=lambda path: path.stem.rsplit("-")[-1]):
        if seconds >= 60 * minutes:
            return
        seconds += sf.info(path).duration
        yield path


def _cell(new: Sequence[float], nearest: Sequence[float]) -> str:
    preferred = sum(ours < theirs for ours, theirs in zip(new, nearest, strict=True))
    return f"{fmean(new):.2f} dB, {preferred} of {len(new)}"


def _umt(*arguments: object) -> str:
    command = [sys.executable, "-m", "umtcli", *map(str, arguments), "--quiet"]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return shown.stdout


if __name__ == "__main__":
    main()
