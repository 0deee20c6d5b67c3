"""The authors' checkpoints: read into the same networks, and everything else refused by name."""

from __future__ import annotations

import argparse
import math
import zipfile
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from core.config import WaveNetConfig
from core.errors import ModelError
from core.families.wavenet.published import read_published
from core.translator import Translator
from tests.published import DOMAINS, small_config, write_published


class Planted:
    """What runs code when it is unpickled by other means."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("is_legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("is_cuda", [False, True], ids=["cpu", "cuda"])
def test_the_networks_are_those_of_the_checkpoints(tmp_path, prefix, is_legacy, is_cuda):
    theirs = write_published(tmp_path, prefix=prefix, is_legacy=is_legacy, is_cuda=is_cuda)
    if is_cuda and not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA device"):
            torch.load(tmp_path / "lastmodel_0.pth", weights_only=True)
    published = read_published(tmp_path)
    assert published.config == theirs.config
    assert published.domains == ("Bassoon", "Cello", "Piano")
    model = Translator(published.config, published.domains, published.domains).eval()
    model.load_state_dict(published.tensors)
    waveform = torch.rand(2, 1600) - 0.5
    with torch.no_grad():
        latents = theirs.encoder(waveform)
        assert torch.equal(model.encoder(waveform), latents)
        codes = theirs.decoders["Cello"].mu_law.encode(waveform)
        for name, decoder in theirs.decoders.items():
            assert torch.equal(model.decoders[name](codes, latents), decoder(codes, latents))
        by_rank, by_name = theirs.classifier(latents), model.classifier(latents)
    for rank, name in enumerate(DOMAINS):
        place = published.domains.index(name)
        assert torch.equal(by_name[:, place], by_rank[:, rank])


def test_what_the_files_do_not_say_is_the_authors_recipe(tmp_path):
    write_published(tmp_path)
    config = read_published(tmp_path).config
    assert config.preset == "paper-code"
    assert isinstance(config.model, WaveNetConfig)
    assert config.model.hop_length == 800
    assert (config.model.mu_law, config.model.encoder_leading_relu) == ("floor", False)
    assert config.training == small_config().training


def test_the_source_is_recorded(tmp_path):
    write_published(tmp_path)
    source = read_published(tmp_path).source
    assert (source["checkpoints"], source["epoch"]) == ("lastmodel", 73)
    assert source["ranks"] == list(DOMAINS)
    assert set(source["sha256"]) == {f"lastmodel_{rank}.pth" for rank in range(3)}


@pytest.mark.parametrize("is_legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["args", "model"])
def test_code_in_a_file_is_refused_by_name_and_not_run(tmp_path, place, is_legacy):
    marker, folder = tmp_path / "ran", tmp_path / "checkpoints"

    def plant(rank, content):
        if rank == 1 and place == "model":
            content["extra"] = Planted(marker)

    options = {"hidden": Planted(marker)} if place == "args" else {}
    write_published(folder, change=plant, is_legacy=is_legacy, **options)
    with pytest.raises(ModelError, match=r"(args|lastmodel_1)\.pth: refused: .*open"):
        read_published(folder)
    assert not marker.exists()


def test_model_files_may_not_even_hold_what_args_may(tmp_path):
    write_published(tmp_path, change=lambda _, c: c.update(options=argparse.Namespace(a=1)))
    with pytest.raises(ModelError, match=r"lastmodel_0\.pth: refused: .*argparse\.Namespace"):
        read_published(tmp_path)


def move_encoder(rank, content):
    if rank == 2:
        content["encoder_state"]["start.bias"] = content["encoder_state"]["start.bias"] + 1e-6


def test_encoders_that_differ_are_refused(tmp_path):
    write_published(tmp_path, change=move_encoder)
    with pytest.raises(ModelError, match=r"lastmodel_2\.pth: .*lastmodel_0\.pth \(input\.bias"):
        read_published(tmp_path)


def test_best_checkpoints_are_taken_on_request_with_the_first_encoder(tmp_path):
    theirs = write_published(tmp_path, kind="bestmodel", change=move_encoder)
    with pytest.raises(ModelError, match=r"different epochs.*--best takes them"):
        read_published(tmp_path)
    published = read_published(tmp_path, best=True)
    bias = published.tensors["encoder.input.bias"]
    assert torch.equal(bias, theirs.encoder.input.bias)
    assert published.source["checkpoints"] == "bestmodel"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kernel_size": 3}, r"kernel_size = 3; only checkpoints with 2"),
        ({"encoder_func": "tanh"}, r"encoder_func = 'tanh'; only checkpoints with 'relu'"),
        ({"d_layers": 4}, r"d_layers = 4; only checkpoints with 3"),
        ({"kernel_size": torch.ones(2)}, r"kernel_size = "),
        ({"blocks": 3}, r"decoder has 8 layers, and args\.pth has 3 × 4"),
        ({"encoder_layers": 2}, r"encoder has 6 layers, and args\.pth has 2 × 2"),
        ({"blocks": 1, "layers": 40}, r"layers = 40: expected 1 to 20"),
        ({"encoder_pool": 0}, r"encoder_pool = 0: expected 1 to 16000"),
        ({"encoder_pool": 10**15}, r"encoder_pool = 10+: expected"),
        ({"data": None}, r"`data` lists no folders"),
        ({"data": []}, r"names a domain twice or not at all"),
        ({"data": ["/a/x", "/b/x", "/c/y"]}, r"names a domain twice"),
        ({"data": ["/a/x", "/b/y"]}, r"lastmodel_2\.pth has no domain; args\.pth lists 2: x, y"),
        ({"data": ["w", "x", "y", "z"]}, r"no lastmodel_3\.pth; args\.pth lists 4 domains"),
    ],
)
def test_options_of_other_networks_are_refused(tmp_path, options, reason):
    write_published(tmp_path, **options)
    with pytest.raises(ModelError, match=reason):
        read_published(tmp_path)


def set_tensor(part, key, value):
    def change(rank, content):
        content[part][key] = value

    return change


def remove(part, key):
    return lambda _, content: content[part].pop(key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            set_tensor("encoder_state", "dilated_convs.0.extra.weight", torch.ones(1)),
            "another project",
        ),
        (set_tensor("decoder_state", "attention.weight", torch.ones(1)), r"'attention\.weight'"),
        (remove("decoder_state", "logits.bias"), r"decoder\.output\.bias has shape None"),
        (remove("encoder_state", "start.weight"), r"no tensor for input\.weight"),
        (remove("discriminator_state", "convs.4.bias"), r"classifier\.layers\.2\.bias"),
        (lambda _, content: content.pop("discriminator_state"), "has no discriminator_state"),
        (lambda _, content: content.update(dataset=5), r"is of rank 5, its name is that of rank 0"),
        (
            set_tensor("decoder_state", "fc.bias", torch.ones(5)),
            r"has shape \(5,\), expected \(6,\)",
        ),
        (set_tensor("decoder_state", "fc.bias", torch.full((6,), torch.nan)), "not finite"),
        (set_tensor("decoder_state", "fc.bias", torch.ones(6, dtype=torch.long)), "no floating"),
        (set_tensor("decoder_state", "fc.bias", [1.0] * 6), "is no tensor"),
        (set_tensor("decoder_state", "fc.bias", torch.ones(1).expand(10**12)), "fewer numbers"),
        (
            set_tensor("encoder_state", "start.weight", torch.ones(4, 1, 5)),
            r"encoder\.input\.weight",
        ),
        (
            set_tensor("discriminator_state", "convs.6.bias", torch.ones(2)),
            r"classifier\.output\.bias has shape \(2,\), expected \(3,\)",
        ),
    ],
)
def test_other_contents_are_refused_with_the_reason(tmp_path, change, reason):
    write_published(tmp_path, change=change)
    with pytest.raises(ModelError, match=reason):
        read_published(tmp_path)


@pytest.mark.parametrize("name", ["args.pth", "lastmodel_1.pth"])
@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 100, "cut"])
def test_damaged_files_are_one_error_that_names_them(tmp_path, name, content):
    write_published(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-300] if content == "cut" else content)
    with pytest.raises(ModelError, match=name):
        read_published(tmp_path)


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    write_published(tmp_path, change=lambda _, c: c.update(more=torch.zeros(10**6)))
    path = tmp_path / "lastmodel_1.pth"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert path.stat().st_size < 10**5
    assert "more" in torch.load(path, weights_only=True), "torch itself unpacks it"
    with pytest.raises(ModelError, match=r"lastmodel_1\.pth: refused: it would unpack to 4\d{6} "):
        read_published(tmp_path)


def test_a_folder_without_checkpoints_says_what_is_expected(tmp_path):
    with pytest.raises(ModelError, match=r"args\.pth: not there; a folder of .*lastmodel_RANK"):
        read_published(tmp_path)
    write_published(tmp_path)
    for path in tmp_path.glob("lastmodel_[12].pth"):
        path.unlink()
    with pytest.raises(ModelError, match=r"no lastmodel_1\.pth, lastmodel_2\.pth; .*Cello, Piano"):
        read_published(tmp_path)


def test_names_of_folders_become_names_of_domains(tmp_path):
    write_published(tmp_path, data=["/data/Bach.Cello", "/data/-a, b", "/data/Quartett (Köln)"])
    assert read_published(tmp_path).domains == ("Bach_Cello", "Quartett _Köln_", "a_ b")


def apply(state, name, x, **options):
    return F.conv1d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)


def their_latents(state, x, n_blocks, hop_length):
    """Compute the authors' encoder from its tensors, by the description of their program."""
    y = apply(state, "start", x, padding=1)
    n_layers = len({name.split(".")[1] for name in state if "dilated_convs" in name})
    for number in range(n_layers):
        dilation = 2 ** (number % (n_layers // n_blocks))
        layer = f"dilated_convs.{number}"
        inner = apply(state, f"{layer}.dilated_conv", y, padding=dilation, dilation=dilation)
        y = y + apply(state, f"{layer}.conv_1x1", inner.relu())
    return F.avg_pool1d(apply(state, "conv_1x1", y), hop_length)


def their_logits(state, x, latents, n_blocks):
    """Compute the authors' decoder, whose past begins with 0.0, between two codes."""
    upsampled = latents.repeat_interleave(x.shape[2] // latents.shape[2], dim=2)
    y = apply(state, "first_conv", F.pad(x[..., :-1], (2, 0)))
    skip_sum = apply(state, "skip_conv", y)
    n_layers = len({name.split(".")[1] for name in state if name.startswith("layers.")})
    for number in range(n_layers):
        dilation = 2 ** (number % (n_layers // n_blocks))
        layer = f"layers.{number}"
        gates = apply(state, f"{layer}.causal", F.pad(y, (dilation, 0)), dilation=dilation)
        gate, filtered = (gates + apply(state, f"{layer}.condition", upsampled)).chunk(2, dim=1)
        inner = gate.sigmoid() * filtered.tanh()
        y = y + apply(state, f"{layer}.residual", inner)
        skip_sum = skip_sum + apply(state, f"{layer}.skip", inner)
    mixed = apply(state, "fc", skip_sum.relu()) + apply(state, "condition", upsampled)
    return apply(state, "logits", mixed.relu())


def test_the_results_are_those_of_the_authors_program(tmp_path, generator):
    """Not by our networks: from the tensors by their names, as the program is described."""
    write_published(tmp_path)
    content = torch.load(tmp_path / "lastmodel_1.pth", weights_only=True)
    published = read_published(tmp_path)
    model = Translator(published.config, published.domains, published.domains).eval()
    model.load_state_dict(published.tensors)
    sizes, decoder = published.config.model, model.decoders["Piano"]
    waveform = torch.rand(2, 1600) - 0.5
    companded = waveform.sign() * (1 + 255 * waveform.abs()).log() / math.log(256)
    codes = ((companded + 1) / 2 * 255).floor()
    x = (codes / 255 - 0.5).unsqueeze(1)
    with torch.no_grad():
        latents = their_latents(content["encoder_state"], x, sizes.encoder_blocks, 800)
        logits = their_logits(content["decoder_state"], x, latents, sizes.decoder_blocks)
        own = decoder(decoder.codes(waveform), latents.transpose(1, 2))
        torch.testing.assert_close(model.encoder(waveform), latents.transpose(1, 2))
    assert torch.equal(decoder.codes(waveform), codes.long())
    torch.testing.assert_close(own[..., 40:], logits[..., 40:])
    # The two begin with another past, which is forgotten within the receptive field.
    assert decoder.receptive_field < 40
    assert not torch.allclose(own[..., 0], logits[..., 0], atol=1e-6)
    state, hidden = content["discriminator_state"], latents
    for number in (0, 2, 4):
        hidden = F.elu(apply(state, f"convs.{number}", hidden))
    by_rank = apply(state, "convs.6", hidden).mean(2)
    order = [DOMAINS.index(name) for name in published.domains]
    with torch.no_grad():
        torch.testing.assert_close(model.classifier(latents.transpose(1, 2)), by_rank[:, order])
