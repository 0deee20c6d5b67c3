"""`umt train`: prepared domains in, a run with its model out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UsageError
from umtcli import options
from umtcli.completion import (
    complete_domains_of_parent,
    complete_models,
    complete_presets,
    complete_trackers,
    complete_training_devices,
)
from umtcli.models import find
from umtcli.processes import use_own_cores
from umtcli.training_process import STOPS, limited_memory, stop_requests

if TYPE_CHECKING:
    from core.config import Config
    from core.training.loop import TrainingResult
    from core.training.warm_start import WarmStart
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
            help="Prepared renditions of the same performances on other instruments, as further "
            "inputs of the encoder: those of x.wav in a folder x, aligned to the sample.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_presets,
            help="fast (default), small, paper, paper-code or tiny.",
        ),
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
            help="A model to begin with, or that --add-domain adds to, also hf:owner/name; its "
            "file stays as it is.",
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
    log_with: Annotated[
        str,
        typer.Option(
            metavar="TRACKER",
            autocompletion=complete_trackers,
            help="Where to watch the run: tensorboard, wandb or trackio. log.jsonl is always "
            "written.",
        ),
    ] = "tensorboard",
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            autocompletion=complete_training_devices,
            help="auto or cpu; CUDA_VISIBLE_DEVICES chooses among GPUs.",
        ),
    ] = "auto",
    is_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a model, or continue a run that exists.

    One step is one update. The run's folder holds checkpoints to continue from, log.jsonl,
    TensorBoard events with audio, model.safetensors, which is written at each validation and on
    stopping, with a README.md for sharing it, and best.safetensors, the model with the lowest
    held-out figures. Ctrl-C and
    SIGTERM stop after the update that is being made, or after a part of it, and save all finished
    updates; a second one stops at once. Started by `accelerate launch`, the same command trains
    on all its processes.

    With --from a new model begins with MODEL's encoder and its decoders of the same domains,
    and all of it learns. With --add-domain, too, one new decoder is trained on MODEL's encoder as
    it is, and the result has MODEL's domains, unchanged, and the new one.
    """
    env = options.settle(ctx, quiet=quiet, verbose=verbose)
    if device not in ("auto", "cpu"):
        raise UsageError(
            f"--device {device}: training takes auto or cpu; CUDA_VISIBLE_DEVICES chooses GPUs"
        )
    with warnings.catch_warnings(), stop_requests() as should_stop:
        warnings.simplefilter("ignore")  # torch's own remarks on the machine's drivers
        from core.data.domain import load_domains
        from core.training.loop import train
        from umtcli.training_progress import ConsoleReporter

        warm_start = _warm_start(env, from_model, add_domain, like, preset=preset, domains=domains)
        chosen = _configure(
            warm_start, preset, config, steps=steps, batch_size=batch_size, seed=seed
        )
        directory = run_directory or Path("runs") / (add_domain or chosen.preset)
        wanted = [add_domain] if add_domain else domains.split(",") if domains else None
        prepared = load_domains(data, wanted, renditions=takes)
        reporter = ConsoleReporter(env, chosen)
        use_own_cores()
        with limited_memory(), reporter:
            result = train(
                chosen,
                prepared,
                directory,
                reporter=reporter,
                max_minutes=max_minutes,
                should_stop=should_stop,
                device=device,
                warm_start=warm_start,
                log_with=log_with,
            )
    if result.is_main:
        _show_result(env, result, reporter.last_validation, is_json=is_json)
    if result.stopped_by in STOPS:
        raise typer.Exit(STOPS[result.stopped_by])


def _show_result(
    env: Environment, result: TrainingResult, validation: dict[str, Any], *, is_json: bool
) -> None:
    holds = f"holds the model of step {result.step}"
    nothing = "is not there yet: stopped in the first update"
    env.notice(f"{result.model} {holds if result.model.exists() else nothing}")
    if is_json:
        facts = {"model": str(result.model), "step": result.step, "stopped_by": result.stopped_by}
        env.write_json("train", {**facts, "validation": validation})


def _warm_start(
    env: Environment,
    from_model: str | None,
    added: str | None,
    like: str | None,
    **others: str | None,
) -> WarmStart | None:
    """Return what --from, --add-domain and --like ask for.

    Raises:
        UsageError: Options do not go together.
    """
    if added is None and like is not None:
        raise UsageError(f"--like {like} needs --add-domain NAME, the domain to add")
    if added is not None:
        if from_model is None:
            raise UsageError(f"--add-domain {added} needs --from MODEL, the model to add it to")
        for option, value in others.items():
            if value is not None:
                raise UsageError(
                    f"--{option} {value} does not go with --add-domain: it trains one decoder, "
                    "built like those of --from"
                )
    if from_model is None:
        return None
    from core.data.domain import check_domain_name
    from core.training.warm_start import WarmStart

    path = find(env, from_model).path
    return WarmStart(path, None if added is None else check_domain_name(added), like)


def _configure(
    warm_start: WarmStart | None, preset: str | None, file: Path | None, **changes: int | None
) -> Config:
    """Return the preset, or the base model's configuration, as the file and options change it."""
    from core.config import read_config
    from core.presets import DEFAULT_PRESET, get_preset
    from core.training.warm_start import base_config

    if warm_start is not None and preset is None:
        chosen = base_config(warm_start)
    else:
        chosen = get_preset(preset or DEFAULT_PRESET)
    if file is not None:
        chosen = read_config(file, chosen)
    given = {name: value for name, value in changes.items() if value is not None}
    return chosen.updated("training", **given)
