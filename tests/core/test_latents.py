"""The arrays between encode and decode: what is read, what is refused, how two are joined."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from numpy.lib import format as npy

from core.errors import LatentsError, UsageError
from core.latents import LatentStore, blend, mix, read_latents, write_latent_blocks, write_latents


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def latents(generator) -> np.ndarray:
    return generator.standard_normal((37, 64)).astype(np.float32)


def saved(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def read(content: bytes) -> np.ndarray:
    return read_latents(io.BytesIO(content), "z.npy")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_in_any_order_are_read_as_float32(latents, dtype, order):
    array = np.asarray(latents, dtype=dtype, order=order)
    result = read(saved(array))
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, array.astype(np.float32))


def test_version_2_of_the_format_is_read(latents):
    stream = io.BytesIO()
    npy.write_array(stream, latents, version=(2, 0))
    np.testing.assert_array_equal(read(stream.getvalue()), latents)


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (500, 2), (2, 1, 3), (2, 50, 4)])
def test_what_is_written_is_what_numpy_reads_and_we_do(generator, shape):
    array = generator.standard_normal(shape).astype(np.float32)
    stream = io.BytesIO()
    write_latents(stream, np.asfortranarray(array))
    assert stream.getvalue() == saved(array)
    np.testing.assert_array_equal(read(stream.getvalue()), array)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_two_channels_are_read_from_files_and_streams(tmp_path, generator, dtype, order):
    array = generator.standard_normal((2, 50, 4)).astype(dtype)
    np.save(tmp_path / "z.npy", np.asarray(array, order=order))
    for source in (tmp_path / "z.npy", io.BytesIO((tmp_path / "z.npy").read_bytes())):
        np.testing.assert_array_equal(read_latents(source, "z.npy"), array.astype(np.float32))


@pytest.mark.parametrize("n_cut", [1, 300, 799])
def test_two_channels_that_are_cut_off_are_refused(generator, n_cut):
    content = saved(np.ones((2, 50, 2), np.float32))
    with pytest.raises(LatentsError, match=f"cut off: {800 - n_cut} bytes"):
        read(content[:-n_cut])
    with pytest.raises(LatentsError, match="followed by something else"):
        read(content + b"0")


@pytest.mark.parametrize("latents_shape", [(50, 4), (2, 50, 4)])
def test_latents_go_through_a_pipe(generator, latents_shape):
    latents = generator.standard_normal(latents_shape).astype(np.float32)
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as stream:
        write_latents(stream, latents)
    with os.fdopen(read_end, "rb") as stream:
        np.testing.assert_array_equal(read_latents(stream, "-"), latents)


def test_latents_are_read_from_a_path(tmp_path, latents):
    np.save(tmp_path / "z.npy", latents)
    np.testing.assert_array_equal(read_latents(tmp_path / "z.npy", "z.npy"), latents)
    with pytest.raises(LatentsError, match=r"no\.npy: .*No such file"):
        read_latents(tmp_path / "no.npy", "no.npy")
    with pytest.raises(LatentsError, match="directory"):
        read_latents(tmp_path, "dir")


def test_kept_latents_are_those_that_were_kept(generator):
    """Of one channel and of two, in one store; and in the order that a file has."""
    shapes = [(50, 4), (30, 2, 4), (1, 4), (23, 2, 4)]
    arrays = [generator.standard_normal(shape).astype("f4") for shape in shapes]
    with LatentStore(4) as store:
        kept = [store.keep(np.array_split(array, 3)) for array in arrays]
        assert [own.shape for own in kept] == [(50, 4), (2, 30, 4), (1, 4), (2, 23, 4)]
        for own, array in zip(kept, arrays, strict=True):
            np.testing.assert_array_equal(np.concatenate(list(own.blocks())), array)
            stream = io.BytesIO()
            write_latent_blocks(stream, own.channels(), own.shape)
            expected = array if array.ndim == 2 else array.transpose(1, 0, 2)
            assert stream.getvalue() == saved(np.ascontiguousarray(expected))


def test_a_full_temporary_directory_is_named_as_such(full_disk):
    with (
        full_disk(10_000),
        LatentStore(4) as store,
        pytest.raises(LatentsError, match="TMPDIR"),
    ):
        store.keep([np.zeros((10_000, 4), np.float32)])


VALUES = np.ones((3, 4), np.float32)
SAVED = saved(VALUES)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"text\n" * 9, "not a .npy file"),
        (b"\x93NUM", "not a .npy file"),
        (b"\x93NUMPY", "version"),
        (b"\x93NUMPY\x09\x00" + SAVED[8:], "version"),
        (SAVED[:9], "damaged"),
        (SAVED[:30], "damaged"),
        (SAVED.replace(b"descr", b"dexxr"), "damaged"),
        (SAVED.replace(b"<f4", b"<q9"), "damaged"),
        (SAVED[:-1], "cut off: 47 bytes of numbers, its header announces 48"),
        (SAVED[:-48], "cut off"),
        (SAVED + b"\0", "followed by something else"),
        (SAVED.replace(b"(3, 4), ", b"(-3, -4)"), "no frames"),
        (SAVED.replace(b"(3, 4), }       ", b"(99999999, 99)}"), "damaged|cut off"),
        (saved(np.array([[{}]], object), allow_pickle=True), "pickled"),
        (saved(np.ones((3, 4), np.int16)), "int16"),
        (saved(np.ones((3, 4), bool)), "bool"),
        (saved(np.ones((3, 4), complex)), "complex128"),
        (saved(np.zeros((3,), [("a", "f4")])), "dtype"),
        (saved(np.full((3, 4), "x")), "U1"),
        (saved(np.ones(4, np.float32)), r"shape \(4,\)"),
        (saved(np.float32(4)), r"shape \(\)"),
        (saved(np.ones((1, 3, 4), np.float32)), r"shape \(1, 3, 4\)"),
        (saved(np.ones((0, 4), np.float32)), "no frames"),
        (saved(np.ones((4, 0), np.float32)), "no frames"),
        (saved(np.array([[0, 0], [0, np.nan]], np.float32)), "first in frame 1"),
        (saved(np.array([[np.inf, 0]], np.float16)), "first in frame 0"),
        (saved(np.array([[1e300, 0]])), "first in frame 0"),
        (b"PK\x03\x04" + bytes(40), "not a .npy file"),
    ],
)
def test_anything_else_is_refused_in_one_line_with_the_name(content, match):
    with pytest.raises(LatentsError, match=match) as caught:
        read(content)
    assert str(caught.value).startswith("z.npy: ")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_damaged_files_are_latents_errors_and_nothing_else(generator):
    n_refused = 0
    for _ in range(400):
        content = bytearray(SAVED)
        for position in generator.integers(6, 128, 3):
            content[position] = generator.integers(256)
        try:
            read(bytes(content))
        except LatentsError:
            n_refused += 1
    assert n_refused > 300


def test_pickles_are_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    with pytest.raises(LatentsError):
        read(saved(np.array([[Bomb()]], object), allow_pickle=True))
    assert not (tmp_path / "ran").exists()


def test_stdin_is_called_stdin():
    with pytest.raises(LatentsError, match=r"^stdin: is empty"):
        read_latents(io.BytesIO(), "-")


def test_a_blend_fades_linearly_from_the_end_of_one_to_the_start_of_the_other():
    first, second = np.zeros((5, 2), np.float32), np.ones((6, 2), np.float32)
    joined = blend(first, second, overlap_frames=3)
    assert joined.dtype == np.float32
    assert joined.shape == (8, 2)
    np.testing.assert_allclose(joined[:, 0], [0, 0, 0.25, 0.5, 0.75, 1, 1, 1])


def test_a_blend_keeps_what_does_not_overlap(latents, generator):
    second = generator.standard_normal((20, 64)).astype(np.float32)
    joined = blend(latents, second, overlap_frames=7)
    np.testing.assert_array_equal(joined[:30], latents[:30])
    np.testing.assert_array_equal(joined[37:], second[7:])
    np.testing.assert_allclose(joined[33], (latents[33] + second[3]) / 2, rtol=1e-6)


def test_a_blend_without_overlap_joins_end_to_end(latents):
    joined = blend(latents, latents, overlap_frames=0)
    np.testing.assert_array_equal(joined, np.concatenate([latents, latents]))


@pytest.mark.parametrize("overlap_frames", [-1, 21])
def test_an_overlap_longer_than_an_input_is_wrong_usage(latents, overlap_frames):
    with pytest.raises(UsageError, match="37 and 20: at most 20"):
        blend(latents, latents[:20], overlap_frames=overlap_frames)


@pytest.mark.parametrize("weight", [0, 0.25, 1])
def test_a_mix_is_weighted_and_as_long_as_the_shorter(latents, generator, weight):
    second = generator.standard_normal((20, 64)).astype(np.float32)
    mixed = mix(latents, second, weight)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, (1 - weight) * latents[:20] + weight * second, atol=1e-6)
    np.testing.assert_array_equal(mix(latents, second, 0), latents[:20])
    np.testing.assert_array_equal(mix(latents, second, 1), second)


@pytest.mark.parametrize("weight", [-0.1, 1.1, np.nan])
def test_a_share_outside_0_to_1_is_wrong_usage(latents, weight):
    with pytest.raises(UsageError, match="0 to 1"):
        mix(latents, latents, weight)


def test_different_widths_name_both(latents):
    for join in (
        lambda: mix(latents, latents[:, :8], 0.5),
        lambda: blend(latents, latents[:, :8], overlap_frames=1),
    ):
        with pytest.raises(LatentsError, match="64 and of 8 numbers a frame"):
            join()


@pytest.mark.parametrize("mono_is_first", [True, False])
def test_latents_of_one_channel_are_joined_with_both_of_two(generator, mono_is_first):
    mono = generator.standard_normal((5, 3)).astype(np.float32)
    stereo = generator.standard_normal((2, 6, 3)).astype(np.float32)
    inputs = (mono, stereo) if mono_is_first else (stereo, mono)
    joined, mixed = blend(*inputs, overlap_frames=2), mix(*inputs, 0.25)
    for channel in range(2):
        own = [own if own.ndim == 2 else own[channel] for own in inputs]
        np.testing.assert_array_equal(joined[channel], blend(*own, overlap_frames=2))
        np.testing.assert_array_equal(mixed[channel], mix(*own, 0.25))
