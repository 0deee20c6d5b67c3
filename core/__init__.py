"""Universal music translation: one shared encoder, one decoder per domain.

The library behind the `umt` command. Importing it loads nothing heavy: torch comes in
with the first name that needs it.

Shape letters used in every docstring: B batch, T samples, L latent frames, D latent
dimensions, C channels, Q mu-law classes, K domains.

Example:
    translator = core.Translator.load("model.safetensors")
    piano = translator.translate(waveform, 44100, to="piano")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.translator import Translator

__version__ = "0.2.0"
__all__ = ["Translator", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Translator":
        return import_module("core.translator").Translator
    raise AttributeError(f"module 'core' has no attribute {name!r}")
