"""`umt eval`: figures about a translation, or about a model on held-out tracks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import AudioError, UsageError
from umtcli import options
from umtcli.console import Progress
from umtcli.failures import Batch
from umtcli.models import choose_model, load_translator
from umtcli.streams import STREAM, choose_inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.audio.provenance import Provenance
    from core.evaluation import AudioFigures, DomainFigures, PairFigures
    from umtcli.console import Environment

EXAMPLES = """\
umt translate song.wav --to piano | umt eval
umt eval song.piano.wav --source song.wav --to piano
umt eval --model runs/fast --data data
umt eval --model runs/fast --paired corpus/paired

What the figures mean, with their ranges:
chroma         0..1   pitch content kept: mean cosine of the chroma of source and output
aligned chroma 0..1   the same after alignment in time
onset          -1..1  timing kept: correlation of the onset envelopes
chance                what other music scores on the same pair; 1 is a perfect score
heard as       0..1   what an independent classifier of the instruments hears
figures beside "typical" are those of the target's training audio, 5 % to 95 %
"""
EVALUATION_RATE = 44100  # Hz; what everything is measured at


@dataclass(frozen=True)
class Subject:
    """One piece of audio to be measured, with what it came from."""

    name: str
    waveform: NDArray[np.float32]
    source_name: str | None
    source: NDArray[np.float32] | None
    target: str | None


def run(
    ctx: typer.Context,
    *,
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="IN", help="Audio files; - is stdin.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="S", help="What the input was translated from, if it does not say."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="D", help="The domain it should be in, if it does not say."),
    ] = None,
    model: options.Model = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Prepared domains to measure a model on.")
    ] = None,
    paired: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pieces rendered on several domains, PIECE/DOMAIN--RENDERING.EXTENSION, to "
            "measure a model's translations against the truth.",
        ),
    ] = None,
    device: options.Device = "auto",
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure a translation against its source, or a model on held-out tracks.

    A file or pipe that umt made tells what it was made from, so that it is compared with its
    source if that is still there and unchanged. With --data a whole model is measured: the
    family's held-out figure (WaveNet: bits per sample, 8 is knowing nothing; spectral: STFT
    distance, 0 is perfect) and how often the confusion network names the domain, beside chance.
    With --paired its translations are held against the same notes truly played by the target.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    if data is not None or paired is not None:
        if inputs or source or to or (data and paired):
            raise UsageError("--data and --paired measure a model, one at a time, and no audio")
        if data is not None:
            _evaluate_model(env, model, data, device, is_json=is_json)
        elif paired is not None:
            _evaluate_paired(env, model, paired, device, is_json=is_json)
        return
    if model is not None:
        raise UsageError("to measure a model, name prepared domains too: --data data")
    _evaluate_audio(env, inputs or [], source, to, is_json=is_json)


def _evaluate_audio(
    env: Environment, given: list[str], source: Path | None, to: str | None, *, is_json: bool
) -> None:
    from core.evaluation import evaluate_audio

    names = choose_inputs(env, given)
    batch = Batch(env)
    for name in names:
        with batch.item(name):
            subject = _read_subject(env, name, source, to)
            figures = evaluate_audio(
                subject.waveform, EVALUATION_RATE, source=subject.source, target=subject.target
            )
            facts = {
                "input": subject.name,
                "source": subject.source_name,
                "target": subject.target,
            }
            batch.results.append(facts | _without_details(asdict(figures)))
            if not is_json:
                _show_audio(env, subject, figures)
    batch.finish("eval", is_json=is_json)


def _read_subject(env: Environment, name: str, source: Path | None, to: str | None) -> Subject:
    """Read one input, and its source if that is given or can be found."""
    import numpy as np

    from core.audio.reading import open_audio, read_audio, resample_blocks

    with open_audio(env.stdin if name == STREAM else name, name=name) as audio:
        provenance = audio.provenance
        blocks = resample_blocks(audio.blocks(), audio.sample_rate, EVALUATION_RATE)
        waveform = np.concatenate(list(blocks))
    target = to or (provenance.domain if provenance else None)
    if source is not None:
        reference = read_audio(source, EVALUATION_RATE)
        return Subject(name, waveform, str(source), reference, target)
    path = _find_source(env, name, provenance)
    if path is None or provenance is None:
        return Subject(name, waveform, None, None, target)
    with open_audio(
        path, start_seconds=provenance.start_seconds, seconds=provenance.seconds
    ) as audio:
        blocks = resample_blocks(audio.blocks(), audio.sample_rate, EVALUATION_RATE)
        reference = np.concatenate(list(blocks))
    return Subject(name, waveform, str(path), reference, target)


def _find_source(env: Environment, name: str, provenance: Provenance | None) -> Path | None:
    """Return the file that the audio says it was made from, if it is there and unchanged."""
    from core.audio.provenance import file_sha256

    if provenance is None:
        env.notice(f"{name} does not say what it was made from: measured alone; add --source")
        return None
    path = Path(provenance.source)
    if provenance.source_sha256 is None:
        env.notice(f"{name} was made from a stream: measured alone; add --source")
    elif not path.is_file():
        env.notice(f"{name} was made from {path}, which is not here: measured alone; add --source")
    elif file_sha256(path) != provenance.source_sha256:
        env.notice(f"{path} has changed since {name} was made: measured alone; add --source")
    else:
        return path
    return None


def _without_details(figures: dict[str, Any]) -> dict[str, Any]:
    """Leave out the scores of single seconds, which are for intervals and not for readers."""
    for score in (figures["content"] or {}).values():
        del score["per_second"]
    return figures


def _show_audio(env: Environment, subject: Subject, figures: AudioFigures) -> None:
    from rich.table import Table
    from rich.text import Text

    against = f" against {subject.source_name}" if subject.source_name else ""
    heard = "stdin" if subject.name == STREAM else subject.name
    title = Text(f"{heard}{against}, {figures.seconds:.1f} s")
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("figure", "value", "chance or typical"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, score in (figures.content or {}).items():
        chance = f"chance {_number(score.chance)}, perfect 1.00"
        table.add_row(name.replace("_", " "), _number(score.value), chance)
    for name, probability in sorted((figures.heard or {}).items(), key=lambda item: -item[1]):
        if name == subject.target or probability >= 0.05:
            before = (figures.source_heard or {}).get(name)
            note = "" if before is None else f"source {before:.2f}"
            is_target = " (target)" if name == subject.target else ""
            table.add_row(Text(f"heard as {name}{is_target}"), f"{probability:.2f}", note)
    for name, value in figures.quality.items():
        low_high = figures.typical.get(name)
        typical = f"typical {_number(low_high[0])} to {_number(low_high[2])}" if low_high else ""
        table.add_row(name.replace("_", " "), _number(value), typical)
    env.write_table(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _evaluate_model(
    env: Environment, requested: str | None, data: Path, device: str, *, is_json: bool
) -> None:
    from core.data.domain import SPLITS, load_domains
    from core.evaluation import evaluate_model

    prepared = load_domains(data, None)
    found, header = choose_model(env, requested, [])
    known = [domain for domain in prepared if domain.name in header.domains]
    if not known:
        raise UsageError(
            f"{data} has {', '.join(domain.name for domain in prepared)}, "
            f"{found.name} knows {', '.join(header.domains)}: nothing in common"
        )
    for domain in prepared:
        if domain not in known:
            env.notice(f"{domain.name} is unknown to {found.name}: left out")
    names = [domain.name for domain in known]
    translator = load_translator(found, names, device)
    rows = list(evaluate_model(translator, known, SPLITS))
    if not rows:
        raise AudioError(f"{data} holds no audio")
    figure = translator.family_description.figure
    chance = 1 / len(header.classified)
    if is_json:
        facts = {"model": found.name, "id": header.id, "figure": figure, "chance": chance}
        env.write_json("eval", {**facts, "results": [asdict(row) for row in rows]})
    else:
        _show_model(env, rows, figure, chance)


def _show_model(env: Environment, rows: list[DomainFigures], figure: str, chance: float) -> None:
    from rich.table import Table

    unit = f"{figure} ({', '.join(rows[0].yardsticks)})"
    table = Table("domain", "split", box=None)
    for heading in ("minutes", unit, f"confusion accuracy (chance {chance:.2f})"):
        table.add_column(heading, justify="right")
    for row in rows:
        accuracy = "-" if row.confusion_accuracy is None else f"{row.confusion_accuracy:.2f}"
        yardsticks = ", ".join(f"{value:.2f}" for value in row.yardsticks.values())
        cells = (f"{row.minutes:.1f}", f"{row.figure:.3f} ({yardsticks})", accuracy)
        table.add_row(row.domain, row.split, *cells)
    env.write_table(table)


def _evaluate_paired(
    env: Environment, requested: str | None, directory: Path, device: str, *, is_json: bool
) -> None:
    from core.evaluation import evaluate_paired

    if not directory.is_dir():
        raise UsageError(f"--paired {directory}: not a directory")
    found, header = choose_model(env, requested, [])
    translator = load_translator(found, header.domains, device)
    rows: list[PairFigures] = []
    with Progress(env, "comparing", None, unit="translations") as progress:
        for row in evaluate_paired(translator, directory):
            rows.append(row)
            progress.advance(1)
    if is_json:
        facts = {"model": found.name, "id": header.id}
        env.write_json("eval", {**facts, "results": [asdict(row) for row in rows]})
    else:
        _show_paired(env, rows)


def _show_paired(env: Environment, rows: list[PairFigures]) -> None:
    """Show means over pieces for each source and target, and over everything."""
    from rich.table import Table

    table = Table("source", "target", box=None)
    for heading in (
        "chroma (other music, true)",
        "distance dB (copy, other rendering)",
        "heard as target (true)",
        "harmonic share (true)",
    ):
        table.add_column(heading, justify="right")
    groups: dict[tuple[str, str], list[PairFigures]] = {}
    for row in rows:
        groups.setdefault((row.source, row.target), []).append(row)
    for names, group in [*groups.items(), (("all", ""), rows)]:
        table.add_row(*names, *_paired_cells(group))
    env.write_table(table)


def _paired_cells(rows: list[PairFigures]) -> list[str]:
    def mean(name: str, digits: int = 2) -> str:
        values = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        return f"{sum(values) / len(values):.{digits}f}" if values else "-"

    return [
        f"{mean('chroma')} ({mean('chroma_chance')}, {mean('chroma_true')})",
        f"{mean('distance_db', 1)} ({mean('distance_copy_db', 1)}, {mean('distance_other_db', 1)})",
        f"{mean('heard_as_target')} ({mean('true_heard_as_target')})",
        f"{mean('harmonic_share')} ({mean('harmonic_share_true')})",
    ]
