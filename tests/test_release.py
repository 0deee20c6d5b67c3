"""The version is the same wherever it stands."""

from __future__ import annotations

import re

import core

from .pages import text_of


def test_the_changelog_begins_with_this_version() -> None:
    version, _ = re.findall(r"^## (\S+) \(?(.*?)\)?$", text_of("CHANGELOG.md"), re.MULTILINE)[0]
    assert version == core.__version__


def test_the_citation_is_of_this_version_and_day() -> None:
    citation = text_of("CITATION.cff")
    (day,) = re.findall(
        rf"^## {re.escape(core.__version__)} \((.*)\)", text_of("CHANGELOG.md"), re.M
    )
    assert f"\nversion: {core.__version__}\n" in citation
    assert f"\ndate-released: {day}\n" in citation
