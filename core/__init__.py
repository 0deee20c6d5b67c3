"""Universal music translation: one shared encoder, one decoder per domain.

The library behind the `umt` command. Importing it loads nothing heavy: torch comes in
with the first name that needs it.

Shape letters used in every docstring: B batch, T samples, L latent frames, D latent
dimensions, C channels, Q mu-law classes, K domains.

Example:
    >>> import numpy as np
    >>> import core
    >>> model = core.Translator.load("starter", domains=["organ", "piano"])
    >>> model
    Translator(family='spectral', sample_rate=44100, domains=('organ', 'piano'), device='cpu')
    >>> waveform = 0.1 * np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    >>> model.translate(waveform, 22050, to="piano").shape
    (44100,)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.audio.reader import open_audio, read_audio
    from core.devices import available_devices
    from core.errors import UmtError
    from core.latents import blend, mix
    from core.translator import Translator

__version__ = "0.2.0"
__all__ = [
    "Translator",
    "UmtError",
    "__version__",
    "available_devices",
    "blend",
    "mix",
    "open_audio",
    "read_audio",
]
_MODULES = {
    "Translator": "core.translator",
    "UmtError": "core.errors",
    "available_devices": "core.devices",
    "blend": "core.latents",
    "mix": "core.latents",
    "open_audio": "core.audio.reader",
    "read_audio": "core.audio.reader",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
