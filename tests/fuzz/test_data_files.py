"""Prepared data that anybody may have written: every answer is a value or a DataError."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.domain import SPLITS, load_domain, read_domain_file
from core.data.musicnet import MUSICNET_DOMAINS, musicnet_collections
from core.data.samples import open_samples
from core.data.sync import PrepLog
from core.errors import DataError

from ..core.training.conftest import store_domain

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**4000, max_value=10**4001),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", ".", "..", "/etc/passwd", "a\0b", "x" * 300, "train", "0.npy", "\ud800"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    tracks = [np.arange(n, dtype=np.int16) for n in (300, 200)]
    parts = [[("train", 0, 100), ("test", 120, 300)], [("validation", 0, 200)]]
    return store_domain(tmp_path_factory.mktemp("data"), "bass", tracks, parts)


@pytest.fixture(scope="module", autouse=True)
def content(domain):
    """The sound `domain.json`, read before any test overwrites it."""
    return (domain.directory / "domain.json").read_bytes()


def places(values, path=()):
    """Return the paths of all values in nested ones."""
    below = (
        values.items()
        if isinstance(values, dict)
        else enumerate(values)
        if isinstance(values, list)
        else ()
    )
    return [path, *(place for key, value in below for place in places(value, (*path, key)))]


def put(values, place, value):
    """Return nested values with another one at a place."""
    if not place:
        return value
    copy = dict(values) if isinstance(values, dict) else list(values)
    copy[place[0]] = put(copy[place[0]], place[1:], value)
    return copy


def dump(values):
    try:
        return json.dumps(values).encode()
    except ValueError:  # digits that Python does not print
        return b'{"version": ' + b"9" * 5000 + b"}"


def outcome(function, *args):
    """Return a function's value, or its error."""
    try:
        return function(*args)
    except DataError as error:
        return error


def check(domain, text):
    """Write `domain.json` and read it: what is read is sound, what is not is a DataError."""
    (domain.directory / "domain.json").write_bytes(text)
    found = outcome(load_domain, domain.directory)
    if isinstance(found, DataError):
        assert "\n" not in str(found)
        assert len(str(found)) < 1000
        assert str(domain.directory) in str(found)
        return
    for track in found.tracks:
        assert track.n_samples == len(np.load(domain.directory / track.file))
        assert all(0 <= part.start < part.stop <= track.n_samples for part in track.parts)
        assert {part.split for part in track.parts} <= set(SPLITS)


@given(data=st.data(), value=VALUES)
def test_domain_file_with_another_value_somewhere(domain, content, data, value):
    values = json.loads(content)
    place = data.draw(st.sampled_from(places(values)))
    check(domain, dump(put(values, place, value)))


@given(cut=st.integers(0, 3000), inserted=st.binary(max_size=20), removed=st.integers(0, 40))
def test_domain_file_with_other_bytes_somewhere(domain, content, cut, inserted, removed):
    check(domain, content[:cut] + inserted + content[cut + removed :])


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"tracks":' * 50_000, b"9" * 100_000, b"\xff\xfe", b"", b"NaN"]
)
def test_domain_file_that_is_a_trap(domain, text):
    check(domain, text)


def test_domain_file_is_found_sound_again(domain, content):
    (domain.directory / "domain.json").write_bytes(content)
    assert read_domain_file(domain.directory) == domain


def samples_file():
    file = io.BytesIO()
    np.save(file, np.arange(100, dtype=np.int16))
    return file.getvalue()


SAMPLES = samples_file()
HEADERS = st.builds(
    lambda descr, order, shape: repr({"descr": descr, "fortran_order": order, "shape": shape}),
    st.sampled_from(["<i2", ">i2", "|O", "<f8", "|V0", "<i0", "x", 3, [("a", "<i2")]]),
    st.sampled_from([False, True, 1, None]),
    st.one_of(
        st.tuples(st.integers(-(2**70), 2**70)),
        st.tuples(st.integers(-3, 300), st.integers(-3, 2**40)),
        st.sampled_from([(), 100, (100,), (True,), ("x",), (2**63,), (1.0,)]),
    ),
)


def check_samples(path, content):
    path.write_bytes(content)
    samples = outcome(open_samples, path)
    if isinstance(samples, DataError):
        assert "\n" not in str(samples)
        assert str(path) in str(samples)
        return
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    assert samples.nbytes <= len(content)
    samples.sum()  # all of it can be read


@given(cut=st.integers(0, 330), inserted=st.binary(max_size=20), removed=st.integers(0, 40))
def test_samples_with_other_bytes_somewhere(tmp_path, cut, inserted, removed):
    check_samples(tmp_path / "x.npy", SAMPLES[:cut] + inserted + SAMPLES[cut + removed :])


@given(header=HEADERS, version=st.sampled_from([1, 2, 3, 9]), n_bytes=st.integers(0, 300))
def test_samples_with_another_header(tmp_path, header, version, n_bytes):
    text = header.encode() + b"\n"
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    check_samples(
        tmp_path / "x.npy", b"\x93NUMPY" + bytes([version, 0]) + length + text + bytes(n_bytes)
    )


@pytest.mark.parametrize(
    "text", [b"(" * 9000, b"[" * 9000, b"{" * 200, b"-" * 9000 + b"1", b"'" * 9000, b"\0" * 99]
)
def test_samples_whose_header_is_a_trap(tmp_path, text):
    check_samples(
        tmp_path / "x.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(9)
    )


CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["1234", "../../x", "/etc/passwd", "9" * 400, "-1", "١٢٣", '"', "\0"]),
    st.sampled_from([word for key in MUSICNET_DOMAINS for word in key]),
)


@given(rows=st.lists(st.lists(CELLS, max_size=5), max_size=6), encoding=st.booleans())
def test_table_of_musicnet_with_any_cells(tmp_path, rows, encoding):
    (tmp_path / "train_data").mkdir(exist_ok=True)
    (tmp_path / "train_data" / "1234.wav").touch()
    text = "\n".join(",".join(row) for row in [["id", "composer", "ensemble"], *rows])
    table = tmp_path / "musicnet_metadata.csv"
    table.write_bytes(text.encode("utf-8" if encoding else "utf-16", "replace"))
    collections = outcome(musicnet_collections, tmp_path, PrepLog())
    if isinstance(collections, DataError):
        assert str(table) in str(collections)
        return
    files = {file for collection in collections for file in collection.files}
    assert files <= {tmp_path / "train_data" / "1234.wav"}
