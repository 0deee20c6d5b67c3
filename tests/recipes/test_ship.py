"""What is added to the starter when it is shipped."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from core.key_range import KeyRange
from tests.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "starter"))
    yield importlib.import_module("ship")
    for name in ("ship", "domains"):
        sys.modules.pop(name, None)


def test_the_starter_gets_the_keys_of_its_instruments(ship: Any) -> None:
    assert ship.instrument_ranges(["winds", "organ"]) == {
        "winds": KeyRange(40, 96),  # from the bassoon's lowest to the flute's highest key
        "organ": KeyRange(36, 96),
    }
