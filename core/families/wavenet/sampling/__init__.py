"""Sampling from a WaveNet decoder: latents to waveform.

`generation` opens an engine, `reading` reads latents ahead, `sharing` cuts them into chunks
(`chunks`), has the engine advance many of them side by side, and joins the results (`joining`).
Engines do the same with different means: `reference` plainly, `cpu` and `cuda` in batches of
matrix products.
"""

from core.families.wavenet.sampling.generation import generate
from core.families.wavenet.sampling.options import WaveNetOptions

__all__ = ["WaveNetOptions", "generate"]
