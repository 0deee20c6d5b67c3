"""nn~, which plays models in Max and Pure Data: `write_nn_tilde` writes the file that it loads.

Its contract, as nn~ 1.6 has it: a method maps float32 [batch, channels, t / ratio] to the same,
with NAME_params for channels and ratios; an attribute X has get_X, set_X and X_params, its type.
"""
# Without `from __future__ import annotations`: TorchScript reads the types of attributes.

import math
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from core.export.live import LiveTranslator, live_translator
from core.files import atomic_write
from core.translator import Translator

BOOL, INT, FLOAT, STRING = range(4)  # types of attributes
FURTHEST_SEMITONES = 48.0
LARGEST_GAIN_DB = 60.0


class NnTilde(nn.Module):
    """What nn~ calls.

    Args:
        live: The model.
    """

    forward_params: Tensor
    encode_params: Tensor
    decode_params: Tensor

    def __init__(self, live: LiveTranslator) -> None:
        super().__init__()
        latent_labels = [f"(signal) {name}" for name in live.latent_names]
        self.live = live
        self.hop_length = live.hop_length
        self.furthest, self.largest_gain_db = FURTHEST_SEMITONES, LARGEST_GAIN_DB
        self.gain_db = 0.0
        hop, n_channels = live.hop_length, len(latent_labels)
        methods = {
            "forward": (1, 1, 1, 1),
            "encode": (1, 1, n_channels, hop),
            "decode": (n_channels, hop, 1, 1),
        }
        self.methods = list(methods)
        sides = {"input": 0, "output": 2}
        for method, params in methods.items():
            self.register_buffer(f"{method}_params", torch.tensor(params))
            for side, place in sides.items():
                audio = ["(signal) audio"] if side == "input" else ["(signal) translation"]
                labels = latent_labels if params[place] > 1 else audio
                setattr(self, f"{method}_{side}_labels", labels)
        attributes = {
            "target": STRING,
            "mix": FLOAT,
            "transpose": FLOAT,
            "gain": FLOAT,
            "sample_rate": INT,
            "reset": BOOL,
        }
        self.attributes = list(attributes)
        for name, kind in attributes.items():
            self.register_buffer(f"{name}_params", torch.tensor([kind]))

    def forward(self, x: Tensor) -> Tensor:
        """Translate float [B, 1, t] at the host's rate to the same."""
        result: Tensor = self.live(x[:, 0]).unsqueeze(1)
        return result

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        """Map float [B, 1, L * hop] at the model's rate to latents, float [B, D, L]."""
        latents: list[Tensor] = []
        for own in x[:, 0].split(self.hop_length, dim=1):  # type: ignore[no-untyped-call]
            latents.append(self.live.networks.encode(own * self.live.gain))  # type: ignore[operator]
        return torch.cat(latents, dim=1).transpose(1, 2)

    @torch.jit.export
    def decode(self, x: Tensor) -> Tensor:
        """Map latents, float [B, D, L], to float [B, 1, L * hop] at the model's rate."""
        parts: list[Tensor] = []
        for own in x.transpose(1, 2).split(1, dim=1):  # type: ignore[no-untyped-call]
            moved = self.live.networks.transpose(own, self.live.semitones)  # type: ignore[operator]
            parts.append(self.live.networks.decode(moved, self.live.shares))  # type: ignore[operator]
        return torch.cat(parts, dim=1).unsqueeze(1)

    @torch.jit.export
    def get_methods(self) -> list[str]:
        return self.methods

    @torch.jit.export
    def get_attributes(self) -> list[str]:
        return self.attributes

    @torch.jit.export
    def set_sample_rate(self, sample_rate: int) -> int:
        """Set the host's rate in Hz, which Max does by itself."""
        return 0 if self.live.set_rate(sample_rate) else -1

    @torch.jit.export
    def get_sample_rate(self) -> list[int]:
        return [self.live.host_rate]

    @torch.jit.export
    def get_target(self) -> list[str]:
        return [self.live.target()]

    @torch.jit.export
    def set_target(self, target: str) -> int:
        return 0 if self.live.set_target(target) else -1

    @torch.jit.export
    def get_mix(self) -> list[float]:
        return [self.live.mix]

    @torch.jit.export
    def set_mix(self, mix: float) -> int:
        if not 0 <= mix <= 1:
            return -1
        self.live.mix = mix
        return 0

    @torch.jit.export
    def get_transpose(self) -> list[float]:
        return [self.live.semitones]

    @torch.jit.export
    def set_transpose(self, semitones: float) -> int:
        if not -self.furthest <= semitones <= self.furthest:
            return -1
        self.live.semitones = semitones
        return 0

    @torch.jit.export
    def get_gain(self) -> list[float]:
        return [self.gain_db]

    @torch.jit.export
    def set_gain(self, gain_db: float) -> int:
        """Set the gain of what the encoder is given, in dB."""
        if not -self.largest_gain_db <= gain_db <= self.largest_gain_db:
            return -1
        self.gain_db = gain_db
        self.live.gain = math.pow(10.0, gain_db / 20)
        return 0

    @torch.jit.export
    def get_reset(self) -> list[bool]:
        return [False]

    @torch.jit.export
    def set_reset(self, wanted: bool) -> int:
        if wanted:
            self.live.reset()
        return 0


def write_nn_tilde(
    model: Translator, targets: list[str], path: Path, *, overwrite: bool = False, seed: int = 0
) -> LiveTranslator:
    """Write a model that nn~ loads.

    Args:
        model: The model, with the decoders of the targets.
        targets: Domains to export; the first is played first.
        path: The file, whose name ends in .ts for nn~.
        overwrite: Whether an existing file is replaced.
        seed: Of random draws.

    Returns:
        What was written.

    Raises:
        UsageError: As `live_translator`.
        FileExistsError: The file exists.
    """
    live = live_translator(model, targets, seed=seed)
    scripted = script(NnTilde(live).eval())
    with atomic_write(path, overwrite=overwrite) as part:
        torch.jit.save(scripted, str(part))
    return live


def script(module: nn.Module) -> torch.jit.ScriptModule:
    """Compile a module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted: torch.jit.ScriptModule = torch.jit.script(module)
    return scripted
