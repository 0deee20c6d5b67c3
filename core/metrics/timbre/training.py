"""Train the timbre classifier on prepared recordings.

In: for each domain its training tracks. Out: a `TimbreClassifier` with each domain's reference
statistics. Excerpts of ten seconds are spread evenly over all of a domain's audio, 27 minutes of
them at most, so that an hour-long track and a hundred short ones are sampled alike.

Each excerpt is used as it is and once more lossily coded, half of the time with a limited band:
otherwise the same sound would be another instrument as an Ogg or MP3 file. The windows of both are
used as they are and through random equalisers with a random noise floor: otherwise the classifier
would recognise the colour or the hiss of one recording. Loudness is not among the features. The
result depends only on the data and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from core.errors import DataError
from core.metrics import degradations, quality
from core.metrics.spectra import Waveform, at_analysis_rate
from core.metrics.timbre.classifier import QUALITY_PERCENTILES, TimbreClassifier, TimbreNetwork
from core.metrics.timbre.distances import DomainReference
from core.metrics.timbre.features import (
    N_MELS,
    WINDOW_SECONDS,
    WindowSpectra,
    features,
    join,
    window_spectra,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")
Track = npt.NDArray[np.int16] | npt.NDArray[np.float32]

EXCERPT_SECONDS = 10
MAX_EXCERPTS = 160  # of a domain: 27 minutes, 800 windows
QUALITY_EXCERPTS = 60  # of a domain, for the distributions of the quality figures
REFERENCE_SAMPLES = 256
MIN_WINDOWS = 16

N_EQUALISED = 2  # copies of each window
COMPRESSION = (0.5, 0.99)  # of the coded copy of each excerpt; see `degradations.code_lossily`
BAND_LIMIT_HZ, BAND_LIMIT_SHARE = (3_500.0, 8_000.0), 0.5
TILT_DB, PEAK_DB, N_PEAKS = 6.0, 8.0, 3
NOISE_DB = (-60.0, -30.0)  # relative to the window's mean power

N_EPOCHS = 30
BATCH_SIZE = 256
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
FEATURE_NOISE = 0.1  # standard deviations
LABEL_SMOOTHING = 0.05


def train_classifier(
    prepared: Mapping[str, Iterable[Track]], sample_rate: int, *, seed: int = 0
) -> TimbreClassifier:
    """Train a classifier.

    Args:
        prepared: For each domain its training tracks [T], float in [-1, 1] or int16. They are
            read in excerpts, so memory-mapped arrays cost no memory.
        sample_rate: Of all tracks, in Hz.
        seed: Of the augmentation and the training.

    Returns:
        A classifier of the domains in alphabetical order.

    Raises:
        DataError: Fewer than two domains, or a domain with less than 32 s of sound.
        AudioError: A track that is not one channel of finite samples.
    """
    if len(prepared) < 2:
        raise DataError(
            f"a timbre classifier needs two domains or more, not {len(prepared)}; "
            "prepare another one"
        )
    domains = sorted(prepared)
    audio = [_analyse(domain, list(prepared[domain]), sample_rate, seed) for domain in domains]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _train([join([own.windows, own.coded_windows]) for own in audio])
    by_domain = dict(zip(domains, audio, strict=True))
    references = {
        domain: _reference(network, own, sample_rate) for domain, own in by_domain.items()
    }
    counts = {domain: len(own.windows) for domain, own in by_domain.items()}
    return TimbreClassifier(network, domains, references, {"seed": seed, "windows": counts})


@dataclass(frozen=True)
class _DomainAudio:
    """The analysis of a domain's audio: all windows, quality figures of some excerpts."""

    windows: WindowSpectra
    coded_windows: WindowSpectra
    figures: list[dict[str, float | None]]
    spectra: list[npt.NDArray[np.float64]]


def _analyse(domain: str, tracks: Sequence[Track], sample_rate: int, seed: int) -> _DomainAudio:
    parts, coded, figures, spectra = [], [], [], []
    rng = np.random.default_rng(seed)
    excerpts = _excerpts(tracks, sample_rate)
    measured = set(_evenly(range(len(excerpts)), QUALITY_EXCERPTS))
    for index, (track, start) in enumerate(excerpts):
        waveform = _read(tracks[track], start, sample_rate)
        resampled = at_analysis_rate(waveform, sample_rate, name=f"domain {domain}, track {track}")
        parts.append(window_spectra(resampled))
        lossy = at_analysis_rate(_coded(waveform, sample_rate, rng), sample_rate, name=domain)
        coded.append(window_spectra(lossy))
        if index in measured:
            figures.append(quality.evaluate(waveform, sample_rate))
            spectra.append(quality.long_term_spectrum(waveform))
    n_windows = sum(map(len, parts))
    if n_windows < MIN_WINDOWS:
        raise DataError(
            f"domain {domain}: {n_windows * WINDOW_SECONDS} s of sound for the timbre classifier, "
            f"which needs {MIN_WINDOWS * WINDOW_SECONDS} s; prepare more recordings"
        )
    return _DomainAudio(join(parts), join(coded), figures, spectra)


def _coded(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Return a waveform [T] as a file with losses has it."""
    has_limit, as_mp3 = rng.uniform() < BAND_LIMIT_SHARE, rng.uniform() < 0.5
    limit_hz, compression = rng.uniform(*BAND_LIMIT_HZ), rng.uniform(*COMPRESSION)
    if has_limit:
        waveform = degradations.limit_band(waveform, sample_rate, limit_hz)
    return degradations.code_lossily(waveform, sample_rate, compression, as_mp3=as_mp3)


def _excerpts(tracks: Sequence[Track], sample_rate: int) -> list[tuple[int, int]]:
    """Return track and first sample of excerpts that are spread evenly over all tracks."""
    step, least = EXCERPT_SECONDS * sample_rate, WINDOW_SECONDS * sample_rate
    starts = [
        (index, start)
        for index, track in enumerate(tracks)
        for start in range(0, len(track), step)
        if start == 0 or len(track) - start >= least
    ]
    return _evenly(starts, MAX_EXCERPTS)


def _evenly(items: Sequence[T], limit: int) -> list[T]:
    if len(items) <= limit:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, limit).astype(int)]


def _read(track: Track, start: int, sample_rate: int) -> Waveform:
    excerpt = np.asarray(track[start : start + EXCERPT_SECONDS * sample_rate])
    if excerpt.dtype == np.int16:
        return excerpt.astype(np.float32) / np.float32(32_768)
    return excerpt.astype(np.float32)


def _train(windows: Sequence[WindowSpectra]) -> TimbreNetwork:
    """Return a trained network; draws from torch's global generator."""
    spectra = join(list(windows))
    labels = torch.cat([torch.full((len(own),), k) for k, own in enumerate(windows)])
    copies = [spectra, *(_equalise(spectra) for _ in range(N_EQUALISED))]
    values = torch.cat([_features_in_parts(copy) for copy in copies])
    labels = labels.repeat(len(copies))
    network = TimbreNetwork(len(windows))
    network.mean.copy_(values.mean(dim=0))
    network.spread.copy_(values.std(dim=0).clamp_min(1e-4))
    _fit(network, values, labels)
    return network


def _fit(network: TimbreNetwork, values: torch.Tensor, labels: torch.Tensor) -> None:
    counts = labels.bincount().float()
    weights = len(labels) / (len(counts) * counts)  # every domain counts alike
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    n_steps = max(200, N_EPOCHS * len(labels) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        batch = torch.randint(len(labels), (BATCH_SIZE,))
        noise = FEATURE_NOISE * network.spread * torch.randn(BATCH_SIZE, values.shape[1])
        loss = F.cross_entropy(
            network(values[batch] + noise),
            labels[batch],
            weight=weights,
            label_smoothing=LABEL_SMOOTHING,
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()


def _features_in_parts(spectra: WindowSpectra, size: int = 256) -> torch.Tensor:
    parts = zip(torch.split(spectra.mels, size), torch.split(spectra.octaves, size), strict=True)
    return torch.cat([features(WindowSpectra(*part)) for part in parts])


def _equalise(spectra: WindowSpectra) -> WindowSpectra:
    """Return each window through a random equaliser, and half of them with a noise floor."""
    n, places = len(spectra), torch.linspace(0, 1, N_MELS)
    gains = TILT_DB * (2 * torch.rand(n, 1) - 1) * (2 * places - 1)
    for _ in range(N_PEAKS):
        centre, width = torch.rand(n, 1), 0.08 + 0.2 * torch.rand(n, 1)
        height = PEAK_DB * (2 * torch.rand(n, 1) - 1)
        gains = gains + height * torch.exp(-0.5 * ((places - centre) / width).square())
    mels = spectra.mels * 10 ** (gains[:, None] / 10)
    low, high = NOISE_DB
    floor = 10 ** ((low + (high - low) * torch.rand(n, 1, 1)) / 10) * torch.randint(2, (n, 1, 1))
    # Within an octave an equaliser changes neither contrast nor what is steady.
    return WindowSpectra(mels + floor * mels.mean(dim=(1, 2), keepdim=True), spectra.octaves)


@torch.no_grad()
def _reference(network: TimbreNetwork, audio: _DomainAudio, sample_rate: int) -> DomainReference:
    network.eval()
    embeddings = network.embed(_features_in_parts(audio.windows))
    rolloff_hz = quality.rolloff_hz(np.mean(audio.spectra, axis=0), sample_rate)
    figures = [
        own | {"out_of_band_share": quality.out_of_band_share(spectrum, sample_rate, rolloff_hz)}
        for own, spectrum in zip(audio.figures, audio.spectra, strict=True)
    ]
    known = {
        name: [value for own in figures if (value := own[name]) is not None] for name in figures[0]
    }
    return DomainReference(
        mean=embeddings.mean(dim=0),
        covariance=embeddings.T.cov(),
        samples=torch.stack(_evenly(embeddings.unbind(), REFERENCE_SAMPLES)),
        rolloff_hz=rolloff_hz,
        quality={
            name: tuple(np.percentile(values, QUALITY_PERCENTILES).tolist())
            for name, values in known.items()
            if values
        },
    )
