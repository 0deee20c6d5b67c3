"""Turn a trained run into the starter model of the package.

    python recipes/starter/ship.py runs/starter corpus/data corpus/takes-data

Writes `core/pretrained/starter.safetensors` (half precision) and `timbre.safetensors`, the
target classifier that `umt eval` uses. That is trained on what each domain's own takes of the
train split sound like, in several fonts and rooms: one font alone would teach it that font.
"""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.data.domain import Domain, load_domains
from core.metrics.timbre.training import train_classifier
from core.model_file import MODEL_FILE
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Iterator

PRETRAINED = Path(__file__).resolve().parents[2] / "core" / "pretrained"


def own_takes(domain: Domain) -> Iterator[np.ndarray]:
    """Yield a domain's own takes of its tracks of the train split, float32 [T] each."""
    assert domain.renditions is not None
    takes = domain.renditions_of_tracks()
    for track in domain.tracks:
        if any(part.split == "train" for part in track.parts):
            for take in takes.get(track.source, ()):
                if PurePosixPath(take.source).name.startswith(f"{domain.name}--"):
                    stored = np.load(domain.renditions.directory / take.file, mmap_mode="r")
                    yield stored.astype(np.float32) / 32768


def main() -> None:
    """Read the command line and write both files."""
    parser = argparse.ArgumentParser(description="Make the bundled model from a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("takes", type=Path)
    options = parser.parse_args()
    Translator.load(options.run / MODEL_FILE).save(
        PRETRAINED / "starter.safetensors", dtype=torch.float16
    )
    domains = load_domains(options.data, None, renditions=options.takes)
    classifier = train_classifier(
        {domain.name: own_takes(domain) for domain in domains},
        domains[0].sample_rate,
        seed=0,
    )
    classifier.save(PRETRAINED / "timbre.safetensors")


if __name__ == "__main__":
    main()
