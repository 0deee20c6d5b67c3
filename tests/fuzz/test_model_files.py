"""Model files that anybody may have written: every answer is a model or a ModelError."""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import Config
from core.errors import ModelError, UsageError
from core.model_file import read_header
from core.translator import Translator

from .test_data_files import VALUES, places, put


@pytest.fixture(scope="module")
def whole(tiny_spectral, tmp_path_factory):
    """The bytes of a good model file."""
    path = tmp_path_factory.mktemp("models") / "m.safetensors"
    model = Translator.create(tiny_spectral, ["bach", "piano"])
    model.training_record = {"steps": 5, "figures": {"validation/bach": 1.0}}
    model.save(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.safetensors"


def load(path):
    """Load a file as the commands do, or be told in one line why not."""
    try:
        header = read_header(path)
        Translator.load(path, domains=[])
    except ModelError as error:
        refusal = str(error)
    else:
        return header
    assert str(path) in refusal
    assert "\n" not in refusal
    return None


@given(data=st.data())
def test_bytes_of_any_kind(path, whole, data):
    start = data.draw(st.integers(0, len(whole)), label="start")
    removed = data.draw(st.integers(0, 40), label="removed")
    added = data.draw(st.binary(max_size=40), label="added")
    path.write_bytes(whole[:start] + added + whole[start + removed :])
    load(path)


@given(length=st.integers(0, 2**64 - 1), rest=st.binary(max_size=200))
def test_headers_of_any_length(path, length, rest):
    path.write_bytes(struct.pack("<Q", length) + rest)
    assert load(path) is None


@given(data=st.data())
def test_values_of_any_kind_in_the_header(path, whole, data):
    """With the id that goes with them, so that only the checks of the values can refuse."""
    (length,) = struct.unpack("<Q", whole[:8])
    entries = json.loads(whole[8 : 8 + length])
    values = json.loads(entries["__metadata__"]["header"])
    place = data.draw(st.sampled_from(places(values)), label="place")
    values = put(values, place, data.draw(VALUES, label="value"))
    try:
        text = json.dumps(values)
        known = [values[key] for key in ("config", "domains", "checksums")]
        model_id = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
    except (ValueError, TypeError, LookupError):  # no JSON, or no such keys
        text, model_id = str(values), "0" * 12
    entries["__metadata__"] |= {"header": text, "id": model_id}
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + whole[8 + length :])
    load(path)


@given(config=st.dictionaries(st.sampled_from(["model", "training", "preset"]), VALUES))
def test_configurations_of_any_kind(config):
    with suppress(UsageError):
        Config.from_dict(config)
