"""The timbre classifier of an evaluation: the shipped one, or one of the user's own domains.

The shipped classifier covers the starter model's domains. For others one is trained on the train
split of prepared data and cached there as `timbre.safetensors`, until that data changes.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError

from core.data.samples import reading
from core.errors import ModelError
from core.metrics.timbre import TimbreClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from core.data.domain import Domain

CACHE_NAME = "timbre.safetensors"


def shipped_classifier() -> TimbreClassifier:
    """Load the classifier that is shipped with the starter model."""
    return TimbreClassifier.load(Path(str(files("core.pretrained"))) / CACHE_NAME)


def classifier_of(
    domains: Sequence[Domain], directory: Path, *, notice: Callable[[str], None] = lambda _: None
) -> TimbreClassifier:
    """Return the classifier of prepared domains, from the cache or newly trained.

    Args:
        domains: At least two.
        directory: The prepared data; the classifier is cached in it if it can be written to.
        notice: Called with a line when training (a minute or two) begins, and when its result
            cannot be cached.

    Raises:
        DataError: A single domain, or one with less than 32 s of sound.
    """
    path = directory / CACHE_NAME
    fingerprint = _fingerprint(domains)
    if path.is_file():
        try:
            cached = TimbreClassifier.load(path)
        except ModelError:  # of another version, or damaged: it can be trained again
            cached = None
        if cached is not None and cached.training.get("data") == fingerprint:
            return cached
    from core.metrics.timbre.training import train_classifier

    notice("training a timbre classifier on the prepared domains, once")
    with reading(domains):
        classifier = train_classifier(
            {domain.name: list(recordings(domain, "train")) for domain in domains},
            domains[0].sample_rate,
        )
    classifier.training["data"] = fingerprint
    try:
        classifier.save(path)
    except (OSError, SafetensorError) as error:  # a read-only folder, or a full disk
        reason = getattr(error, "strerror", None) or error
        notice(f"{path} cannot be written ({reason}): the classifier is not kept")
    return classifier


def recordings(domain: Domain, split: str) -> Iterator[NDArray[np.int16]]:
    """Yield the recordings of a split, int16 [T] each, mapped from their files."""
    for track in domain.tracks:
        stored = np.load(domain.directory / track.file, mmap_mode="r")
        for part in track.parts:
            if part.split == split:
                yield stored[part.start : part.stop]


def _fingerprint(domains: Sequence[Domain]) -> str:
    """Return a hash of the recordings that the classifier is trained on."""
    facts = [
        [
            domain.name,
            domain.sample_rate,
            [
                [track.source_sha256, part.start, part.stop]
                for track in domain.tracks
                for part in track.parts
                if part.split == "train"
            ],
        ]
        for domain in domains
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
