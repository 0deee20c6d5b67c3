"""Model files: what survives them, what is refused, and which one is taken."""

from __future__ import annotations

import json
import os
import pickle
import struct
import textwrap

import numpy as np
import pytest
import torch

import core
from core.config import Config
from core.errors import ModelError, UsageError
from core.model_file import FORMAT_VERSION, read_header
from core.translator import Translator

DOMAINS = ("bach", "piano", "winds")


def split(data):
    """Return a safetensors file's header, parsed, and its tensor data."""
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture(scope="module")
def whole(tiny_spectral, tmp_path_factory):
    """The bytes of a good model file."""
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    model = Translator.create(tiny_spectral, DOMAINS, seed=1)
    model.training_record = {"steps": 7, "data": {"bach": 1.5}}
    model.level_db = -23.5
    model.save(path)
    return path.read_bytes()


@pytest.fixture
def path(whole, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(whole)
    return path


def test_saving_and_loading_keeps_every_bit_and_everything_else(any_family, tmp_path):
    path = tmp_path / "m.safetensors"
    model = Translator.create(any_family, DOMAINS, seed=1)
    model.training_record, model.level_db = {"steps": 3, "note": "é"}, -17.25
    model.save(path)
    loaded = Translator.load(path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    for name in ("config", "domains", "training_record", "level_db", "id"):
        assert getattr(loaded, name) == getattr(model, name)
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, model.hop_length)
    latents = model.eval().encode(waveform, model.sample_rate)
    assert np.array_equal(loaded.encode(waveform, model.sample_rate), latents)
    assert np.array_equal(loaded.decode(latents, to="bach"), model.decode(latents, to="bach"))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_the_packages_own_example_runs(tiny_spectral, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Translator.create(tiny_spectral, DOMAINS)
    model.save("model.safetensors")
    example = textwrap.dedent(core.__doc__.split("Example:\n")[1])
    found = {"core": core, "waveform": np.zeros(44100, np.float32)}
    exec(example, found)
    assert len(found["piano"]) >= model.sample_rate


def test_half_precision_halves_the_file_and_changes_little(any_family, tmp_path):
    model = Translator.create(any_family, DOMAINS).eval()
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    model.save(full)
    model.save(half, dtype=torch.float16)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    loaded = Translator.load(half)
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    torch.testing.assert_close(
        dict(loaded.state_dict()), dict(model.state_dict()), atol=1e-3, rtol=1e-3
    )
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * model.hop_length)
    latents = [one.encode(waveform, model.sample_rate) for one in (model, loaded)]
    np.testing.assert_allclose(latents[0], latents[1], atol=1e-2)


def test_header_tells_all_without_weights(path, tiny_spectral):
    header = read_header(path)
    assert (header.family, header.preset, header.domains) == ("spectral", "fast", DOMAINS)
    assert (header.sample_rate, header.hop_length, header.latent_dim) == (8000, 128, 180)
    assert (header.level_db, header.training["steps"]) == (-23.5, 7)
    assert header.config == json.loads(json.dumps(tiny_spectral.to_dict()))
    loaded = Translator.load(path)
    counted = {
        "encoder": loaded.encoder,
        "classifier": loaded.classifier,
        **{f"decoders.{name}": loaded.decoders[name] for name in DOMAINS},
    }
    assert header.n_parameters == {
        name: sum(p.numel() for p in module.parameters()) for name, module in counted.items()
    }


@pytest.mark.parametrize("wanted", [[], ["piano"], ["winds", "bach"], ["bach", "bach"], None])
def test_only_the_decoders_asked_for_are_in_memory(path, wanted):
    model = Translator.load(path, domains=wanted)
    held = set(DOMAINS if wanted is None else wanted)
    assert set(model.decoders) == held
    assert {name.split(".")[1] for name in model.state_dict() if "decoders." in name} == held
    assert model.domains == DOMAINS


def test_decoders_not_asked_for_are_not_even_read(path):
    data = bytearray(path.read_bytes())
    header, tensors = split(data)
    begin, end = header["decoders.winds.input.weight"]["data_offsets"]
    data[len(data) - len(tensors) + (begin + end) // 2] ^= 1
    path.write_bytes(data)
    Translator.load(path, domains=["piano", "bach"])
    with pytest.raises(ModelError, match=r"damaged: the weights of decoders\.winds changed"):
        Translator.load(path, domains=["winds"])


def test_loading_an_unknown_domain_lists_the_known_ones(path):
    with pytest.raises(UsageError, match=r"unknown domain 'flute'.*bach, piano, winds"):
        Translator.load(path, domains=["piano", "flute"])


def test_id_is_that_of_the_weights_configuration_and_domains(tiny_spectral, tmp_path):
    def saved_id(model, **options):
        model.save(tmp_path / "m.safetensors", **options)
        assert read_header(tmp_path / "m.safetensors").id == model.id
        return model.id

    first = saved_id(Translator.create(tiny_spectral, DOMAINS))
    assert first == saved_id(Translator.create(tiny_spectral, DOMAINS))
    assert first == saved_id(Translator.load(tmp_path / "m.safetensors"))
    others = [
        saved_id(Translator.create(tiny_spectral, DOMAINS, seed=1)),
        saved_id(Translator.create(tiny_spectral, ("bach", "piano", "xylophone"))),
        saved_id(Translator.create(tiny_spectral.updated("model", latent_noise=0.1), DOMAINS)),
        saved_id(Translator.create(tiny_spectral, DOMAINS), dtype=torch.float16),
    ]
    assert len({first, *others}) == 1 + len(others)


def with_metadata(data, **changes):
    header, tensors = split(data)
    header["__metadata__"] |= changes
    return join(header, tensors)


def flip(data, position):
    return data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :]


class Payload:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


DAMAGED = {
    "empty": lambda _: b"",
    "seven bytes": lambda data: data[:7],
    "header cut off": lambda data: data[:500],
    "data cut off": lambda data: data[:-1],
    "half": lambda data: data[: len(data) // 2],
    "data too long": lambda data: data + b"\0",
    "flipped in the length": lambda data: flip(data, 1),
    "flipped in the configuration": lambda data: flip(data, data.index(b"frame_length") + 17),
    "flipped in a domain": lambda data: flip(data, data.index(b"piano")),
    "flipped in the weights": lambda data: flip(data, len(data) - 9),
    "not safetensors": lambda _: b"RIFF\x24\0\0\0WAVEfmt " + bytes(100),
    "text": lambda _: b"hello, this is not a model\n" * 20,
    "pickle": lambda _: pickle.dumps(Payload()),
    "header of a list": lambda _: join(b"[1, 2]", b""),
    "deeply nested header": lambda _: join(b"[" * 100_000, b""),
    "foreign metadata": lambda data: with_metadata(data, format="pt"),
    "metadata no table": lambda _: join({"__metadata__": 5}, b""),
    "no metadata": lambda _: join(
        {"x": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, b"0000"
    ),
    "no configuration": lambda data: with_metadata(data, header="{}"),
    "configuration no JSON": lambda data: with_metadata(data, header="{"),
    "version no text": lambda data: with_metadata(data, format_version=[1]),
    "version no number": lambda data: with_metadata(data, format_version="²"),
    "offsets missing": lambda data: join(
        {"__metadata__": split(data)[0]["__metadata__"], "x": {"data_offsets": []}}, b""
    ),
    "tensors missing": lambda data: join({"__metadata__": split(data)[0]["__metadata__"]}, b""),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_and_foreign_files_are_refused_in_one_line(path, whole, damage, monkeypatch):
    monkeypatch.chdir(path.parent)
    path.write_bytes(DAMAGED[damage](whole))
    with pytest.raises(ModelError) as caught:
        Translator.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert [item.name for item in path.parent.iterdir()] == [path.name], "nothing was executed"


@pytest.mark.parametrize("damage", ["data cut off", "data too long", "half"])
def test_a_wrong_length_is_seen_without_reading_the_weights(path, whole, damage):
    path.write_bytes(DAMAGED[damage](whole))
    with pytest.raises(ModelError, match=r"damaged: \d+ bytes, its header says \d+"):
        read_header(path)


def test_no_flipped_header_byte_gives_another_network_or_a_traceback(path, whole):
    good = read_header(path)
    survivors = 0
    for position in range(8, whole.index(b"data_offsets"), 17):
        path.write_bytes(flip(whole, position))
        try:
            loaded = Translator.load(path, domains=[])
        except ModelError:
            continue
        survivors += 1  # a level, or a note on the training
        assert loaded.config == Config.from_dict(good.config)
        assert (loaded.domains, read_header(path).checksums) == (good.domains, good.checksums)
    assert survivors < 5


def test_a_newer_format_is_refused_with_what_to_do(path, whole):
    path.write_bytes(with_metadata(whole, format_version=str(FORMAT_VERSION + 1)))
    with pytest.raises(ModelError, match=r"m\.safetensors: model format 2, .* 1; update umt"):
        read_header(path)


def test_a_missing_file_and_a_directory_are_model_errors(tmp_path):
    with pytest.raises(ModelError, match=r"none: cannot read this model: No such file"):
        Translator.load(tmp_path / "none")
    with pytest.raises(ModelError, match=r"cannot read this model: Is a directory"):
        Translator.load(tmp_path)


def test_a_failed_save_leaves_the_old_file_and_no_other(path, whole, monkeypatch):
    def fails(_, temporary, **__):
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.translator.save_file", fails)
    model = Translator.load(path)
    with pytest.raises(OSError, match="No space"):
        model.save(path)
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]
