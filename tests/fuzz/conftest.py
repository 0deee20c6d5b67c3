"""How long the parsers are fuzzed: a few seconds with fixed seeds, or as long as asked.

UMT_FUZZ_EXAMPLES=10000 pytest tests/fuzz
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

asked = os.environ.get("UMT_FUZZ_EXAMPLES")
settings.register_profile(
    "fuzz",
    max_examples=int(asked or 40),
    derandomize=asked is None,
    database=None,
    deadline=None,  # other processes may have the cores
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("fuzz")
