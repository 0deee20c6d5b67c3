"""Which module may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in CORE.rglob("*.py"))

TORCH_FREE = [
    "core",
    "core.config",
    "core.cores",
    "core.errors",
    "core.families",
    "core.files",
    "core.latents",
    "core.model_file",
    "core.data.prepare",
    "core.audio",
    *(f"core.audio.{path.stem}" for path in sorted((CORE / "audio").glob("[a-z]*.py"))),
]


def imported_by(path):
    """Return all modules that a file names in imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def touches(path, *packages):
    return {
        name
        for name in imported_by(path)
        if any(name == package or name.startswith(f"{package}.") for package in packages)
    }


@pytest.mark.parametrize("module", MODULES)
def test_core_imports_nothing_of_the_command_line(module):
    assert not touches(ROOT / module, "umtcli", "typer", "click", "rich", "tqdm")


@pytest.mark.parametrize("family", ["wavenet", "spectral"])
def test_a_family_knows_neither_the_other_one_nor_the_framework(family):
    other = {"wavenet": "spectral", "spectral": "wavenet"}[family]
    rooms = ["translator", "model_file", "confusion", "audio", "data", "training", "metrics"]
    forbidden = [f"core.families.{other}", *(f"core.{room}" for room in rooms)]
    for path in (CORE / "families" / family).rglob("*.py"):
        assert not touches(path, *forbidden), path


@pytest.mark.parametrize("module", [name for name in MODULES if "/families/" not in name])
def test_the_framework_never_imports_a_family_by_name(module):
    assert not touches(ROOT / module, "core.families.wavenet", "core.families.spectral")


def test_torch_free_modules_load_no_torch():
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


def test_core_offers_the_translator_by_name():
    import core
    from core.translator import Translator

    assert core.Translator is Translator
    with pytest.raises(AttributeError, match="'core' has no attribute 'Nothing'"):
        _ = core.Nothing
