"""Model files: what survives them, what is refused, and which one is taken."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from core.config import Config
from core.errors import ModelError, UsageError
from core.key_range import KeyRange
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
    assert (header.sample_rate, header.hop_length, header.latent_dim) == (8000, 128, 268)
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


def test_ranges_are_stored_and_part_of_the_id(tiny_spectral, tmp_path):
    model = Translator.create(tiny_spectral, ["organ", "piano"])
    model.save(tmp_path / "m.safetensors")
    plain = model.id
    model.ranges = {"piano": KeyRange(21, 108)}
    model.save(tmp_path / "m.safetensors")
    header = read_header(tmp_path / "m.safetensors")
    assert header.ranges == model.ranges
    assert header.id == model.id != plain


@pytest.mark.parametrize(
    "ranges",
    [
        {"flute": {"lowest": 60, "highest": 84}},  # no domain of the model
        {"piano": {"lowest": 60, "highest": 70}},  # less than an octave
        {"piano": [60, 84]},
    ],
)
def test_ranges_that_cannot_be_are_a_damaged_file(path, ranges):
    data = path.read_bytes()
    header, _ = split(data)
    values = json.loads(header["__metadata__"]["header"]) | {"ranges": ranges}
    path.write_bytes(with_metadata(data, header=json.dumps(values)))
    with pytest.raises(ModelError, match="damaged"):
        read_header(path)


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
    with pytest.raises(ModelError, match=r"not a model file, or damaged .*not fully covered"):
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


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no model .*none'.*found here \(.*starter"):
        Translator.load(tmp_path / "none")
    with pytest.raises(UsageError, match=r"a directory without model\.safetensors"):
        Translator.load(tmp_path)
    with pytest.raises(ModelError, match=r"cannot read this model: it is a directory"):
        read_header(tmp_path)
    with pytest.raises(ModelError, match=r"cannot read this model: No such file"):
        read_header(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match=r"not a regular file"):
        read_header(tmp_path / "pipe")


def test_a_run_and_a_bundled_name_are_loaded_like_a_file(path, tmp_path):
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    path.rename(run / "model.safetensors")
    assert Translator.load(run).domains == DOMAINS
    assert "piano" in Translator.load("starter", domains=[]).domains


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "cpu:7"])
def test_a_device_that_is_not_there_is_wrong_usage(path, device):
    with pytest.raises(UsageError, match="this machine has"):
        Translator.load(path, device=device)


def test_a_failed_save_leaves_the_old_file_and_no_other(path, whole, full_disk):
    model = Translator.load(path)
    with full_disk(1000), pytest.raises(OSError, match=path.name):
        model.save(path)
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


def test_a_model_that_is_saved_while_it_is_read_is_one_or_the_other(tiny_spectral, tmp_path):
    """A run replaces its model file; header and weights come from one of the two."""
    path = tmp_path / "m.safetensors"
    models = [Translator.create(tiny_spectral, DOMAINS, seed=seed) for seed in (1, 2)]
    for model in models:
        model.save(path)
    is_done = threading.Event()

    def save() -> None:
        while not is_done.is_set():
            for model in models:
                model.save(path)

    writer = threading.Thread(target=save)
    writer.start()
    try:
        ids = {Translator.load(path, domains=["piano"]).id for _ in range(30)}
    finally:
        is_done.set()
        writer.join()
    assert ids <= {model.id for model in models}


def with_header(data, **changes):
    """Return a model file whose header says something else, with the id that goes with it."""
    header, tensors = split(data)
    values = json.loads(header["__metadata__"]["header"]) | changes
    text = json.dumps([values["config"], values["domains"], values["checksums"]], sort_keys=True)
    header["__metadata__"] |= {
        "header": json.dumps(values),
        "id": hashlib.sha256(text.encode()).hexdigest()[:12],
    }
    return join(header, tensors)


def with_model(data, **changes):
    header, _ = split(data)
    config = json.loads(header["__metadata__"]["header"])["config"]
    return with_header(data, config=config | {"model": config["model"] | changes})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"encoder_layers": 10**6}, "encoder_layers = 1000000: expected 24 or less"),
        ({"encoder_layers": 24}, "no tensor"),
        ({"decoder_channels": 4000}, "has shape"),
        ({"decoder_hidden": 2**14, "encoder_hidden": 2**14}, "has shape"),
        ({"decoder_channels": 10**9}, "expected 16,384 or less"),
        ({"encoder_layers": "2"}, "encoder_layers = '2': expected an integer"),
        ({"n_fft": True}, "n_fft = True: expected an integer"),
        ({"frame_length": 2**14, "downsampling": 64, "n_fft": 2**15}, "downsampling = 64"),
    ],
)
def test_networks_that_are_not_those_of_the_file_are_not_built(path, whole, section, message):
    path.write_bytes(with_model(whole, **section))
    with pytest.raises(ModelError, match=message):
        Translator.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domains": []}, "0 domains"),
        ({"domains": ["bach", "bach"]}, "2 domains: expected"),
        ({"domains": ["../bach"]}, "cannot be a domain's name"),
        ({"domains": ["ba\x1b[31mch"]}, "cannot be a domain's name"),
        ({"domains": "bach"}, "domains = 'bach': expected a list"),
        ({"domains": [3]}, r"domains\[0\] = 3: expected a text"),
        ({"level_db": "loud"}, "level_db = 'loud': expected a number"),
        ({"level_db": 1e9}, "level_db = 1000000000.0: impossible"),
        ({"sample_rate": 16000}, "contradicts the configuration"),
        ({"latent_dim": 10**30}, "a huge integer"),
        ({"classified": ["flute"]}, "unknown domains"),
        ({"checksums": {"encoder": "x"}}, "checksums.encoder = 'x'"),
        ({"training": []}, r"training = \[\]"),
        ({"config": {}}, "unknown model family None"),
        ({"config": 5}, "config = 5"),
    ],
)
def test_a_header_is_checked_value_by_value(path, whole, changes, message):
    path.write_bytes(with_header(whole, **changes))
    with pytest.raises(ModelError, match=message) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_loading_a_model_does_not_load_torchs_compiler():
    """It takes longer to import than a second of sound takes to translate."""
    program = (
        "import sys; from core import Translator; Translator.load('starter', domains=['piano']); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
