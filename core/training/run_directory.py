"""A run's folder: what it was started with, its lock, its models and checkpoints.

runs/NAME/run.json           configuration, domains, data: what must not change
runs/NAME/checkpoints/       to continue from: weights, optimizers, and `RunProgress`
runs/NAME/model.safetensors  the model as of the last validation, or of stopping
runs/NAME/README.md          the model's page (`core.training.model_card`), unless it was edited
runs/NAME/.gitignore         what is not to be shared, also for the Hugging Face Hub
runs/NAME/best.safetensors   the model of the validation with the lowest mean held-out figure
runs/NAME/log.jsonl          one record a line, cut back on continuing
runs/NAME/events.out.*       the same for TensorBoard, with audio

A checkpoint is complete or absent, and enough to continue exactly: items, distortions and noise
are functions of seed and step.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from core.config import Config
from core.errors import TrainingError, UsageError, is_out_of_memory
from core.files import atomic_write, exclusive_lock
from core.key_range import KeyRange  # noqa: TC001 (`build` reads the annotations)
from core.model_file import MODEL_FILE
from core.parsing import build, parse_json
from core.training.model_card import CARD_FILE, may_replace, model_card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from core.data.domain import Domain
    from core.translator import Translator

RUN_FILE = "run.json"
BEST_FILE = "best.safetensors"
KEPT_CHECKPOINTS = 2  # the newest may turn out to be damaged
NOT_SHARED = ("checkpoints/", "lock", "events.out.tfevents.*", "wandb/")
FREE_KEYS = ("steps", "accumulate")  # of a configuration, which a run's next call may change


@dataclass
class RunProgress:
    """How far a run has come: what a checkpoint stores beside weights and optimizers.

    Attributes:
        step: Updates done since the run began.
        seconds: Of training, over all calls.
        figures: Of the last validation.
        best: Step and mean held-out figure of the best validation; empty before the first.
        is_due: Whether a validation at this step was put off by a request to stop.
        losses: Of the updates since the last record of the log.
        ranges: Keys of the trained domains, as far as they are known.
    """

    step: int = 0
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    best: dict[str, int | float] = field(default_factory=dict)
    is_due: bool = False
    losses: dict[str, list[float]] = field(default_factory=dict)
    ranges: dict[str, KeyRange] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.step < 0 or self.seconds < 0:
            raise ValueError("negative step or seconds")
        if self.best and self.best.keys() != {"step", "figure"}:
            raise ValueError("best has no step and figure")
        if not all(self.losses.values()):
            raise ValueError("losses without values")

    @classmethod
    def from_checkpoint(cls, state: Mapping[str, Any]) -> RunProgress:
        """Take it from a checkpoint's state.

        Raises:
            TrainingError: The state is of another kind.
        """
        # Earlier versions stored more, and some less.
        names = [item.name for item in dataclasses.fields(cls)]
        stored = {name: state[name] for name in names if name in state}
        return build(cls, stored, "", error=TrainingError)

    def is_best(self) -> bool:
        """Tell whether the figures are better than all before, and remember them if so."""
        heldout = [value for name, value in self.figures.items() if name.startswith("validation/")]
        if not heldout:
            return False
        figure = sum(heldout) / len(heldout)
        if self.best and figure >= self.best["figure"]:
            return False
        self.best = {"step": self.step, "figure": figure}
        return True


@dataclass(frozen=True)
class _RunFile:
    """What `run.json` holds; see `RunDirectory.check`."""

    config: dict[str, Any]
    domains: dict[str, str]
    parent: str | None = None
    added: str | None = None
    like: str | None = None
    id: str = ""


class RunDirectory:
    """A run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / MODEL_FILE
        self.checkpoints = path / "checkpoints"

    @property
    def id(self) -> str:
        """What tells this run from all others; empty for runs of earlier versions."""
        return _read_run_file(self.path / RUN_FILE).id

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process alone; the lock ends with the process.

        Raises:
            TrainingError: Another process holds it, or the folder cannot be written.
        """
        held = TrainingError(f"{self.path}: another process is training this run")
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive_lock(self.path / "lock", held))
            except OSError as error:
                raise TrainingError(f"{self.path}: cannot write here: {error.strerror}") from error
            yield

    def check(self, config: Config, domains: Sequence[Domain], lineage: Mapping[str, Any]) -> None:
        """Write `run.json`, or check that this is the run that it describes.

        The number of steps may change, and the parts of an update, which add up to the same;
        everything else would make it another run.

        Args:
            config: The configuration.
            domains: The domains that are trained.
            lineage: The result of `core.training.warm_start.lineage`.

        Raises:
            UsageError: The run was started with something else, which is named.
            TrainingError: `run.json` cannot be read or written, or is damaged.
        """
        now = _RunFile(
            config=_plain(config),
            domains={domain.name: _fingerprint(domain) for domain in domains},
            parent=lineage["parent"]["id"] if lineage else None,
            added=lineage.get("added"),
            like=lineage.get("like"),
            id=secrets.token_hex(4),
        )
        path = self.path / RUN_FILE
        # Written once and never changed: it is what later calls are compared with.
        if not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(dataclasses.asdict(now), indent=1))
            return
        difference = _difference(_read_run_file(path), now)
        if difference is not None:
            raise UsageError(
                f"{self.path} was started with {difference}; choose another --run, or delete "
                "this one"
            )

    def save(
        self,
        model: Translator,
        progress: RunProgress,
        state: Mapping[str, Any],
        *,
        is_best: bool = False,
    ) -> bool:
        """Write the model file with its page, and a checkpoint; older ones but one are removed.

        Args:
            model: With its training record.
            progress: How far the run has come.
            state: Weights and optimizers: tensors, numbers, strings, dicts and lists of those.
            is_best: Whether the model is the best yet.

        Returns:
            Whether the page is that of this model: an edited one stays as it is.

        Raises:
            TrainingError: A file cannot be written.
        """
        try:
            model.save(self.model)
            if is_best:
                model.save(self.path / BEST_FILE)
            is_described = self._write_page(model)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{self.path}: cannot save the model: {error}") from error
        save_checkpoint(self.checkpoints, progress.step, {**dataclasses.asdict(progress), **state})
        return is_described

    def _write_page(self, model: Translator) -> bool:
        """Write what makes the folder ready to be shared, as far as nobody else has."""
        ignored = self.path / ".gitignore"
        if not ignored.exists():
            with atomic_write(ignored) as temporary:
                temporary.write_text("".join(f"{name}\n" for name in NOT_SHARED), encoding="utf-8")
        page = self.path / CARD_FILE
        if not may_replace(page):
            return False
        with atomic_write(page) as temporary:
            text = model_card(model, self.path.absolute().name)
            temporary.write_text(text, encoding="utf-8", newline="\n")
        return True

    def restore(
        self, load: Callable[[dict[str, Any]], None], notice: Callable[[str], None]
    ) -> bool:
        """Continue from the newest checkpoint that can be used; see `restore_newest`."""
        return restore_newest(self.checkpoints, load, notice)


def save_checkpoint(directory: Path, step: int, state: dict[str, Any]) -> None:
    """Write the checkpoint of a step and remove all but the newest few.

    Args:
        directory: The run's folder for checkpoints; made if it is missing.
        step: Updates done.
        state: Tensors, numbers, strings, and dicts and lists of those.

    Raises:
        TrainingError: It cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with atomic_write(directory / f"step-{step:09d}.pt") as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise TrainingError(
            f"{directory}: cannot save the checkpoint of step {step}: {error}; free some space "
            "and run the same command again, it continues from the one before"
        ) from error
    for old in list_checkpoints(directory)[KEPT_CHECKPOINTS:]:
        old.unlink()


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    return sorted(directory.glob("step-*.pt"), reverse=True)


def restore_newest(
    directory: Path, load: Callable[[dict[str, Any]], None], notice: Callable[[str], None]
) -> bool:
    """Restore the newest checkpoint that is whole and of this run.

    Args:
        directory: The run's folder for checkpoints.
        load: Called with a checkpoint's state; raises where it does not fit. What it has changed
            by then is overwritten by the next one.
        notice: Called with a line for each checkpoint that cannot be used.

    Returns:
        Whether there is a checkpoint.

    Raises:
        TrainingError: There are checkpoints, and none can be used.
    """
    paths = list_checkpoints(directory)
    for path in paths:
        try:
            _check_sums(path)
            load(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # whatever a damaged or foreign file makes torch raise
            if is_out_of_memory(error):
                raise
            reason = (str(error).strip().splitlines() or [""])[0]
            notice(
                f"{path} is damaged or of another run ({type(error).__name__}: {reason}); trying "
                "the one before"
            )
            continue
        return True
    if paths:
        raise TrainingError(
            f"{directory}: all checkpoints are damaged or of another run; delete the run to "
            "restart, or choose another --run"
        )
    return False


def _check_sums(path: Path) -> None:
    """Raise unless the file's parts are as they were written; torch stores CRCs unread."""
    with zipfile.ZipFile(path) as parts:
        damaged = parts.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)


def _read_run_file(path: Path) -> _RunFile:
    advice = "choose another --run, or delete this one"
    try:
        values = parse_json(path.read_bytes(), f"{path}: ", error=TrainingError)
        found = build(_RunFile, values, f"{path}: ", error=TrainingError, ignores_unknown=True)
        # Also to give keys that are newer than the run their defaults.
        config = _plain(Config.from_dict(found.config))
    except OSError as error:
        raise TrainingError(f"{path}: cannot read this: {error.strerror}; {advice}") from error
    except UsageError as error:
        raise TrainingError(f"{path}: {error}; {advice}") from error
    except TrainingError as error:
        raise TrainingError(f"{error}; {advice}") from error
    return dataclasses.replace(found, config=config)


def _plain(config: Config) -> dict[str, Any]:
    """Return a configuration as JSON has it, with lists and without tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    return plain


def _difference(then: _RunFile, now: _RunFile) -> str | None:
    """Return what is not as it was when the run was started, or None."""
    if (difference := _config_difference(then.config, now.config)) is not None:
        return difference
    if then.domains.keys() != now.domains.keys():
        return f"domains {', '.join(then.domains)}, now {', '.join(now.domains)}"
    for name, data in now.domains.items():
        if then.domains[name] != data:
            return f"other recordings of {name}"
    for key in ("parent", "added", "like"):
        before, after = getattr(then, key), getattr(now, key)
        if before != after:
            return f"{key} {before or 'none'}, now {after or 'none'}"
    return None


def _config_difference(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    if then["preset"] != now["preset"]:
        return f"preset {then['preset']}, now {now['preset']}"
    for section in ("model", "confusion", "distortion", "training"):
        for key, value in now[section].items():
            before = then[section].get(key)
            if key not in FREE_KEYS and before != value:
                return f"{section}.{key} = {before}, now {value}"
    return None


def _fingerprint(domain: Domain) -> str:
    """Return a hash of which audio a domain holds, how it is split, and its renditions."""
    content: list[Any] = [domain.sample_rate, _contents(domain)]
    if domain.renditions is not None:
        content.append(_contents(domain.renditions))
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _contents(domain: Domain) -> list[tuple[str, str]]:
    return sorted((track.source_sha256, str(track.parts)) for track in domain.tracks)
