"""The version is the same wherever it stands."""

from __future__ import annotations

import re
import tomllib

import core
from umtcli.errors import CPU_INDEX, TORCH

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


def test_the_advice_on_torch_is_what_is_installed_and_what_the_page_says() -> None:
    needed = tomllib.loads(text_of("pyproject.toml"))["project"]["dependencies"]
    pair = [f"{name}=={release}" for name, release in TORCH.items()]
    assert set(pair) <= set(needed)
    quoted = " ".join(f'"{own}"' for own in pair)
    assert f"pip install {quoted} --index-url {CPU_INDEX}\n" in text_of("docs/install.md")
