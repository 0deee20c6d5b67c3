"""Devices by name, and which GPU each of several processes takes."""

from __future__ import annotations

import pytest

from core import devices
from core.errors import UsageError


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch, name):
    monkeypatch.setattr(devices, "available_devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    assert devices.resolve_device(name) == "cuda:0"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert devices.resolve_device(name) == "cuda:1"
    monkeypatch.setenv("LOCAL_RANK", "2")  # more processes than GPUs
    assert devices.resolve_device(name) == "cuda:0"
    assert devices.resolve_device("cpu") == "cpu"
    assert devices.resolve_device("cuda:1") == "cuda:1"


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "available_devices", lambda: ["cpu"])
    assert devices.resolve_device("auto") == "cpu"
    with pytest.raises(UsageError, match="device 'cuda': this machine has cpu"):
        devices.resolve_device("cuda")
