"""Train twenty updates in float64: `python in_double_precision.py FAMILY DATA RUN`.

A program, since `accelerate launch` starts programs; training itself knows float32 and bf16 only.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState

from core.data.dataset import Batch
from core.data.domain import load_domains
from core.training import loop
from core.training.logging import Reporter
from tests.core.training.conftest import count_updates, spectral_config, stop_after, tiny_config

UPDATES = 20
CONFIGS = {
    "wavenet": tiny_config(steps=1000, clip_norm=1.0),
    "spectral": spectral_config(steps=1000, batch_size=4, weight_decay=0.01),
}


def main() -> None:
    family, data, run = sys.argv[1:]
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    count_updates()
    move = Batch.to

    def move_in_float64(self: Batch, device: torch.device) -> Batch:
        moved = move(self, device)
        return replace(moved, source=moved.source.double(), target=moved.target.double())

    Batch.to = move_in_float64  # type: ignore[method-assign]
    # Stopped before a validation, which is in float32.
    loop.train(
        CONFIGS[family],
        load_domains(Path(data), None),
        Path(run),
        reporter=Reporter(),
        should_stop=stop_after(UPDATES),
        device="cpu",
    )
    sys.stdout.write(f"{PartialState().num_processes}\n")


if __name__ == "__main__":
    main()
