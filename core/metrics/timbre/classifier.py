"""The timbre classifier: a small network, reference statistics of its domains, one file.

In: audio, as features of windows of two seconds. Out: a probability of each domain, embeddings.
`core.metrics.timbre` defines what they measure, `core.metrics.timbre.training` trains a classifier.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from core.errors import ModelError
from core.files import atomic_write
from core.metrics.spectra import at_analysis_rate
from core.metrics.timbre.distances import DomainReference, QualityRange
from core.metrics.timbre.features import (
    FEATURES_VERSION,
    N_FEATURES,
    features,
    window_spectra,
)
from core.parsing import build, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

METADATA_KEY = "umt_timbre"
FORMAT_VERSION = 1
HIDDEN_SIZE, EMBEDDING_SIZE = 64, 16
FEATURE_LIMIT = 4.0  # standard deviations; outliers beyond it would dominate the embedding
SCORING_HOP_SECONDS = 1
QUALITY_PERCENTILES = (5, 50, 95)


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
    """A trained classifier of domains, with reference statistics of each.

    Attributes:
        network: In evaluation mode.
        domains: Their names, in the order of the network's outputs.
        references: Statistics of each domain's training audio.
        training: How it was trained: the seed, and the number of windows of each domain.
    """

    def __init__(
        self,
        network: TimbreNetwork,
        domains: Sequence[str],
        references: Mapping[str, DomainReference],
        training: Mapping[str, object],
    ) -> None:
        self.network = network.eval()
        self.domains = tuple(domains)
        self.references = dict(references)
        self.training = dict(training)

    def features(self, waveform: npt.NDArray[np.floating], sample_rate: int) -> torch.Tensor:
        """Return the features [N, 165] of the sounding windows of a waveform [T], one a second.

        Raises:
            AudioError: Not a mono waveform of finite floats with at least one sample.
        """
        resampled = at_analysis_rate(waveform, sample_rate, name="output")
        return features(window_spectra(resampled, hop_seconds=SCORING_HOP_SECONDS))

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
            ModelError: The file is missing, damaged, no timbre classifier, or of another version.
        """
        try:
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(METADATA_KEY, "{}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read as a timbre classifier ({error})") from error
        values = parse_json(text, f"{path}: ", error=ModelError)
        version = (FORMAT_VERSION, FEATURES_VERSION)
        if (
            not isinstance(values, dict)
            or (values.get("format"), values.get("features")) != version
        ):
            raise ModelError(
                f"{path}: not a timbre classifier of this version of umt; train it again"
            )
        damaged = f"{path}: damaged timbre classifier: "
        header = build(_Header, values, damaged, error=ModelError)
        try:
            return cls._from_parts(header, tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ModelError(f"{damaged}{error}") from error

    @classmethod
    def _from_parts(cls, header: _Header, tensors: dict[str, torch.Tensor]) -> TimbreClassifier:
        references = {}
        for domain in header.domains:
            parts = {}
            for part, n_axes in (("mean", 1), ("covariance", 2), ("samples", 2)):
                tensor = tensors.pop(f"reference/{domain}/{part}")
                _check_embeddings(tensor, n_axes, f"{domain}/{part}")
                parts[part] = tensor
            facts = header.references[domain]
            references[domain] = DomainReference(
                **parts, rolloff_hz=facts.rolloff_hz, quality=facts.quality
            )
        # Before the network is built, whose size depends on what the file claims.
        if len(tensors.get("head.bias", ())) != len(header.domains):
            raise ValueError(f"{len(header.domains)} domains, but its network has another number")
        network = TimbreNetwork(len(header.domains))
        network.load_state_dict(tensors)
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ValueError("its network has values that are not finite")
        return cls(network, header.domains, references, header.training)


@dataclass(frozen=True)
class _StoredReference:
    """The plain values of a `DomainReference`."""

    rolloff_hz: float
    quality: dict[str, QualityRange]


@dataclass(frozen=True)
class _Header:
    """The metadata of a classifier's file."""

    format: int
    features: int
    domains: list[str]
    references: dict[str, _StoredReference]
    training: dict[str, object]


def _check_embeddings(tensor: torch.Tensor, n_axes: int, name: str) -> None:
    """Raise ValueError unless a tensor holds finite embeddings or statistics of them."""
    is_right = tensor.dtype == torch.float32 and tensor.ndim == n_axes
    if not is_right or tensor.shape[-1] != EMBEDDING_SIZE or not tensor.isfinite().all():
        raise ValueError(f"{name} is no finite float32 array of {EMBEDDING_SIZE} values a row")
