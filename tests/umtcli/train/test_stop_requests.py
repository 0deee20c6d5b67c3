"""Signals that ask `umt train` to save and stop."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from umtcli import training_process
from umtcli.training_process import stop_requests


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(training_process, "time", clock)
    return clock


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_is_a_request_and_handlers_come_back_afterwards(name):
    before = signal.getsignal(signal.Signals[name])
    with stop_requests() as should_stop:
        assert should_stop() is None
        signal.raise_signal(signal.Signals[name])
        assert should_stop() == name
    assert signal.getsignal(signal.Signals[name]) is before


def test_second_ctrl_c_acts_at_once(clock):
    with stop_requests():
        signal.raise_signal(signal.SIGINT)
        clock.now += 3
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signal_that_a_launcher_passes_on_is_the_same_request(clock):
    with stop_requests() as should_stop:
        signal.raise_signal(signal.SIGINT)
        clock.now += 0.2
        signal.raise_signal(signal.SIGTERM)
        assert should_stop() == "SIGINT"
