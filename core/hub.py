"""Models on the Hugging Face Hub, by name: `hf:owner/name[@revision][/file]`. Loads no torch.

In: a name. Out: the path of a safetensors file in the hub's own cache, downloaded if it is not
there. No other kind of file is asked for, whatever a repository holds. Repositories that are
private are read with the token that `hf auth login` or HF_TOKEN has set; it is in no message:
errors of the hub's library, which may quote headers and URLs, are neither shown nor chained.
"""

from __future__ import annotations

import errno
import logging
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from core.errors import ModelError, UmtError, UsageError
from core.parsing import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "hf:"
DEFAULT_FILE = "model.safetensors"
_SUFFIX = ".safetensors"
_NAME = re.compile(
    r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@\s]+))?(?:/(?P<file>\S.*))?"
)
_MAX_LISTED = 10  # files of a repository that a message names
_REFUSALS = (401, 403, 404)


@dataclass(frozen=True)
class HubModel:
    """What names a model on the hub.

    Attributes:
        repository: owner/name.
        revision: A branch, tag or commit; None for the main branch.
        file: Path in the repository.
    """

    repository: str
    revision: str | None = None
    file: str = DEFAULT_FILE

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        file = "" if self.file == DEFAULT_FILE else f"/{self.file}"
        return f"{PREFIX}{self.repository}{revision}{file}"


def parse_hub_name(name: str) -> HubModel:
    """Return what a name stands for.

    Args:
        name: `hf:owner/name[@revision][/file]`.

    Raises:
        UsageError: It is written otherwise, or names a file that is not safetensors.
    """
    found = _NAME.fullmatch(name)
    file = (found["file"] if found else None) or DEFAULT_FILE
    if found is None or not {*file.split("/")}.isdisjoint({"", ".", ".."}) or "\\" in file:
        raise UsageError(f"{shortened(name)}: expected hf:owner/name[@revision][/file]")
    if not file.endswith(_SUFFIX):
        raise UsageError(
            f"{shortened(name)}: models are {_SUFFIX} files, and nothing else is loaded"
        )
    return HubModel(found["repository"], found["revision"], file)


def cached_model(model: HubModel) -> Path | None:
    """Return the file as it was downloaded last, without a look at the network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(model.repository, model.file, revision=model.revision)
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def download_model(model: HubModel, *, is_quiet: bool = False) -> Path:
    """Return the newest file of that name, or the one in the cache where there is no network.

    Args:
        model: The model.
        is_quiet: Whether the library's bar is hidden.

    Raises:
        UsageError: There is no such repository, revision or file, or it is private.
        ModelError: The hub cannot be reached and the file is not in the cache; or the download
            fails.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    repository, file, revision = model.repository, model.file, model.revision
    with _library_silenced(is_quiet=is_quiet):
        try:
            if cached_model(model) is None:
                # Asked first, because a download tries for half a minute to reach a hub.
                get_hf_file_metadata(hf_hub_url(repository, file, revision=revision))
            return Path(hf_hub_download(repository, file, revision=revision))
        except Exception as error:
            raise _failure(model, error) from None


@contextmanager
def _library_silenced(*, is_quiet: bool) -> Iterator[None]:
    """Hide meanwhile what the library logs, which repeats errors and passes on servers' texts."""
    from huggingface_hub import utils

    logger = logging.getLogger("huggingface_hub")
    level, is_hidden = logger.level, utils.are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    if is_quiet:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if is_quiet and not is_hidden:
            utils.enable_progress_bars()


def _failure(model: HubModel, error: Exception) -> UmtError:
    """Return the error of one line for what the library raised; it has none of its text."""
    from huggingface_hub import constants, errors

    host = urlsplit(constants.ENDPOINT).hostname or "the hub"
    status = getattr(getattr(error, "response", None), "status_code", None)
    missing = f"and the model is not in the cache ({constants.HF_HUB_CACHE})"
    kind: type[UmtError] = UsageError
    match error:
        case errors.HFValidationError():
            text = "the hub has no such names"
        case errors.RevisionNotFoundError():
            text = f"{model.repository} has no revision {model.revision or 'main'}"
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled():
            kind = ModelError
            text = f"{host} was not asked (HF_HUB_OFFLINE), {missing}"
            if not constants.HF_HUB_OFFLINE:
                text = f"{host} cannot be reached, {missing}; download it where there is a network"
        case errors.EntryNotFoundError():
            text = f"{model.repository} has no {model.file}{_others(model)}"
        case _ if status in _REFUSALS:
            text = (
                f"{host} has no such repository, or it is private or gated; check the name, or "
                "log in with `hf auth login`"
            )
        case UnicodeError():  # it would quote the token
            text = "the token in HF_TOKEN, or of `hf auth login`, has characters that none has"
        case _ if status is not None:
            kind, text = ModelError, f"{host} answered with status {status}; try again later"
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            kind = ModelError
            text = (
                f"cannot be stored in {constants.HF_HUB_CACHE} ({error.strerror}); set HF_HOME to "
                "a directory with room"
            )
        case _:
            kind = ModelError
            text = (
                f"{host} cannot be reached ({type(error).__name__}), {missing}; download it where "
                "there is a network"
            )
    return kind(f"{model}: {text}")


def _others(model: HubModel) -> str:
    """Return which files could be meant, for an error; nothing if the hub does not tell."""
    from huggingface_hub import list_repo_files

    try:
        files = list_repo_files(model.repository, revision=model.revision)
    except Exception:  # the error is reported all the same
        return ""
    models = sorted(file for file in files if file.endswith(_SUFFIX))
    if not models:
        return f", nor any other {_SUFFIX} file; nothing else is loaded"
    names = [str(HubModel(model.repository, model.revision, file)) for file in models[:_MAX_LISTED]]
    return f"; name one of {', '.join(names)}"
