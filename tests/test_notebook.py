"""The notebook of the examples, run as it stands there."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import nbformat
import pytest
import soundfile
from nbclient import NotebookClient

from .pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def test_it_is_stored_without_results() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.source


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copy(ROOT / "examples" / "song.wav", tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert sum("text/html" in out.get("data", {}) for out in shown) == 4, "players"
    assert any("Translator(family=" in out.get("data", {}).get("text/plain", "") for out in shown)
    info = soundfile.info(tmp_path / "quartet.guitar.wav")
    source = soundfile.info(tmp_path / "song.wav")
    assert (info.samplerate, info.subtype) == (48_000, "PCM_24")
    assert info.frames == round(source.frames * 48_000 / source.samplerate)
