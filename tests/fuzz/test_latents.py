"""Latents that anybody may have written: every answer is finite floats or a LatentsError."""

from __future__ import annotations

import io
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy

from core.arrays import as_latents
from core.errors import LatentsError, UsageError
from core.latents import blend, mix, read_latents

from .test_data_files import VALUES


def read(data, tmp_path):
    """Read bytes as a stream and as a file, which give the same."""
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    found, refusals = [], []
    for source in (io.BytesIO(data), path):
        try:
            found.append(read_latents(source, "a.npy"))
        except LatentsError as error:
            refusals.append(str(error))
            found.append(None)
    assert all(refusal.startswith("a.npy: ") for refusal in refusals)
    stream, file = found
    assert (stream is None) == (file is None)
    if stream is not None:
        assert (stream.dtype, stream.ndim) == (np.float32, 2)
        assert np.isfinite(stream).all()
        np.testing.assert_array_equal(stream, file)


def stored(array, version=(1, 0)):
    stream = io.BytesIO()
    npy.write_array(stream, array, version)
    return stream.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@given(data=st.data())
def test_bytes_of_any_kind(tmp_path, version, data):
    whole = stored(np.linspace(-1, 1, 60).reshape(12, 5).astype("f4"), version)
    start = data.draw(st.integers(0, len(whole)), label="start")
    removed = data.draw(st.integers(0, 20), label="removed")
    added = data.draw(st.binary(max_size=20), label="added")
    read(whole[:start] + added + whole[start + removed :], tmp_path)


@given(
    descr=st.sampled_from(["<f4", ">f8", "<f2", "<i4", "|O", "<f16", "<c8", "<M8[s]", "|V7", "x"])
    | VALUES,
    shape=st.lists(st.integers(-2, 2**70) | st.integers(0, 9), max_size=3).map(tuple) | VALUES,
    fortran_order=st.booleans() | VALUES,
    data=st.binary(max_size=400),
)
def test_headers_of_any_kind(tmp_path, descr, shape, fortran_order, data):
    values = {"descr": descr, "fortran_order": fortran_order, "shape": shape}
    try:
        header = repr(values).encode("utf-8", "surrogateescape")
    except ValueError:  # Python prints no integer of so many digits
        header = b"{'shape': (" + b"9" * 5000 + b", 1)}"
    header = header[:60_000]
    read(b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data, tmp_path)


def test_nothing_is_read_beyond_what_was_announced():
    """A pipe may give gigabytes more."""

    class Endless(io.RawIOBase):
        n_read = 0

        def read(self, size=-1):
            assert size >= 0, "all of an endless stream"
            self.n_read += size
            if self.start:
                data, self.start = self.start[:size], self.start[size:]
                return data
            return bytes(size)

    stream = Endless()
    stream.start = stored(np.zeros((3, 5), np.float32))
    n_bytes = len(stream.start)
    with pytest.raises(LatentsError, match="followed by something else"):
        read_latents(stream, "-")
    assert stream.n_read <= n_bytes + 1


def test_a_header_of_gigabytes_is_not_read():
    class Endless(io.RawIOBase):
        start = b"\x93NUMPY\x02\0" + struct.pack("<I", 2**32 - 1)

        def read(self, size=-1):
            assert 0 <= size < 1 << 20, "more than any header takes"
            data, self.start = self.start[:size], self.start[size:]
            return data or bytes(size)

    with pytest.raises(LatentsError, match=r"damaged \.npy header"):
        read_latents(Endless(), "-")


@given(values=VALUES, number=st.floats() | st.integers() | VALUES)
def test_values_of_any_kind_in_python(values, number):
    good = np.zeros((4, 2), np.float32)
    for call in (
        lambda: as_latents(values),
        lambda: mix(values, good, 0.5),
        lambda: mix(good, good, number),
        lambda: blend(good, good, overlap_frames=number),
    ):
        with suppress(LatentsError, UsageError):
            assert np.isfinite(call()).all()
