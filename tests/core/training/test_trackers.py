"""Where a run can be watched: a stand-in for a service gets what the log has, and sounds."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from core.errors import TrainingError, UsageError
from core.training import trackers
from core.training.trackers import TRACKERS, check_tracker

from .conftest import read_log, tiny_config

SERVICE = """
calls = []
refuses = False

class Audio:
    def __init__(self, data, sample_rate):
        self.data, self.sample_rate = data, sample_rate

class Config:
    def update(self, values, allow_val_change):
        calls.append(("config", values))

class Run:
    def log(self, values, step):
        calls.append(("log", step, values))

    def finish(self):
        print("finished")
        calls.append(("finish",))

config = Config()

def init(**options):
    calls.append(("init", options))
    if refuses:
        raise RuntimeError("no key\\nsecond line")
    return Run()
"""


@pytest.fixture(params=TRACKERS[1:])
def service(request, tmp_path, monkeypatch):
    """Install a package of that name."""
    name = request.param
    (tmp_path / "site" / name).mkdir(parents=True)
    (tmp_path / "site" / name / "__init__.py").write_text(SERVICE)
    about = tmp_path / "site" / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield name
    sys.modules.pop(name, None)


def calls_of(service):
    return sys.modules[service].calls


def test_a_service_gets_the_records_of_the_log_and_sounds(service, duo, tmp_path, train, capfd):
    train(tiny_config(steps=8), duo, tmp_path / "run", log_with=service)
    assert capfd.readouterr().out == "", "stdout is for results"
    (_, options), (kind, facts), *logged, end = calls_of(service)
    assert options["project"] == "umt"
    assert (kind, facts["preset"], facts["minutes"]["bass"]["train"]) == ("config", "tiny", 0.15)
    assert end == ("finish",)
    sounds: dict[str, object] = {}
    numbers = []
    for _, step, values in logged:
        if any(hasattr(value, "sample_rate") for value in values.values()):
            sounds |= values
        else:
            numbers.append({"step": step, **values})
    for record, kept in zip(numbers, read_log(tmp_path / "run"), strict=True):
        assert kept.items() <= record.items()
    assert sounds
    for clip in sounds.values():
        assert (clip.sample_rate, clip.data.dtype, clip.data.ndim) == (2000, np.float32, 1)
    assert not list((tmp_path / "run").glob("events.*"))


def test_a_run_that_continues_goes_on_in_the_same_place(service, duo, tmp_path, train):
    for steps in (1, 2):
        train(tiny_config(steps=steps), duo, tmp_path / "run", log_with=service)
    train(tiny_config(steps=1), duo, tmp_path / "other", log_with=service)
    first, second, other = (call[1] for call in calls_of(service) if call[0] == "init")
    key = "id" if service == "wandb" else "name"
    assert first[key] == second[key] != other[key]
    assert first["resume"] == "allow"


def test_a_service_that_refuses_is_an_error_of_one_line(service, duo, tmp_path, train):
    __import__(service).refuses = True
    with pytest.raises(TrainingError) as raised:
        train(tiny_config(steps=1), duo, tmp_path / "run", log_with=service)
    assert str(raised.value).startswith(f"--log-with {service}: no key; log in, or ")


def test_a_missing_package_is_said_with_the_way_to_get_it_and_before_any_work(
    duo, tmp_path, train, monkeypatch
):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(trackers, "version", missing)
    with pytest.raises(UsageError, match="package wandb is not installed; pip install wandb"):
        train(tiny_config(steps=1), duo, tmp_path / "run", log_with="wandb")
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused():
    with pytest.raises(UsageError, match=r"expected tensorboard, wandb or trackio; did you mean"):
        check_tracker("wandbb")
