"""Turn a trained run into the starter model of the package.

    python recipes/starter/ship.py runs/starter

Writes `core/pretrained/starter.safetensors` in half precision, with the keys that the instruments
have, beyond which no recording plays. The classifier of `umt eval` is
trained by `recipes/calibration/train.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from domains import DOMAINS

from core.key_range import KeyRange
from core.model_file import MODEL_FILE
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Iterable

PRETRAINED = Path(__file__).resolve().parents[2] / "core" / "pretrained"


def main() -> None:
    """Read the command line and write the model."""
    parser = argparse.ArgumentParser(description="Make the bundled model from a run.")
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    model = Translator.load(options.run / MODEL_FILE)
    model.ranges = instrument_ranges(model.domains)
    model.save(PRETRAINED / "starter.safetensors", dtype=torch.float16)


def instrument_ranges(domains: Iterable[str]) -> dict[str, KeyRange]:
    """Return the keys of domains that `domains.py` lists."""
    return {name: KeyRange(DOMAINS[name].low, DOMAINS[name].high) for name in domains}


if __name__ == "__main__":
    main()
