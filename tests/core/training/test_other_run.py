"""A run that was started with something else is refused, and the difference named."""

from __future__ import annotations

import dataclasses

import pytest

from core.data.domain import Part
from core.errors import UsageError
from core.training.run_directory import RUN_FILE, check_same_run

from .conftest import RATE, store_music, tiny_config


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A run that has been started, and its data."""
    folder = tmp_path_factory.mktemp("started")
    domains = store_music(folder / "data", bass=3.0, reed=3.0)
    (folder / "run").mkdir()
    check_same_run(folder / "run", tiny_config(), domains)
    return folder / "run", domains


CHANGES = [
    ("preset", lambda c, d: (dataclasses.replace(c, preset="small"), d), "preset tiny, now small"),
    (
        "training",
        lambda c, d: (c.updated("training", batch_size=8), d),
        "training.batch_size = 4, now 8",
    ),
    ("model", lambda c, d: (c.updated("model", latent_dim=5), d), "model.latent_dim = 4, now 5"),
    (
        "confusion",
        lambda c, d: (c.updated("confusion", weight=0.5), d),
        "confusion.weight = 0.01, now 0.5",
    ),
    (
        "distortion",
        lambda c, d: (c.updated("distortion", pitch_segment_seconds=[0.1, 0.2]), d),
        r"distortion.pitch_segment_seconds = \[0.25, 0.5\], now \[0.1, 0.2\]",
    ),
    ("fewer domains", lambda c, d: (c, d[:1]), "domains bass, reed, now bass;"),
    (
        "more domains",
        lambda c, d: (c, [*d, dataclasses.replace(d[0], name="voice")]),
        "domains bass, reed, now bass, reed, voice",
    ),
    (
        "recordings",
        lambda c, d: (c, [d[0], _with_track(d[1], source_sha256="x")]),
        "other recordings of reed",
    ),
    (
        "split",
        lambda c, d: (c, [d[0], _with_track(d[1], parts=(Part("train", 0, 6000),))]),
        "other recordings of reed",
    ),
    (
        "rate",
        lambda c, d: (c, [dataclasses.replace(d[0], sample_rate=2 * RATE), d[1]]),
        "other recordings of bass",
    ),
]


def _with_track(domain, **changes):
    tracks = (dataclasses.replace(domain.tracks[0], **changes),)
    return dataclasses.replace(domain, tracks=tracks)


@pytest.mark.parametrize(
    ("change", "named"), [pytest.param(change, named, id=name) for name, change, named in CHANGES]
)
def test_run_with_something_else_is_refused_and_the_difference_named(started, train, change, named):
    run, domains = started
    before = (run / RUN_FILE).read_bytes()
    config, domains = change(tiny_config(), domains)
    with pytest.raises(UsageError, match=f"run was started with {named}.*another --run"):
        train(config, domains, run)
    assert (run / RUN_FILE).read_bytes() == before
