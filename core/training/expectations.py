"""What can be said of a run before its losses say it: lines for its user, where there is need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.presets import DEFAULT_PRESET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from core.config import Config
    from core.data.dataset import Batches

FEWEST_MINUTES = 5.0  # of training audio a domain, and
FEWEST_UPDATES = 300  # of a decoder, below which a user is warned
LONG_RUN_SECONDS = 7 * 86400


def of_addition(lineage: Mapping[str, Any]) -> str:
    """Say what is trained and what is not; see `core.training.adding.lineage`."""
    like = f", from the one of {lineage['like']}" if lineage["like"] else ""
    others = ", ".join(lineage["parent"]["domains"])
    return (
        f"training a decoder for {lineage['added']}{like}; the encoder and the decoders of "
        f"{others} stay as they are"
    )


def of_parent(lineage: Mapping[str, Any], domains: Iterable[str]) -> str:
    """Say what a run begins with; see `core.training.parent.ancestry`."""
    known = lineage["parent"]["domains"]
    common = [name for name in domains if name in known]
    decoders = f"the decoders of {', '.join(common)}" if common else "no decoder"
    return f"beginning with the encoder and {decoders} of model {lineage['parent']['id']}"


def of_one_domain(name: str) -> str:
    """Say what one domain alone does not have."""
    return f"only one domain ({name}): training without the confusion term"


def of_minutes(minutes: Mapping[str, float]) -> Iterator[str]:
    """Warn of domains with too little training audio to learn an instrument from."""
    few = [f"{name} {value:.1f}" for name, value in minutes.items() if value < FEWEST_MINUTES]
    if few:
        yield (
            f"minutes of training audio: {', '.join(few)}; with less than {FEWEST_MINUTES:g} "
            "expect noise, or what was recorded over and over: add recordings"
        )


def of_steps(steps: int, batches: Batches) -> Iterator[str]:
    """Warn of a run that ends before a decoder can be more than noise."""
    n_updates = steps * batches.groups // len(batches.segments)
    if n_updates < FEWEST_UPDATES:
        yield (
            f"{steps} steps are {n_updates} updates of a decoder; with less than "
            f"{FEWEST_UPDATES} expect noise"
        )


def of_duration(config: Config, seconds_left: float, *, is_free: bool) -> Iterator[str]:
    """Warn, after the first update, of a run that would take more than a week.

    What begins with a model is built like it: it is not free to choose another preset.
    """
    if seconds_left > LONG_RUN_SECONDS:
        is_fast = not is_free or config.preset == DEFAULT_PRESET
        faster = "" if is_fast else f"--preset {DEFAULT_PRESET} learns within hours on a CPU, and "
        yield (
            f"at the speed of the first update the {config.training.steps} steps of preset "
            f"{config.preset} take about {seconds_left / 86400:.0f} days on this machine; "
            f"{faster}--max-minutes stops in time (the run can be continued)"
        )
