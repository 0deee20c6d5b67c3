"""The timbre classifier itself: a small network, what it knows of its domains, one file.

In: audio, as features of windows of two seconds. Out: a probability of each domain, embeddings.
`core.metrics.timbre` says what they mean, `core.metrics.timbre_training` makes a classifier.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from core.errors import ModelError
from core.files import atomic_write
from core.metrics.spectra import at_analysis_rate
from core.metrics.timbre_features import (
    FEATURES_VERSION,
    N_FEATURES,
    features,
    window_spectra,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

METADATA_KEY = "umt_timbre"
FORMAT_VERSION = 1
HIDDEN_SIZE, EMBEDDING_SIZE = 64, 16
FEATURE_LIMIT = 4.0  # standard deviations; what is stranger than that is just strange
SCORING_HOP_SECONDS = 1
QUALITY_PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class DomainReference:
    """What a domain's training audio is like.

    Attributes:
        mean: float32 [16], of the embeddings of its windows.
        covariance: float32 [16, 16], of the same.
        samples: float32 [N, 16], some of these embeddings.
        rolloff_hz: frequency below which 99 % of its energy lies.
        quality: the 5th, 50th and 95th percentile of each figure of `core.metrics.quality` over
            excerpts of 10 s; a figure that no excerpt has is missing.
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    samples: torch.Tensor
    rolloff_hz: float
    quality: Mapping[str, tuple[float, float, float]]

    @cached_property
    def kernel_width(self) -> float:
        """Median distance of two of its samples."""
        return float(torch.pdist(self.samples.double()).median().clamp_min(1e-6))

    @cached_property
    def likeness_within(self) -> float:
        """Mean kernel of two of its samples."""
        samples = self.samples.double()
        return mean_off_diagonal(gaussian_kernel(samples, samples, self.kernel_width))


def gaussian_kernel(first: torch.Tensor, second: torch.Tensor, width: float) -> torch.Tensor:
    """Return how like each of some embeddings [N, 16] is to each of others [M, 16]."""
    return torch.exp(-0.5 * (torch.cdist(first, second) / width).square())


def mean_off_diagonal(matrix: torch.Tensor) -> float:
    """Return the mean of a matrix [N, N] without its diagonal."""
    n = len(matrix)
    return float(matrix.sum() - matrix.diagonal().sum()) / (n * (n - 1))


class TimbreNetwork(nn.Module):
    """Standardise features [N, 165], embed them [N, 16], and give logits [N, K]."""

    def __init__(self, n_domains: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(N_FEATURES))
        self.register_buffer("spread", torch.ones(N_FEATURES))
        self.body = nn.Sequential(
            nn.Linear(N_FEATURES, HIDDEN_SIZE),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(HIDDEN_SIZE, EMBEDDING_SIZE),
            nn.Tanh(),
        )
        self.head = nn.Linear(EMBEDDING_SIZE, n_domains)

    mean: torch.Tensor
    spread: torch.Tensor

    def standardise(self, values: torch.Tensor) -> torch.Tensor:
        """Return features [N, 165] in standard deviations, limited to four."""
        standard = (values - self.mean) / self.spread
        return standard.clamp(-FEATURE_LIMIT, FEATURE_LIMIT)

    def embed(self, values: torch.Tensor) -> torch.Tensor:
        """Return embeddings [N, 16] of features [N, 165]."""
        embeddings: torch.Tensor = self.body(self.standardise(values))
        return embeddings

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return logits [N, K] of features [N, 165]."""
        logits: torch.Tensor = self.head(self.embed(values))
        return logits


class TimbreClassifier:
    """Tells which of its domains audio sounds like, and how far it is from each.

    Attributes:
        domains: their names, in the order of the network's outputs.
        references: what each domain's training audio is like.
        training: how it was trained: the seed, and the number of windows of each domain.
    """

    def __init__(
        self,
        network: TimbreNetwork,
        domains: Sequence[str],
        references: Mapping[str, DomainReference],
        training: Mapping[str, Any],
    ) -> None:
        self.network = network.eval()
        self.domains = tuple(domains)
        self.references = dict(references)
        self.training = dict(training)

    def features(self, waveform: npt.NDArray[np.floating], sample_rate: int) -> torch.Tensor:
        """Return the features [N, 165] of the sounding windows of a waveform [T], one a second.

        Raises:
            AudioError: not a mono waveform of finite floats with at least one sample.
        """
        heard = at_analysis_rate(waveform, sample_rate, name="output")
        return features(window_spectra(heard, hop_seconds=SCORING_HOP_SECONDS))

    @torch.no_grad()
    def embed(self, waveform: npt.NDArray[np.floating], sample_rate: int) -> torch.Tensor:
        """Return the embeddings [N, 16] of the windows of a waveform [T]; see `features`."""
        return self.network.embed(self.features(waveform, sample_rate))

    @torch.no_grad()
    def probabilities_of(self, embeddings: torch.Tensor) -> dict[str, float] | None:
        """Return each domain's mean probability over windows, from embeddings [N, 16].

        Returns:
            Probabilities that sum to 1, in the order of `domains`; None if there is no window.
        """
        if not len(embeddings):
            return None
        shares = self.network.head(embeddings).softmax(dim=1).mean(dim=0)
        return dict(zip(self.domains, shares.tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file, which `load` reads back."""
        tensors = dict(self.network.state_dict())
        facts = {}
        for domain, reference in self.references.items():
            for part in ("mean", "covariance", "samples"):
                tensors[f"reference/{domain}/{part}"] = getattr(reference, part).contiguous()
            facts[domain] = {"rolloff_hz": reference.rolloff_hz, "quality": reference.quality}
        header = {
            "format": FORMAT_VERSION,
            "features": FEATURES_VERSION,
            "domains": self.domains,
            "references": facts,
            "training": self.training,
        }
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(header)})

    @classmethod
    def load(cls, path: Path) -> TimbreClassifier:
        """Read a classifier that `save` wrote. No code in the file is run.

        Raises:
            ModelError: the file is missing, damaged, no timbre classifier, or of another version.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read as a timbre classifier ({error})") from error
        if (header.get("format"), header.get("features")) != (FORMAT_VERSION, FEATURES_VERSION):
            raise ModelError(
                f"{path}: not a timbre classifier of this version of umt; train it again"
            )
        try:
            return cls._from_parts(header, tensors)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ModelError(f"{path}: damaged timbre classifier ({error})") from error

    @classmethod
    def _from_parts(
        cls, header: Mapping[str, Any], tensors: dict[str, torch.Tensor]
    ) -> TimbreClassifier:
        references = {
            domain: DomainReference(
                **{
                    part: tensors.pop(f"reference/{domain}/{part}")
                    for part in ("mean", "covariance", "samples")
                },
                rolloff_hz=facts["rolloff_hz"],
                quality={name: tuple(values) for name, values in facts["quality"].items()},
            )
            for domain, facts in header["references"].items()
        }
        network = TimbreNetwork(len(header["domains"]))
        network.load_state_dict(tensors)
        return cls(network, header["domains"], references, header["training"])
