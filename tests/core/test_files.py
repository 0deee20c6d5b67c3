"""Files that are complete or absent: in which order they reach the disk, and who may read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.files import replacing


def test_the_data_is_on_the_disk_before_the_name_and_the_name_at_the_end(tmp_path, monkeypatch):
    calls = []

    def fsync(handle, real=os.fsync):
        calls.append(("fsync", Path(f"/proc/self/fd/{handle}").resolve()))
        real(handle)

    def replace(source, target, real=os.replace):
        calls.append(("replace", Path(target)))
        real(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    path = tmp_path / "x.bin"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert not calls
    assert calls == [("fsync", temporary), ("replace", path), ("fsync", tmp_path)]
    assert path.read_bytes() == b"new"


def test_a_directory_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(tmp_path / "x.bin") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "x.bin").read_bytes() == b"new"


def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), replacing(path) as temporary:
        temporary.with_name("missing").rename(temporary)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def write_tensors(path):
    save_file({"x": np.zeros(3)}, path)


def test_rights_are_those_of_any_new_file_without_a_touch_of_the_umask(tmp_path, monkeypatch):
    """The umask belongs to the process: other threads make files at the same time."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.delattr(os, "umask")
            for name, write in (("x.bin", Path.touch), ("x.safetensors", write_tensors)):
                with replacing(tmp_path / name) as temporary:
                    write(temporary)
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path.name
