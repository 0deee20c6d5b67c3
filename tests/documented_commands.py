"""Run a page's shell lines in order, in a folder that has what the page speaks of.

The lines run as they are written. Three things are made small: training stops after one update of
small networks, music lasts seconds, and there are programs that stand in for a sound card.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from .pages import ROOT, shell_lines
from .published import write_published

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE_RATE = 22050
LINE_SECONDS = 180

# Lines that no test can run, by what they begin with or hold, and what looks after them instead.
NOT_RUN = {
    r"^python3 -m venv": "`.ci/run` installs on a bare machine by these commands",
    r"^\.venv/bin/": "`.ci/run`",
    r"^source \.venv": "`.ci/run`",
    r"^apt-get ": "installs on the machine",
    r"^pip install -r": "installs on the machine",
    r"^pip install demucs": "installs on the machine",
    r"--format neutone": "needs an extra; tests/core/export/test_neutone.py",
    r"^demucs ": "a separator, whose weights it loads from the net",
    r"-m hf:": "needs a network; tests/umtcli/test_hub.py has a server of its own",
    r"^hf upload": "needs a network; tests/core/training/test_model_card.py reads the folder",
    r"^sbatch ": "needs a cluster; tests/core/training/test_accelerate_files.py has stand-ins",
    r"--config_file recipes/accelerate": "tests/core/training/test_accelerate_files.py",
    r"bash recipes/gpu": "needs a GPU; tests/recipes/test_wavenet.py reads it",
    r"python recipes/": "needs synthesizers, half an hour and more; its options are compared",
    r"python -m benchmarks\.": "takes minutes; tests/test_benchmarks.py runs small ones",
}

# What a page takes to be there already; made small as the page's own lines are.
BEFORE = {
    "docs/wavenet.md": ['ln -s "$PYTHONPATH/recipes" recipes'],
    "recipes/wavenet/README.md": ['ln -s "$PYTHONPATH/recipes" recipes'],
    "benchmarks/README.md": [
        "umt prep corpus/train/* --out corpus/data",
        "umt prep corpus/takes/* --out corpus/takes-data",
    ],
    "docs/stems.md": [
        "mkdir -p separated/htdemucs/song",
        *(
            "umt translate song.wav --to piano --mix 0 --rate 44100 "
            f"-o separated/htdemucs/song/{stem}.wav"
            for stem in ("bass", "drums", "other", "vocals")
        ),
    ],
    "docs/evaluation.md": [
        "umt prep ./piano ./organ",
        "umt train",
        "umt translate song.wav --to piano",
        "umt translate song.wav --to piano --to organ -o out",
    ],
}

SMALL_NETWORKS = {
    "spectral": {
        "encoder_channels": 8,
        "decoder_channels": 8,
        "encoder_hidden": 8,
        "decoder_hidden": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
    },
    "wavenet": {
        "encoder_channels": 4,
        "encoder_blocks": 1,
        "encoder_layers": 2,
        "latent_dim": 5,
        "residual_channels": 4,
        "skip_channels": 4,
        "decoder_blocks": 1,
        "decoder_layers": 2,
    },
}
SHORT_TRAINING = {"segment_seconds": 0.3, "validation_items": 1}


def run_page(name: str, folder: Path) -> None:
    """Run the lines of a page's shell blocks, as a user at a terminal does; each has to succeed."""
    environment = furnish(folder)
    for line in [*BEFORE.get(name, []), *shell_lines(name)]:
        if any(re.search(pattern, line) for pattern in NOT_RUN):
            continue
        if line.startswith("sox ") and shutil.which("sox") is None:
            continue
        if "--ratings" in line:
            answer_listening_test(folder / "listen")
        code, shown = run_in_terminal(line, folder, environment)
        assert code == 0, f"{line}\n{shown}"


def run_in_terminal(line: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a line at a terminal; return its exit code and what it showed."""
    ours, theirs = os.openpty()
    shell = subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    # A terminal is at its end when nobody holds its other side any more: reading then fails.
    with suppress(OSError):
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    return shell.wait(timeout=LINE_SECONDS), shown.decode(errors="replace")


def furnish(folder: Path) -> dict[str, str]:
    """Put music and programs into a folder; return the environment of its shell."""
    for name, base in (("song", 262.0), ("a", 220.0), ("b", 330.0)):
        write_melody(folder / f"{name}.wav", base, seconds=9)
    write_melody(folder / "song.mp3", 262.0, seconds=4)
    write_melody(folder / "true.wav", 262.0, seconds=9)
    write_melody(folder / "album" / "one.flac", 294.0, seconds=4)
    for instrument in ("bach", "banjo", "piano", "organ"):
        for number in range(3):
            write_melody(folder / instrument / f"{number}.wav", 200.0 + 20 * number, seconds=4)
    for instrument in ("guitar", "piano", "strings"):
        for number in range(3):
            path = folder / "corpus" / "train" / instrument / f"score-{number}.flac"
            write_melody(path, 200.0 + 20 * number, seconds=4)
            takes = folder / "corpus" / "takes" / instrument / path.stem
            write_melody(takes / f"{instrument}--fluid.flac", 200.0 + 20 * number, seconds=4)
        write_melody(folder / "corpus/paired/piece" / f"{instrument}--fluid.wav", 250.0, seconds=4)
    (folder / "corpus/paired/piece/guitar--fluid.wav").rename(
        folder / "corpus/paired/piece/organ--fluid.wav"
    )
    (folder / "corpus/paired/piece/strings--fluid.wav").unlink()
    write_musicnet(folder / "musicnet")
    folders = ["Bach_Solo_Cello", "Cambini_Wind_Quintet", "Bach_Solo_Piano"]
    write_published(folder / "pretrained_musicnet", data=folders)
    programs = folder / "bin"
    programs.mkdir()
    write_program(programs / "umt", f'exec "{sys.executable}" -m tests.documented_commands "$@"')
    launcher = Path(sys.executable).with_name("accelerate")
    write_program(
        programs / "accelerate",
        f'shift 3; exec "{launcher}" launch -m tests.documented_commands "$@"',
    )
    write_program(programs / "aplay", "cat > /dev/null")
    write_program(programs / "arecord", f"cat {folder}/a.wav")
    search = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **{name: value for name, value in os.environ.items() if name != "UMT_MODEL"},
        "PATH": ":".join(search),
        "PYTHONPATH": str(ROOT),
        # Threads that spin while they wait take twenty times as long beside other tests.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def write_program(path: Path, line: str) -> None:
    """Write a shell script of one line that can be run."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def write_melody(path: Path, base: float, *, seconds: float) -> None:
    """Write decaying tones with harmonics."""
    steps = [0, 4, 7, 12, 7, 4, 2, 0]
    t = np.arange(int(SAMPLE_RATE * seconds / len(steps))) / SAMPLE_RATE
    tones = [
        sum(np.sin(2 * np.pi * base * 2 ** (step / 12) * k * t) / k for k in (1, 2, 3))
        * np.exp(-3 * t)
        for step in steps
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (0.2 * np.concatenate(tones)).astype(np.float32), SAMPLE_RATE)


def write_musicnet(folder: Path) -> None:
    """Write what an unpacked MusicNet looks like, with two short recordings a domain."""
    domains = [
        ("Bach", "Solo Cello"),
        ("Bach", "Solo Piano"),
        ("Beethoven", "Accompanied Violin"),
        ("Beethoven", "Solo Piano"),
        ("Beethoven", "String Quartet"),
        ("Cambini", "Wind Quintet"),
    ]
    rows = ["id,composer,composition,movement,ensemble,source,transcriber,catalog_name,seconds"]
    for index, (composer, ensemble) in enumerate(domains):
        for number in (10 * index, 10 * index + 1):
            rows.append(f"{number},{composer},Suite,1. Allegro,{ensemble},x,y,z,4")
            write_melody(folder / "train_data" / f"{number}.wav", 200.0 + number, seconds=4)
    (folder / "musicnet_metadata.csv").write_text("\n".join([*rows, ""]))


def answer_listening_test(folder: Path) -> None:
    """Write the file that the page of a listening test would save."""
    key = json.loads((folder / "key.json").read_text())
    answers = {
        "umt_listening_answers": 1,
        "test": key["test"],
        "listener": "Ann",
        "ratings": [{"id": name, "quality": 3, "success": 4} for name in key["ratings"]],
        "lineups": [
            {"id": name, "choice": lineup["original"]} for name, lineup in key["lineups"].items()
        ],
    }
    (folder / "answers-1.json").write_text(json.dumps(answers))


def shortened(arguments: Sequence[str]) -> list[str]:
    """Return a call of umt as it is, or of `umt train` with one update of small networks."""
    if arguments[:1] != ["train"]:
        return list(arguments)
    kept: list[str] = []
    given: dict[str, str] = {}
    rest = iter(arguments)
    for word in rest:
        if word in ("--steps", "--config", "--max-minutes"):
            given[word] = next(rest)
        else:
            kept.append(word)
    changes: dict[str, dict[str, Any]] = {}
    if "--config" in given:
        changes = tomllib.loads(Path(given["--config"]).read_text())
    changes.setdefault("training", {}).update(SHORT_TRAINING)
    if "--from" not in kept:
        is_spectral = "--preset" not in kept or kept[kept.index("--preset") + 1] == "fast"
        family = "spectral" if is_spectral else "wavenet"
        changes.setdefault("model", {}).update(SMALL_NETWORKS[family])
    lines = []
    for section, values in changes.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    short = Path("short.toml")
    short.write_text("\n".join(lines))
    return [*kept, "--steps", "1", "--config", str(short)]


if __name__ == "__main__":
    from umtcli.app import main

    sys.exit(main(shortened(sys.argv[1:])))
