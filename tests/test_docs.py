"""The page about the inside, against the inside."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`((?:core|umtcli|tests)/[\w/.]*)`", PAGE))


def test_every_path_named_exists():
    assert NAMED
    assert [path for path in sorted(NAMED) if not (ROOT / path).exists()] == []


def test_every_package_is_named():
    packages = {
        path.parent.relative_to(ROOT).as_posix()
        for room in ("core", "umtcli")
        for path in (ROOT / room).rglob("__init__.py")
    }
    mentioned = NAMED | {str(Path(path).parent) for path in NAMED}
    assert packages - mentioned == set()


def test_modules_named_alone_belong_to_the_family_they_are_named_with():
    for name in ("salience.py", "note_envelopes.py", "decoder.py", "synthesizer.py"):
        assert f"`{name}`" in PAGE
        assert (ROOT / "core/families/spectral" / name).exists()
