"""Train the starter's search for notes by itself, on what the scores say was played.

    python recipes/starter/pretrain.py corpus/data corpus/takes-data salience.safetensors

Some minutes of one core. The notes' network is small and all keys share it, so it learns within
hundreds of updates which tones are notes and which are their overtones; decoders then learn from
notes from their first update on. `widen.py` puts the result into a model.

One item in six is played by pure tones: hardly an instrument has them, but a whistle does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.config import SpectralConfig
from core.data.dataset import Item, Segments, make_item
from core.data.domain import load_domains
from core.data.score import score_roll
from core.families.spectral.losses import score_loss
from core.families.spectral.salience import (
    N_KEYS,
    SHARP_WINDOWS,
    PitchGrid,
    Salience,
    at_fundamentals,
)
from core.presets import get_preset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PURE_SHARE = 1 / 6
PURE_RMS = (0.02, 0.2)
RISE_SECONDS = 0.03  # of a pure tone
N_ITEMS = 4  # of an update
PEAK_RATE, WARM_UP = 1.5e-3, 50
# A key that is played is about as present as its fundamental is loud: at most this much less or
# more, in presences of 40 dB, or all that keys have to do is to be above the floor.
LESS, MORE = 0.1, 0.3


def pure_tones(
    notes: NDArray[np.float32], n_samples: int, rate: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Play notes by sines, float32 [T]; some have a little of the octave."""
    total = np.zeros(n_samples)
    octave = rng.uniform(0, 0.1)
    for start, end, key, velocity, _ in notes:
        first, last = (int(np.clip(t * rate, 0, n_samples)) for t in (start, end))
        time = np.arange(first, last) / rate
        envelope = np.clip(np.minimum(time - start, end - time) / RISE_SECONDS, 0, 1)
        phase = 2 * np.pi * 440 * 2 ** ((key - 69) / 12) * time
        total[first:last] += velocity * envelope * (np.sin(phase) + octave * np.sin(2 * phase))
    rms = float(np.sqrt(np.mean(total**2)))
    level = np.exp(rng.uniform(*np.log(PURE_RMS))) / max(rms, 1e-6)
    return np.clip(level * total, -1, 1).astype(np.float32)


def draw_items(sources: Sequence[Segments], n: int, seed: int) -> list[Item]:
    """Draw training items that have a score, with distortions of preset `fast`."""
    distortion = get_preset("fast").distortion
    items: list[Item] = []
    number = 0
    while len(items) < n:
        segments = sources[number % len(sources)]
        item = make_item(segments, distortion, (seed, number))
        rng = np.random.default_rng((seed, number, 1))
        number += 1
        if item.notes is None or not len(item.notes):
            continue
        # A bent note is several rows, which would be heard as several tones.
        if rng.random() < PURE_SHARE and item.notes[:, 4].all():
            source = pure_tones(item.notes, segments.length, segments.sample_rate, rng)
            item = Item(source, item.target, item.notes)
        items.append(item)
    return items


def anchor(presence: Tensor, grid: Tensor, score: Tensor) -> Tensor:
    """Return how far played keys are from the levels of their fundamentals, a scalar."""
    away = presence - at_fundamentals(grid)
    outside = (-LESS - away).relu() + (away - MORE).relu()
    return (outside * (score[:, :, 0] > 0)).sum(2).mean()


def train(salience: Salience, items: Sequence[Item], n_steps: int) -> None:
    """Train in place."""
    config = get_preset("fast").model
    rate, hop = config.sample_rate, config.hop_length
    grid = PitchGrid(rate, hop)
    sharp_grid = PitchGrid(rate, hop // salience.frames_per_latent, SHARP_WINDOWS)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(salience.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98))
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / WARM_UP) * (1 - step / n_steps)
        chosen = [items[i] for i in rng.integers(len(items), size=N_ITEMS)]
        waveform = torch.from_numpy(np.stack([item.source for item in chosen]))
        with torch.no_grad():
            levels, sharp = grid(waveform), sharp_grid(waveform)
        rolls = [
            score_roll(item.notes, levels.shape[1], hop / rate)
            for item in chosen
            if item.notes is not None
        ]
        score = torch.from_numpy(np.stack(rolls))
        assert score.shape[3] == N_KEYS
        presence, onset = salience(levels, sharp)
        loss = score_loss(presence.tanh(), onset.tanh(), score)
        held = anchor(presence, levels, score)
        optimizer.zero_grad()
        (loss + held).backward()
        torch.nn.utils.clip_grad_norm_(salience.parameters(), 5.0)
        optimizer.step()
        if (step + 1) % 20 == 0:
            print(f"{step + 1}/{n_steps}: notes {loss:.3f}, levels {held:.3f}", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the search for notes by itself.")
    parser.add_argument("data", type=Path)
    parser.add_argument("takes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--begin", type=Path, help="an earlier result to go on from")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    config = get_preset("fast")
    sources = [
        Segments(domain, "train", sample_rate=44100, length=config.segment_length)
        for domain in load_domains(options.data, None, renditions=options.takes)
    ]
    model = config.model
    assert isinstance(model, SpectralConfig)
    salience = Salience(model.salience_channels, model.downsampling, explains_overtones=True)
    if options.begin:
        salience.load_state_dict(load_file(options.begin))
    train(salience, draw_items(sources, options.items, options.seed), options.steps)
    save_file(salience.state_dict(), options.out)


if __name__ == "__main__":
    main()
