"""Turn a trained run into the starter model of the package.

    python recipes/starter/ship.py runs/starter corpus/data

Writes `core/pretrained/starter.safetensors` (half precision) and `timbre.safetensors`, the
target classifier that `umt eval` uses, trained on the train split of the same data.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from core.data.domain import load_domains
from core.evaluation.judge import recordings
from core.metrics.timbre_training import train_classifier
from core.model import Translator
from core.modelfile import MODEL_FILE

PRETRAINED = Path(__file__).resolve().parents[2] / "core" / "pretrained"


def main() -> None:
    """Read the command line and write both files."""
    parser = argparse.ArgumentParser(description="Make the bundled model from a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    Translator.load(options.run / MODEL_FILE).save(
        PRETRAINED / "starter.safetensors", dtype=torch.float16
    )
    domains = load_domains(options.data, None)
    classifier = train_classifier(
        {domain.name: list(recordings(domain, "train")) for domain in domains},
        domains[0].sample_rate,
        seed=0,
    )
    classifier.save(PRETRAINED / "timbre.safetensors")


if __name__ == "__main__":
    main()
