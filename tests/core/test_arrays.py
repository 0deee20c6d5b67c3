"""What is taken as a waveform or as latents, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.errors import AudioError, LatentsError

from .conftest import noise


@pytest.mark.filterwarnings("error")
def test_any_kind_of_float_array_is_taken_as_it_is(translator):
    """Float64, read-only as mapped files are, strided: no warning, and nothing written."""
    wide = noise(400).astype(np.float64)
    read_only = noise(400)
    read_only.flags.writeable = False
    strided = np.repeat(noise(400), 2)[::2]
    encoded = [translator.encode(x, translator.sample_rate) for x in (wide, read_only, strided)]
    assert np.array_equal(encoded[0], encoded[1])
    assert np.array_equal(encoded[1], encoded[2])
    encoded[0].flags.writeable = False
    translator.decode(encoded[0], to="piano")
    translator.decode(np.asfortranarray(encoded[0]), to="piano")


@pytest.mark.parametrize(
    ("shape", "hint"), [((400, 2), r"waveform\.T"), ((1, 400), ""), ((3, 400), ""), ((), "")]
)
def test_a_waveform_that_is_neither_mono_nor_stereo_is_refused(translator, shape, hint):
    with pytest.raises(AudioError, match=rf"shape \(.*mono or \(2, samples\).*{hint}"):
        translator.encode(np.zeros(shape, np.float32), translator.sample_rate)


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_integers_are_scaled_as_in_wav_files(translator, dtype):
    full_scale = -int(np.iinfo(dtype).min)
    integers = np.rint(0.5 * full_scale * noise(400)).astype(dtype)
    encoded = translator.encode(integers, translator.sample_rate)
    assert np.array_equal(
        encoded, translator.encode((integers / full_scale).astype("f4"), translator.sample_rate)
    )


def test_lists_and_tensors_are_taken_as_arrays_are(translator):
    waveform = noise(400)
    wanted = translator.encode(waveform, translator.sample_rate)
    tensor = torch.from_numpy(waveform).requires_grad_()
    for same in (waveform.tolist(), tensor, waveform.astype(">f4")):
        assert np.array_equal(translator.encode(same, translator.sample_rate), wanted)
    made = translator.decode(torch.from_numpy(wanted), to="piano")
    assert np.array_equal(made, translator.decode(wanted.tolist(), to="piano"))
    coarse = torch.from_numpy(waveform).to(torch.bfloat16)
    assert translator.encode(coarse, translator.sample_rate).shape == wanted.shape


class OnGpu:
    """As a tensor on a GPU, which NumPy cannot read: it has to be copied first."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.dtype = tensor, tensor.dtype

    def detach(self):
        return OnGpu(self.tensor.detach())

    def cpu(self):
        return self.tensor

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_tensors_on_a_gpu_are_taken_as_arrays_are(translator):
    waveform = noise(400)
    wanted = translator.encode(waveform, translator.sample_rate)
    tensor = torch.from_numpy(waveform)
    assert np.array_equal(translator.encode(OnGpu(tensor), translator.sample_rate), wanted)
    made = translator.decode(OnGpu(torch.from_numpy(wanted)), to="piano")
    assert np.array_equal(made, translator.decode(wanted, to="piano"))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.full(9, np.nan, np.float32), "NaN or infinite"),
        (np.array([0, np.inf]), "NaN or infinite"),
        (np.array([0.0, 20_000.0]), r"peak of 20000: expected floats in -1..1"),
        (np.zeros(9, np.int64), "dtype int64: expected floats in -1..1, int16 or int32"),
        (np.zeros(9, bool), "dtype bool"),
        (np.zeros(9, np.uint8), "dtype uint8"),
        (np.zeros(9, complex), "dtype complex128"),
        (["a"], "dtype <U1"),
        ([None], "dtype object"),
        ([[0.0], [0.0, 1.0]], "neither an array nor a tensor"),
        (None, r"shape \(\)"),
    ],
)
def test_a_waveform_of_another_kind_is_named(spectral, waveform, message):
    for call in (spectral.encode, lambda *own: spectral.translate(*own, to="piano")):
        with pytest.raises(AudioError, match=message):
            call(waveform, 8000)


@pytest.mark.parametrize("sample_rate", [0, -8000, 999, 10**9, 8000.5, "8000", None, True])
def test_an_impossible_rate_is_named(spectral, sample_rate):
    with pytest.raises(AudioError, match="sample_rate"):
        spectral.encode(np.zeros(100, np.float32), sample_rate)


@pytest.mark.parametrize("latents", [[[1, 2]], np.full((2, 180), np.nan), [[None]], "abc", None])
def test_latents_of_another_kind_are_named(spectral, latents):
    with pytest.raises(LatentsError, match="latents"):
        spectral.decode(latents, to="piano")
