"""The domain confusion network, and the only place where its term has a sign.

In: latents. Out: the classifier's loss and the encoder's confusion term. The classifier
predicts the domain from the latents; the encoder is trained to defeat it (Mor et al. 2019,
sec. 3.2), so that the latents keep the music and lose the instrument.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from core.config import ConfusionConfig


class DomainClassifier(nn.Module):
    """Three ELU layers, then one logit per domain, averaged over time.

    The paper's layers see single frames. What separates a plucked string from a bowed one lies
    between frames, so a longer kernel can find more for the encoder to remove.
    """

    def __init__(self, latent_dim: int, n_domains: int, config: ConfusionConfig) -> None:
        super().__init__()
        widths = [latent_dim, config.channels, config.channels, config.channels]
        self.layers = nn.ModuleList(
            nn.Conv1d(c_in, c_out, config.kernel_size, padding=config.kernel_size // 2)
            for c_in, c_out in pairwise(widths)
        )
        self.output = nn.Conv1d(config.channels, n_domains, 1)

    def forward(self, latents: Tensor) -> Tensor:
        """Classify latents.

        Args:
            latents: float [B, L, D].

        Returns:
            Logits, float [B, K].
        """
        x = latents.transpose(1, 2)
        for layer in self.layers:
            x = F.elu(layer(x))
        logits: Tensor = self.output(x).mean(dim=2)
        return logits


def classifier_loss(logits: Tensor, domain_ids: Tensor) -> Tensor:
    """Return the loss that the classifier minimises: its cross entropy in nats.

    Args:
        logits: float [B, K].
        domain_ids: int64 [B].
    """
    return F.cross_entropy(logits, domain_ids)


def confusion_loss(logits: Tensor, domain_ids: Tensor, config: ConfusionConfig) -> Tensor:
    """Return the weighted term that the encoder adds to its loss.

    Args:
        logits: float [B, K], from latents that carry gradient.
        domain_ids: int64 [B].
        config: Weight and objective. `negated` is the paper's minus lambda times the
            classifier's loss; `uniform` has a minimum, where the classifier is undecided,
            and so cannot be won by making latents that are confidently wrong.
    """
    if config.objective == "negated":
        return -config.weight * F.cross_entropy(logits, domain_ids)
    return -config.weight * F.log_softmax(logits, dim=1).mean()
