"""`umt train`: prepared domains in, a run with its model out."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.completion import complete_domains_of_parent, complete_models
from umtcli.errors import ExitCode, describe, exit_code, show_traceback
from umtcli.memory import limited_memory
from umtcli.training_report import ConsoleReporter
from umtcli.training_stops import STOPS, one_speaks, stop_requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.config import Config
    from core.training.adding import Addition
    from core.training.loop import TrainingResult
    from umtcli.console import Environment

EXAMPLES = """\
umt train
umt train --preset small --domains piano,strings --run runs/duo
umt train --from starter --run runs/better --steps 2000
umt train --add-domain flute --from starter --like strings
accelerate launch -m umtcli train --preset paper
"""


def run(
    ctx: typer.Context,
    *,
    data: Annotated[
        Path, typer.Option(metavar="DATA", help="Where `umt prep` put the domains.")
    ] = Path("data"),
    domains: Annotated[
        str | None, typer.Option(metavar="A,B", help="Domains to train; all by default.")
    ] = None,
    takes: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Prepared takes of the same performances on other instruments, for the encoder "
            "to hear: those of x.wav in a folder x, aligned to the sample.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="fast (default), small, paper, paper-code or tiny."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file that changes values of the preset."),
    ] = None,
    run_directory: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="DIR",
            help="The run's folder; runs/PRESET by default, runs/NAME with --add-domain.",
        ),
    ] = None,
    add_domain: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Domain of DATA to add to a trained model."),
    ] = None,
    from_model: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            autocompletion=complete_models,
            help="A model to begin with, or that --add-domain adds to; its file stays as it is.",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="DOMAIN",
            autocompletion=complete_domains_of_parent,
            help="Start the added domain's decoder from the model's decoder for DOMAIN.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Updates in all; the preset's own.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Items of an update, over all processes.")
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            metavar="M",
            min=0,
            help="Validate, save and stop before M minutes of training are over.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of weights and items; the preset's.")
    ] = None,
    device: options.Device = "auto",
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a model, or continue a run that exists.

    One step is one update. The run's folder holds checkpoints to continue from, log.jsonl,
    TensorBoard events with audio, model.safetensors, which is written at each validation and on
    stopping, and best.safetensors, the model with the lowest held-out figures. Ctrl-C and
    SIGTERM save all finished updates and stop within 20 s. Started by `accelerate launch`, the
    same command trains on all its processes.

    With --from a new model begins with MODEL's encoder and its decoders of the same domains,
    and all of it learns. With --add-domain, too, one new decoder is trained on MODEL's encoder as
    it is, and the result has MODEL's domains, unchanged, and the new one.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    if device not in ("auto", "cpu"):
        raise UsageError(
            f"--device {device}: training takes auto or cpu; CUDA_VISIBLE_DEVICES chooses GPUs"
        )
    with warnings.catch_warnings(), stop_requests() as stopped_by, one_speaks(env, stopped_by):
        warnings.simplefilter("ignore")  # torch's own remarks on the machine's drivers
        from core.data.domain import load_domains
        from core.training.loop import train

        parent = _find(from_model)
        addition = _addition(add_domain, parent, like, preset=preset, domains=domains)
        base = _base(addition, parent, preset)
        chosen = _configure(base, config, steps=steps, batch_size=batch_size, seed=seed)
        directory = run_directory or Path("runs") / (addition.name if addition else chosen.preset)
        wanted = [addition.name] if addition else domains.split(",") if domains else None
        prepared = load_domains(data, wanted, renditions=takes)
        reporter = ConsoleReporter(env, chosen)
        with limited_memory(), reporter:
            result = train(
                chosen,
                prepared,
                directory,
                reporter=reporter,
                max_minutes=max_minutes,
                should_stop=stopped_by,
                leave=lambda save: _leave(env, reporter, save, is_json=is_json),
                device=device,
                addition=addition,
                parent=None if addition else parent,
            )
    code = _tell(env, reporter, result, is_json=is_json)
    if code != ExitCode.DONE:
        raise typer.Exit(code)


def _tell(
    env: Environment, reporter: ConsoleReporter, result: TrainingResult, *, is_json: bool
) -> ExitCode:
    """Say how training ended; return the exit code."""
    if result.is_main:
        holds = f"holds the model of step {result.step}"
        nothing = "is not there yet: stopped in the first update"
        env.notice(f"{result.model} {holds if result.model.exists() else nothing}")
    if is_json and result.is_main:
        facts = {"model": str(result.model), "step": result.step, "stopped_by": result.stopped_by}
        env.write_json("train", {**facts, "validation": reporter.last_validation})
    return STOPS.get(result.stopped_by, ExitCode.DONE)


def _leave(
    env: Environment,
    reporter: ConsoleReporter,
    save: Callable[[], TrainingResult],
    *,
    is_json: bool,
) -> NoReturn:
    """End the process while its main thread is deep in an update, where no exception reaches it."""
    code: int = ExitCode.FAILED
    try:
        result = save()
        env.close_bar()
        code = _tell(env, reporter, result, is_json=is_json)
    except Exception as error:
        show_traceback(env, error)
        env.error(describe(error))
        code = exit_code(error)
    finally:
        os._exit(code)


def _find(model: str | None) -> Path | None:
    from core.model_file import find_model

    return None if model is None else find_model(model, [], cwd=Path.cwd()).path


def _addition(
    name: str | None, parent: Path | None, like: str | None, **others: str | None
) -> Addition | None:
    """Return what --add-domain asks for; raise where options do not go together."""
    if name is None:
        if like is not None:
            raise UsageError(f"--like {like} needs --add-domain NAME, the domain to add")
        return None
    if parent is None:
        raise UsageError(f"--add-domain {name} needs --from MODEL, the model to add it to")
    for option, value in others.items():
        if value is not None:
            raise UsageError(
                f"--{option} {value} does not go with --add-domain: it trains one decoder, built "
                "like those of --from"
            )
    from core.data.domain import check_domain_name
    from core.training.adding import Addition

    return Addition(check_domain_name(name), parent, like)


def _base(addition: Addition | None, parent: Path | None, preset: str | None) -> Config:
    """Return the configuration that --config and other options change."""
    from core.presets import DEFAULT_PRESET, get_preset
    from core.training.adding import config_for
    from core.training.parent import config_of

    if addition is not None:
        return config_for(addition)
    if parent is not None and preset is None:
        return config_of(parent)
    return get_preset(preset or DEFAULT_PRESET)


def _configure(chosen: Config, file: Path | None, **changes: int | None) -> Config:
    from core.config import read_config

    if file is not None:
        chosen = read_config(file, chosen)
    given = {name: value for name, value in changes.items() if value is not None}
    return chosen.updated("training", **given)
