"""Turn a trained run into the starter model of the package.

    python recipes/starter/ship.py runs/starter

Writes `core/pretrained/starter.safetensors` in half precision. The classifier of `umt eval` is
trained by `recipes/calibration/train.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from core.model_file import MODEL_FILE
from core.translator import Translator

PRETRAINED = Path(__file__).resolve().parents[2] / "core" / "pretrained"


def main() -> None:
    """Read the command line and write the model."""
    parser = argparse.ArgumentParser(description="Make the bundled model from a run.")
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    Translator.load(options.run / MODEL_FILE).save(
        PRETRAINED / "starter.safetensors", dtype=torch.float16
    )


if __name__ == "__main__":
    main()
