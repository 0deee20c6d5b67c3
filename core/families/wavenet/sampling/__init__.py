"""Sampling from a WaveNet decoder: latents to waveform.

`generation` opens an engine. `prefetch` reads latents ahead; `scheduler` cuts them into chunks
(`chunks`), has the engine advance many of them side by side, and joins the results (`crossfade`).
The engines share one interface (`engine`): `reference` computes in plain steps, `cpu` and `cuda`
in batches of matrix products (`batch`) on weights prepared for that (`weights`).
"""

from core.families.wavenet.sampling.generation import ENGINES, WaveNetOptions, generate

__all__ = ["ENGINES", "WaveNetOptions", "generate"]
