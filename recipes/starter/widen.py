"""Carry the weights of a starter over to networks that hear and play more.

    python recipes/starter/widen.py OLD.safetensors widened.safetensors

The first starter had no pitch latents, and oscillators up to 10 kHz. The result has the keys'
pitches, oscillators to 16 kHz, the pretrained salience and what follows its onsets, noise of
strikes, and the weights of the old model where both have them; what is new begins untrained.
`umt train --from` trains on from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from core.config import SpectralConfig
from core.families.spectral.salience import N_KEYS
from core.presets import get_preset
from core.translator import Translator

# The pretrained salience stays as the package brings it, and notes are struck by its onsets.
NEW = ("encoder.salience.", ".voices.struck")
LIKE_THE_HIGHEST = 40  # oscillators whose mean correction the new ones above them begin with


def widen(old: Translator) -> Translator:
    """Return a model of preset `fast` with the weights of an older one."""
    config = get_preset("fast")
    new = Translator.create(config, old.domains)
    known = old.state_dict()
    weights = {}
    for name, fresh in new.state_dict().items():
        is_new = name not in known or any(part in name for part in NEW)
        weights[name] = fresh if is_new else _fitted(name, known[name], fresh, old)
    new.load_state_dict(weights)
    new.level_db, new.training_record = old.level_db, {"parent": old.training_record}
    new.training_record |= {"steps": 0, "updates": old.training_record.get("updates", {})}
    return new


def _fitted(name: str, old: Tensor, fresh: Tensor, model: Translator) -> Tensor:
    if old.shape == fresh.shape:
        return old
    if name.rpartition(".head.")[1]:
        return _fitted_head(old, fresh, model)
    if name.endswith((".voices.output.weight", ".voices.output.bias", ".voices.own")):
        return _fitted_envelopes(old, fresh)
    # Inputs: the pitches come after presences and onsets, or last among a key's features.
    axis = next(i for i, (a, b) in enumerate(zip(old.shape, fresh.shape, strict=True)) if a != b)
    first = 2 * N_KEYS if old.shape[axis] > N_KEYS else old.shape[axis]
    shape = list(old.shape)
    shape[axis] = fresh.shape[axis] - old.shape[axis]
    parts = old.split([first, old.shape[axis] - first], dim=axis)
    return torch.cat([parts[0], old.new_zeros(shape), parts[1]], dim=axis)


def _fitted_envelopes(old: Tensor, fresh: Tensor) -> Tensor:
    """Add an envelope after those of the timbres: of a table, or of a layer's outputs."""
    if old.dim() == 3 and old.shape[0] == 2:
        return torch.cat([old, fresh[:, old.shape[1] :]], dim=1)
    model_config = get_preset("fast").model
    assert isinstance(model_config, SpectralConfig)
    shape = (2 * model_config.downsampling, -1)
    own, added = old.unflatten(0, shape), fresh.unflatten(0, shape)
    return torch.cat([own, added[:, own.shape[1] :]], dim=1).flatten(0, 1)


def _fitted_head(old: Tensor, fresh: Tensor, model: Translator) -> Tensor:
    model_config = model.config.model
    assert isinstance(model_config, SpectralConfig)
    n_old = (old.shape[0] // model_config.downsampling - model_config.noise_bands) // 2
    rows = old.unflatten(0, (model_config.downsampling, -1))
    n_new = (fresh.shape[0] // model_config.downsampling - model_config.noise_bands) // 2
    amplitude, deviation, noise = rows.split([n_old, n_old, model_config.noise_bands], dim=1)
    more = (model_config.downsampling, n_new - n_old, *old.shape[1:])
    above = amplitude[:, -LIKE_THE_HIGHEST:].mean(1, keepdim=True).expand(more)
    parts = [amplitude, above, deviation, old.new_zeros(more), noise]
    return torch.cat(parts, dim=1).flatten(0, 1)


def main() -> None:
    """Read the command line and write the model."""
    parser = argparse.ArgumentParser(description="Carry weights over to wider networks.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    widen(Translator.load(options.old)).save(options.new)


if __name__ == "__main__":
    main()
