"""How many cores a process may use."""

from __future__ import annotations

import os

import pytest

from core.cores import usable_cores


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 4),
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "3,1"}, 3),
        ({"OMP_NUM_THREADS": "16"}, 4),
        ({"OMP_NUM_THREADS": "0"}, 4),
        ({"OMP_NUM_THREADS": "many"}, 4),
        # A launcher sets the threads to 1 where the user did not set them.
        ({"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}, 2),
        ({"LOCAL_WORLD_SIZE": "8"}, 1),
    ],
)
def test_cores_are_those_of_affinity_threads_and_launcher(monkeypatch, environment, expected):
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 4, 6})
    assert usable_cores() == expected
