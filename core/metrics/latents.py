"""What latents contain: ideally the music, and not the instrument.

`probe_accuracy`: how often an independent probe finds the domain of a held-out segment from its
    latents. The probe is a linear classifier (multinomial logistic regression) on mean, spread and
    mean absolute change over time of each channel. It is trained afterwards on latents of the
    training split: the encoder may defeat its own domain confusion network and still encode the
    domain. Alain & Bengio 2017, "Understanding intermediate layers using linear classifier
    probes". Range 0 to 1; chance is one over the number of domains, and every domain counts alike.
    Lower means that the latents hold less of the instrument.
`note_test`: the paper's test (Mor et al. 2019, section 4): one note on many instruments against
    different notes on one instrument. `same_note` and `same_instrument` are mean cosine distances
    of latents averaged over a note, from their common mean; 0 to 2. `auc` is how often a pair of
    one note is closer than a pair of different notes: 1 means that latents encode notes, 0.5 that
    the instrument counts as much. `core.metrics.tones` synthesises the notes.

Conventions: fewer than two domains, instruments or notes, and latents that do not differ at all,
give None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from core.metrics.intervals import separation

if TYPE_CHECKING:
    from collections.abc import Sequence

WEIGHT_DECAY = 1e-2
N_ITERATIONS = 50


def probe_accuracy(
    training: Sequence[torch.Tensor], heldout: Sequence[torch.Tensor]
) -> float | None:
    """Return how often a probe finds the domain of held-out segments.

    Args:
        training: For each domain latents float [N, L, D] of training segments.
        heldout: The same of held-out segments, in the same order.
    """
    if len(training) < 2 or not all(map(len, [*training, *heldout])):
        return None
    values, labels = _features(training)
    mean, spread = values.mean(dim=0), values.std(dim=0).clamp_min(1e-6)
    weights = _fit((values - mean) / spread, labels, len(training))
    tested, truth = _features(heldout)
    guesses = _logits((tested - mean) / spread, weights).argmax(dim=1)
    right = (guesses == truth).double()
    return float(torch.stack([right[truth == k].mean() for k in range(len(heldout))]).mean())


def _features(domains: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float64 [N, 3 D] of all segments, and their domains int64 [N]."""
    parts = []
    for latents in domains:
        own = latents.double()
        change = own.diff(dim=1).abs().mean(dim=1) if own.shape[1] > 1 else own[:, 0] * 0
        parts.append(torch.cat([own.mean(dim=1), own.std(dim=1, correction=0), change], dim=1))
    labels = [torch.full((len(part),), k) for k, part in enumerate(parts)]
    return torch.cat(parts), torch.cat(labels)


def _fit(values: torch.Tensor, labels: torch.Tensor, n_domains: int) -> torch.Tensor:
    """Return weights [3 D + 1, K] of a logistic regression."""
    with torch.enable_grad():
        weights = torch.zeros(values.shape[1] + 1, n_domains, dtype=values.dtype)
        weights.requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weights], max_iter=N_ITERATIONS, line_search_fn="strong_wolfe"
        )

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(_logits(values, weights), labels)
            loss = loss + WEIGHT_DECAY * weights[:-1].square().sum() / 2
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def _logits(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return values @ weights[:-1] + weights[-1]


@dataclass(frozen=True)
class NoteTest:
    """Distances of latents of notes.

    Attributes:
        same_note: Mean over pairs of instruments playing one note.
        same_instrument: Mean over pairs of notes played by one instrument.
        auc: How often the former is smaller than the latter.
    """

    same_note: float
    same_instrument: float
    auc: float


def note_test(latents: torch.Tensor) -> NoteTest | None:
    """Compare one note on many instruments with many notes on one instrument.

    Args:
        latents: float [I, N, D], of I instruments and N notes, each averaged over the note.
    """
    n_instruments, n_notes, _ = latents.shape
    if min(n_instruments, n_notes) < 2:
        return None
    centred = latents.double() - latents.double().mean(dim=(0, 1))
    norms = centred.norm(dim=2, keepdim=True)
    if float(norms.max()) < 1e-9:
        return None
    directions = centred / norms.clamp_min(1e-12)
    same_note = _pair_distances(directions.transpose(0, 1))
    same_instrument = _pair_distances(directions)
    auc = separation(same_instrument.tolist(), same_note.tolist())
    assert auc is not None
    return NoteTest(float(same_note.mean()), float(same_instrument.mean()), auc)


def _pair_distances(directions: torch.Tensor) -> torch.Tensor:
    """Return the cosine distances of all pairs within each group, of unit vectors [G, N, D]."""
    cosines = directions @ directions.transpose(1, 2)
    rows, columns = torch.triu_indices(cosines.shape[1], cosines.shape[1], offset=1)
    return (1 - cosines[:, rows, columns]).flatten()
