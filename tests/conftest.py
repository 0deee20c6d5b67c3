"""What all tests share: one thread, a tiny configuration of each family, one seed."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from core.presets import get_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import torch
    from torch import nn

    from core.config import Config, WaveNetConfig

# Before anything imports torch: on these sizes more threads only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _disk_not_waited_for() -> Iterator[None]:
    """No test cuts the power. Which files are synced, and when, is checked in test_files.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # fails for a descriptor that is closed, as fsync does
        yield


@pytest.fixture(scope="session")
def tiny() -> Config:
    """The WaveNet family with one block of six layers: 64 samples of memory."""
    return get_preset("tiny")


@pytest.fixture(scope="session")
def short_hop(tiny) -> WaveNetConfig:
    """The tiny WaveNets with 50 samples a frame: shorter than their memory of 64."""
    return replace(tiny.model, hop_length=50)


@pytest.fixture(scope="session")
def tiny_spectral() -> Config:
    """The spectral family at 8 kHz, 128 samples a latent frame."""
    return get_preset("fast").updated(
        "model",
        sample_rate=8000,
        frame_length=64,
        n_fft=256,
        latent_dim=268,
        salience_channels=4,
        pretrained_salience=False,
        encoder_channels=16,
        encoder_hidden=32,
        encoder_layers=2,
        decoder_channels=16,
        decoder_hidden=32,
        decoder_layers=2,
        kernel_size=3,
    )


@pytest.fixture(scope="session")
def small_model() -> Config:
    """The spectral family at its own rate, with networks that are there and no more."""
    return get_preset("fast").updated(
        "model",
        encoder_channels=8,
        decoder_channels=8,
        encoder_hidden=8,
        decoder_hidden=8,
        encoder_layers=1,
        decoder_layers=1,
    )


@pytest.fixture(params=["wavenet", "spectral"])
def any_family(request, tiny, tiny_spectral) -> Config:
    """Run the test with a tiny configuration of each family."""
    return {"wavenet": tiny, "spectral": tiny_spectral}[request.param]


@pytest.fixture
def generator() -> torch.Generator:
    """Torch's own generator, seeded: fixes initial weights and the test's random inputs."""
    import torch

    return torch.manual_seed(0)


@pytest.fixture
def trained(generator) -> Callable[[nn.Module], nn.Module]:
    """Move a network's weights off their initial values, some of which are zero."""

    def move(network: nn.Module) -> nn.Module:
        for parameter in network.parameters():
            noise = parameter.new_empty(parameter.shape).normal_(generator=generator)
            parameter.data += 0.05 * noise
        return network.eval()

    return move


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Return a context in which no file grows beyond so many bytes: it fails as a full disk does.

    Not a fixture's own time: pytest reports before it tears down, and its report may be a file.
    """

    @contextmanager
    def limited(n_bytes: int) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return limited
