"""The WaveNet family: the paper's networks, autoregressive over 8-bit mu-law codes."""

from __future__ import annotations

from core.families.base import Family
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.encoder import WaveNetEncoder
from core.families.wavenet.sampling import WaveNetOptions

FAMILY = Family(
    encoder=WaveNetEncoder,
    decoder=WaveNetDecoder,
    options=WaveNetOptions,
    figure="bits/sample",
)
