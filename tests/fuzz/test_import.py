"""Checkpoints that anybody may have written: every answer is a model or a ModelError."""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ModelError
from core.families.wavenet.published import read_published

from ..published import small_config, write_published

FILES = ("args.pth", "lastmodel_0.pth", "lastmodel_1.pth")
# An example reads four files, which takes longer than parsing one.
FEWER = settings(max_examples=max(1, settings().max_examples // 4))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from([2, 3, "relu", Path("/data/Cello"), PurePosixPath("/"), torch.ones(2)])
    | st.builds(torch.zeros, st.lists(st.integers(0, 3), max_size=4)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module", params=[False, True], ids=["zip", "legacy"])
def folder(request, tmp_path_factory):
    """A folder of small checkpoints in either of torch's formats."""
    folder = tmp_path_factory.mktemp("checkpoints")
    sizes = dict.fromkeys(
        ("encoder_blocks", "encoder_layers", "decoder_blocks", "decoder_layers"), 1
    )
    write_published(
        folder, is_legacy=request.param, config=small_config().updated("model", **sizes)
    )
    return folder


@contextmanager
def kept(folder):
    """Undo changes of the files; a failing example must not disturb those after it."""
    before = {name: (folder / name).read_bytes() for name in FILES}
    try:
        yield
    finally:
        for name, content in before.items():
            (folder / name).write_bytes(content)


def read_all(folder):
    """Read them; what is accepted has to be a whole model, and what is refused one line."""
    message = ""
    try:
        published = read_published(folder)
        assert all(value.isfinite().all() for value in published.tensors.values())
        assert len(published.domains) == 3
    except ModelError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1000


@FEWER
@given(data=st.data())
def test_changed_bytes_are_refused_or_harmless(folder, data):
    name = data.draw(st.sampled_from(FILES))
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        # The first kilobyte and the last hold the pickle of small files, and the table of parts.
        near = data.draw(st.integers(0, 1500))
        place = near if data.draw(st.booleans()) else len(content) - 1 - near
        content[place % len(content)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    with kept(folder):
        (folder / name).write_bytes(content[:cut])
        read_all(folder)


@FEWER
@given(
    option=st.sampled_from(["data", "blocks", "layers", "encoder_pool", "d_layers", "epochs"]),
    value=VALUES,
    shape=st.sampled_from(["list", "tuple", "bare", "empty"]),
)
def test_any_options_are_refused_or_understood(folder, option, value, shape):
    options = vars(torch.load(folder / "args.pth", weights_only=False)[0]) | {option: value}
    namespace = argparse.Namespace(**options)
    content = {"list": [namespace], "tuple": (namespace, value), "bare": namespace, "empty": []}
    with kept(folder):
        torch.save(content[shape], folder / "args.pth")
        read_all(folder)


@FEWER
@given(data=st.data())
def test_any_contents_are_refused_or_understood(folder, data):
    content = torch.load(folder / FILES[1], weights_only=True)
    place = data.draw(st.sampled_from(sorted(content)))
    if data.draw(st.booleans()) and isinstance(content[place], dict) and content[place]:
        inner = data.draw(st.sampled_from(sorted(map(str, content[place]))))
        content[place] = dict(content[place]) | {inner: data.draw(VALUES)}
    else:
        content[place] = data.draw(VALUES)
    with kept(folder):
        torch.save(content, folder / FILES[1])
        read_all(folder)
