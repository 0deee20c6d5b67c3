"""A run's folder: what it was started with, its lock, its log.

runs/NAME/run.json           configuration, domains, data: what must not change
runs/NAME/checkpoints/       to continue from
runs/NAME/model.safetensors  the model as of the last validation, or of stopping
runs/NAME/best.safetensors   the model of the validation with the lowest mean held-out figure
runs/NAME/log.jsonl          one record a line, cut back on continuing
runs/NAME/events.out.*       the same for TensorBoard, with audio
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from core.errors import TrainingError, UsageError
from core.files import atomic_write, exclusive_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from core.config import Config
    from core.data.domain import Domain

RUN_FILE = "run.json"
LOG_FILE = "log.jsonl"
BEST_FILE = "best.safetensors"
FREE_KEYS = ("steps", "accumulate")  # of a configuration, which a run's next call may change


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run for this process alone; the lock ends with the process.

    Raises:
        TrainingError: Another process holds it, or the folder cannot be written.
    """
    busy = TrainingError(f"{run}: another process is training this run")
    with ExitStack() as stack:
        try:
            run.mkdir(parents=True, exist_ok=True)
            stack.enter_context(exclusive_lock(run / "lock", busy))
        except OSError as error:
            raise TrainingError(f"{run}: cannot write here: {error.strerror}") from error
        yield


def check_same_run(
    run: Path, config: Config, domains: Sequence[Domain], lineage: Mapping[str, Any] | None = None
) -> None:
    """Write `run.json`, or check that this is the run that it describes.

    The number of steps may change, and the parts of an update, which add up to the same; everything
    else would make it another run.

    Args:
        run: The run's folder.
        config: The configuration.
        domains: The domains that are trained.
        lineage: Of a run that begins with a model, or adds a domain to one.

    Raises:
        UsageError: The run was started with something else, which is named.
    """
    now: dict[str, Any] = {
        "config": config.to_dict(),
        "domains": {domain.name: _fingerprint(domain) for domain in domains},
        "parent": lineage["parent"]["id"] if lineage else None,
        "added": lineage.get("added") if lineage else None,
        "like": lineage.get("like") if lineage else None,
    }
    path = run / RUN_FILE
    if not path.exists():
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(now, indent=1))
        return
    then = json.loads(path.read_text())
    difference = _config_difference(then["config"], now["config"])
    if difference is None and then["domains"].keys() != now["domains"].keys():
        difference = f"domains {', '.join(then['domains'])}, now {', '.join(now['domains'])}"
    if difference is None:
        for name, data in now["domains"].items():
            if then["domains"][name] != data:
                difference = f"other recordings of {name}"
    for key in ("parent", "added", "like"):
        if difference is None and then.get(key) != now[key]:
            difference = f"{key} {then.get(key) or 'none'}, now {now[key] or 'none'}"
    if difference is not None:
        raise UsageError(
            f"{run} was started with {difference}; choose another --run, or delete this one"
        )


def _config_difference(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    if then["preset"] != now["preset"]:
        return f"preset {then['preset']}, now {now['preset']}"
    for section in ("model", "confusion", "distortion", "training"):
        # Through JSON, where tuples are lists as in the file.
        current = json.loads(json.dumps(now[section]))
        for key, value in current.items():
            if key not in FREE_KEYS and then[section].get(key) != value:
                return f"{section}.{key} = {then[section].get(key)}, now {value}"
    return None


def _fingerprint(domain: Domain) -> str:
    """Return a hash of which audio a domain holds, how it is split, and its renditions."""
    content: list[Any] = [domain.sample_rate, _contents(domain)]
    if domain.renditions is not None:
        content.append(_contents(domain.renditions))
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _contents(domain: Domain) -> list[tuple[str, str]]:
    return sorted((track.source_sha256, str(track.parts)) for track in domain.tracks)


def cut_log(run: Path, step: int) -> None:
    """Drop the log's records of later steps, which will be written again."""
    path = run / LOG_FILE
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue  # the last line of a killed run may be half a line
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept))
