"""What a model makes of held-out segments of one domain, in training and when it is evaluated.

In: a translator and segments. Out: their latents, the family's figure, and how often the
confusion network names the domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from core.translator import Translator

# More of them fill memory that the system clears at each use: with eight items of three seconds
# that took up to a quarter of the time.
BATCH_ITEMS = 2


@dataclass(frozen=True)
class HeldOut:
    """What was found out about segments of one domain.

    Attributes:
        latents: float [N, L, D].
        figure: The family's held-out figure, mean over segments.
        figure_of_others: The same with the latents of another segment, for decoders that hear
            their own past: what is lost is what they take from the latents. None for others.
        confusion_accuracy: Share of segments whose domain the confusion network names; None for
            a domain that was added to a trained model, which that network does not know.
    """

    latents: Tensor
    figure: float
    figure_of_others: float | None
    confusion_accuracy: float | None


@torch.no_grad()
def hear(model: Translator, name: str, waveform: Tensor) -> HeldOut:
    """Encode and decode segments of a domain, a few at a time.

    Args:
        model: With the domain's decoder, ready for inference.
        name: The domain.
        waveform: float32 [N, T], T a multiple of the hop length.
    """
    decoder = model.decoders[name]
    hears_past = decoder.n_codes > 0 and len(waveform) > 1
    latents: list[Tensor] = []
    figure, of_others, right = 0.0, 0.0, 0
    for part in torch.split(waveform, BATCH_ITEMS):
        on_device = part.to(model.device)
        encoded = model.encoder(on_device)
        figure += len(part) * float(decoder.heldout_figure(encoded, on_device))
        if hears_past:
            # A last segment that is alone gets those of the one before it.
            other = encoded.roll(1, 0) if len(part) > 1 else latents[-1][:1]
            of_others += len(part) * float(decoder.heldout_figure(other, on_device))
        found = model.classifier(encoded).argmax(1)
        right += int((found == model.domains.index(name)).sum())
        latents.append(encoded)
    accuracy = right / len(waveform) if name in model.classified else None
    n_items = len(waveform)
    others = of_others / n_items if hears_past else None
    return HeldOut(torch.cat(latents), figure / n_items, others, accuracy)
