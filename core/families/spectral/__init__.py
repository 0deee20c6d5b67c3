"""The spectral family: feed-forward networks on frames that drive oscillators and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.families.base import Family, NoteLatents
from core.families.spectral.decoder import SpectralDecoder, SpectralOptions
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.transposition import OctaveFold, count_notes, transpose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from core.families.base import Decoder, Encoder
    from core.key_range import KeyRange


def _live(
    encoder: Encoder,
    decoders: Sequence[Decoder[SpectralOptions]],
    ranges: Sequence[KeyRange | None],
    seed: int,
) -> nn.Module:
    from core.families.spectral.torchscript import LiveNetworks

    assert isinstance(encoder, SpectralEncoder)
    own = [decoder for decoder in decoders if isinstance(decoder, SpectralDecoder)]
    return LiveNetworks(encoder.config, encoder, own, ranges, seed)


FAMILY = Family(
    encoder=SpectralEncoder,
    decoder=SpectralDecoder,
    options=SpectralOptions,
    figure="STFT distance",
    is_stereo=True,
    notes=NoteLatents(transpose=transpose, fold=OctaveFold, count=count_notes),
    live=_live,
)
