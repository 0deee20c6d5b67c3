"""The options that several commands share, each defined once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import UmtError, UsageError
from umtcli.completion import (
    complete_bits,
    complete_devices,
    complete_domains,
    complete_engines,
    complete_models,
    complete_rates,
    complete_transpositions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.audio.wav import Bits
    from core.streaming import Transposition
    from umtcli.console import Environment

_CLOCK = re.compile(r"(?:(\d+):(?=\d\d:))?(\d+):([0-5]\d(?:\.\d*)?)")

Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        metavar="MODEL",
        autocompletion=complete_models,
        help="A model file, a run (runs/NAME), a bundled name, or hf:owner/name[@revision][/file] "
        "on the Hugging Face Hub. Default: $UMT_MODEL, else the newest trained run under ./runs "
        "that has every domain, else starter.",
    ),
]
To = Annotated[
    list[str],
    typer.Option(
        "--to",
        metavar="DOMAIN",
        autocompletion=complete_domains,
        help="Target domain, or several: piano,organ or --to given again; all is every one. "
        "piano:0.7,strings:0.3 plays both in one file. `umt info` lists them.",
    ),
]
Transpose = Annotated[
    str,
    typer.Option(
        metavar="N",
        autocompletion=complete_transpositions,
        help="Spectral models: semitones up or down, fractions if the model has pitch latents; fit "
        "takes the octave that suits the target best.",
    ),
]
KeepOctaves = Annotated[
    bool,
    typer.Option(
        "--keep-octaves",
        help="Leave notes where they are that the target's instrument does not have; they are "
        "played in the nearest octave that it has.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        autocompletion=complete_devices,
        help="auto, cpu, cuda or cuda:N.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of random draws.")]
Temperature = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="WaveNet models: 1 draws from the model's distribution, less is safer and duller, "
        "0 always takes the likeliest.  [default: 1]",
        show_default=False,
    ),
]
Tuning = Annotated[
    float | None,
    typer.Option(
        metavar="HZ",
        help="Spectral models: frequency of A4 that the result is tuned to, 400 to 480.  "
        "[default: the source's tuning]",
        show_default=False,
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        metavar="ENGINE",
        autocompletion=complete_engines,
        help="WaveNet models: auto (by device), cpu, cuda, or reference (slow and plain).  "
        "[default: auto]",
        show_default=False,
    ),
]
Exact = Annotated[
    bool | None,
    typer.Option(
        "--exact",
        help="WaveNet models: one unbroken chain of samples (slow), not chunks side by side.",
        show_default=False,
    ),
]
Mono = Annotated[
    bool,
    typer.Option("--mono", help="Mix stereo; without it the result has two channels, too."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="File or directory to write to; - is stdout. Default: stdout if it is a pipe or a "
        "file, else a file in the current directory, named after the input.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="TEMPLATE",
        help="Names of the files, from {stem}, {domain}, {seed}, {folder} and {ext}.",
    ),
]
Rate = Annotated[
    int | None,
    typer.Option(
        metavar="HZ",
        min=1000,
        max=384_000,
        autocompletion=complete_rates,
        help="Sample rate of the results, 1000 to 384000 Hz.  [default: the model's]",
        show_default=False,
    ),
]
SampleBits = Annotated[
    str | None,
    typer.Option(
        "--bits",
        metavar="BITS",
        autocompletion=complete_bits,
        help="Of a sample: 16, 24 or float.  [default: 16]",
        show_default=False,
    ),
]
DropDrums = Annotated[
    bool,
    typer.Option("--drop-drums", help="Leave out the input's percussive part."),
]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace existing files.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No notices and no progress.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show the traceback of errors.")]
Json = Annotated[bool, typer.Option("--json", help="Describe the results as JSON on stdout.")]


def settle(ctx: typer.Context, *, quiet: bool, verbose: bool) -> Environment:
    """Return the run's streams, with the lines to show chosen by -q and -v.

    Raises:
        UmtError: The working directory was removed, without which libraries end the process.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UmtError("the working directory was removed; change to one that exists") from error
    env: Environment = ctx.obj
    env.is_quiet = quiet
    env.is_verbose = verbose
    return env


def parse_seconds(text: str | float) -> float:
    """Return what --start and --seconds ask for: 65, 1:05 and 0:01:05 are the same.

    Args:
        text: As typed; Typer passes defaults, too.

    Raises:
        ValueError: It is none of these.
    """
    clock = _CLOCK.fullmatch(str(text))
    if clock is None:
        return float(text)
    hours, minutes, seconds = clock.groups(default="0")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def split_domains(to: Sequence[str]) -> list[str]:
    """Return the targets that --to names, each once: several may stand in one, with commas.

    Those with shares are one target; see `core.model_file.parse_target`.
    """
    targets = ([own] if ":" in own else own.split(",") for own in to)
    return list(dict.fromkeys(name for own in targets for name in own))


def parse_transposition(text: str) -> Transposition:
    """Return what --transpose asks for: a number of semitones, or "fit".

    Raises:
        UsageError: It is neither.
    """
    if text == "fit":
        return "fit"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--transpose {text}: expected semitones from -48 to 48, or fit") from None


def check_bits(bits: str | None) -> Bits | None:
    """Return what --bits asks for.

    Raises:
        UsageError: It is none of the values that it takes.
    """
    from core.audio.wav import BITS

    if bits is None or bits in BITS:
        return bits
    raise UsageError(f"--bits {bits}: expected {', '.join(BITS[:-1])} or {BITS[-1]}")


def generation(**options: object) -> dict[str, object]:
    """Return the generation options that the user gave, of whatever family they are."""
    return {name: value for name, value in options.items() if value is not None}
