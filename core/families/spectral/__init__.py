"""The spectral family: feed-forward networks on frames that drive oscillators and noise."""

from __future__ import annotations

from core.families.base import Family, NoteLatents
from core.families.spectral.decoder import SpectralDecoder, SpectralOptions
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.transposition import OctaveFold, count_notes, transpose

FAMILY = Family(
    encoder=SpectralEncoder,
    decoder=SpectralDecoder,
    options=SpectralOptions,
    figure="STFT distance",
    is_stereo=True,
    notes=NoteLatents(transpose=transpose, fold=OctaveFold, count=count_notes),
)
