"""The house: which module may import which, as the table of docs/internals.md has it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest

from .pages import ROOT, text_of

if TYPE_CHECKING:
    from pathlib import Path

CORE = ROOT / "core"
TREE = sorted(path for room in ("core", "umtcli") for path in (ROOT / room).rglob("*.py"))
MODULES = [path.relative_to(ROOT).as_posix() for path in TREE]
OF_CORE = [name for name in MODULES if name.startswith("core/")]
# Neither imports anything of core: the package's own front page, and a folder of files.
OUTSIDE = {"core/__init__.py", "core/pretrained/__init__.py"}

TORCH_FREE = [
    "core",
    "core.config",
    "core.cores",
    "core.errors",
    "core.families",
    "core.files",
    "core.hub",
    "core.latents",
    "core.model_file",
    "core.parsing",
    "core.presets",
    "core.data.prepare",
    "core.audio",
    *(f"core.audio.{path.stem}" for path in sorted((CORE / "audio").glob("[a-z]*.py"))),
]


@cache
def rows() -> list[list[str]]:
    """Return the table's rows, each with the modules and packages that stand in it, dotted."""
    section = text_of("docs/internals.md").partition("## The house")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", section, flags=re.MULTILINE)
    return [
        [name.removesuffix(".py").replace("/", ".") for name in re.findall(r"`([^`]*)`", cell)]
        for cell in cells
    ]


def row_of(module: str) -> int | None:
    """Return the row of a dotted module: that of the longest name that it lies in."""
    found = [
        (len(name), index)
        for index, names in enumerate(rows())
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(found)[1] if found else None


def dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported_by(path: Path) -> set[str]:
    """Return all modules that a file names in imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def touches(path: Path, *packages: str) -> set[str]:
    return {
        name
        for name in imported_by(path)
        if any(name == package or name.startswith(f"{package}.") for package in packages)
    }


def test_the_table_has_a_row_for_every_module() -> None:
    assert len(rows()) > 10
    homeless = [name for name in MODULES if name not in OUTSIDE and row_of(dotted(name)) is None]
    assert homeless == []


@pytest.mark.parametrize("module", [name for name in MODULES if name not in OUTSIDE])
def test_rows_import_only_rows_above(module: str) -> None:
    own = row_of(dotted(module))
    assert own is not None
    below = {name for name in imported_by(ROOT / module) if (other := row_of(name)) and other > own}
    assert below == set()


@pytest.mark.parametrize("module", OF_CORE)
def test_core_imports_nothing_of_the_command_line(module: str) -> None:
    assert not touches(ROOT / module, "umtcli", "typer", "click", "rich", "tqdm")


@pytest.mark.parametrize("family", ["wavenet", "spectral"])
def test_a_family_does_not_import_the_other_one(family: str) -> None:
    other = {"wavenet": "spectral", "spectral": "wavenet"}[family]
    for path in (CORE / "families" / family).rglob("*.py"):
        assert not touches(path, f"core.families.{other}", "core.audio"), path


@pytest.mark.parametrize("module", [name for name in OF_CORE if "/families/" not in name])
def test_the_rest_of_core_imports_no_family_by_name(module: str) -> None:
    assert not touches(ROOT / module, "core.families.wavenet", "core.families.spectral")


def test_torch_free_modules_load_no_torch() -> None:
    """In one process, one after the other, so that the first to load torch is named."""
    program = (
        "import importlib, sys\n"
        f"for name in {TORCH_FREE!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = sorted({'torch', 'torchaudio'} & set(sys.modules))\n"
        "    if heavy: sys.exit(f'{name} loads {heavy}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_core_offers_the_translator_by_name() -> None:
    import core
    from core.translator import Translator

    assert core.Translator is Translator
    with pytest.raises(AttributeError, match="'core' has no attribute 'Nothing'"):
        _ = core.Nothing
