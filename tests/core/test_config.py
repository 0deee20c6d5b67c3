"""Configurations: presets, TOML in, JSON stored, and what is refused."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from core.config import Config, SpectralConfig, WaveNetConfig, read_config
from core.errors import UsageError
from core.presets import DEFAULT_PRESET, PRESETS, get_preset
from core.translator import Translator


def write(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name):
    stored = json.dumps(PRESETS[name].to_dict(), allow_nan=False)
    assert Config.from_dict(json.loads(stored)) == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_carries_its_own_name(name):
    assert get_preset(name).preset == name


def test_default_preset_exists():
    assert DEFAULT_PRESET in PRESETS


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"'papper'.*fast.*small.*tiny.*paper.*paper-code"):
        get_preset("papper")


def test_paper_preset_holds_the_papers_numbers():
    config = get_preset("paper")
    assert config.model == WaveNetConfig(
        sample_rate=16000,
        hop_length=800,
        latent_dim=64,
        encoder_channels=128,
        encoder_blocks=3,
        encoder_layers=10,
        encoder_leading_relu=True,
        residual_channels=128,
        skip_channels=128,
        decoder_blocks=4,
        decoder_layers=10,
    )
    assert (config.confusion.weight, config.confusion.objective) == (0.01, "negated")
    assert config.distortion.pitch_semitones == 0.5
    assert config.distortion.pitch_segment_seconds == (0.25, 0.5)
    training = config.training
    assert (training.batch_size, training.domains_per_step) == (16, 1)
    assert (training.learning_rate, training.decay, training.decay_steps) == (1e-3, 0.98, 10_000)


def test_paper_preset_distorts_only_as_the_paper_does():
    distortion = get_preset("paper").distortion
    assert distortion.equalizer_db == distortion.noise_db == 0
    assert distortion.room_seconds == distortion.gain_db == 0


def test_paper_code_preset_holds_the_authors_recipe():
    theirs, paper = get_preset("paper-code"), get_preset("paper")
    assert theirs.model == replace(
        paper.model,
        mu_law="floor",
        encoder_leading_relu=False,
        decoder_layers=14,
        checkpoint_activations=True,
    )
    assert theirs.confusion == paper.confusion
    training = theirs.training
    assert (training.batch_size, training.domains_per_step) == (6 * 32, 6)
    assert theirs.segment_length == 12_000
    assert theirs.distortion.pitch_segment_seconds == (0.25 * 0.75, 0.5 * 0.75)
    assert (training.decay, training.decay_steps, training.clip_value) == (0.995, 1000, 1.0)


def test_a_retired_preset_is_not_offered_but_its_runs_can_be_continued():
    assert "paper-4s" not in PRESETS
    retired = get_preset("paper-4s")
    stored = retired.to_dict()
    del stored["model"]["mu_law"]  # which configurations of that time did not have
    assert Config.from_dict(stored) == retired
    paper = get_preset("paper").updated("model", decoder_layers=14, checkpoint_activations=True)
    assert replace(paper, preset="paper-4s") == retired


def test_spectral_hop_is_frames_times_downsampling():
    assert SpectralConfig(frame_length=128, downsampling=3).hop_length == 384


def test_configurations_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        get_preset("tiny").model.latent_dim = 3


def test_updated_changes_one_value_and_leaves_the_original():
    base = get_preset("tiny")
    changed = base.updated("training", steps=7)
    assert changed.training.steps == 7
    assert base.training.steps == 300
    assert changed.updated("training", steps=300) == base


def test_toml_overrides_only_what_it_names(tmp_path):
    path = write(
        tmp_path,
        """
        [model]
        encoder_leading_relu = false
        [training]
        learning_rate = 1       # an integer where a float is wanted
        betas = [0.5, 0.75]
        [confusion]
        objective = "uniform"
        """,
    )
    base = get_preset("paper")
    config = read_config(path, base)
    assert config.model.encoder_leading_relu is False
    assert config.training.learning_rate == 1.0
    assert isinstance(config.training.learning_rate, float)
    assert config.training.betas == (0.5, 0.75)
    assert config.confusion.objective == "uniform"
    undone = config.updated("model", encoder_leading_relu=True)
    undone = undone.updated("training", learning_rate=0.001, betas=(0.9, 0.999))
    assert undone.updated("confusion", objective="negated") == base


def test_empty_toml_changes_nothing(tmp_path):
    assert read_config(write(tmp_path, ""), get_preset("fast")) == get_preset("fast")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[training]\nstep = 3", r"\[training\] unknown key 'step'; known: .*steps"),
        ("[model]\nn_fft = 512", r"\[model\] unknown key 'n_fft'; known: "),
        ("[trainning]\nsteps = 3", r"unknown entry 'trainning'; known tables: \[model\].*"),
        ("steps = 3", "unknown entry 'steps'"),
        ("preset = 'fast'", "unknown entry 'preset'"),
        ("[training]\nsteps = 3.0", r"\[training\] steps = 3.0: expected an integer"),
        ("[training]\nsteps = true", r"\[training\] steps = True: expected an integer"),
        ("[training]\nsteps = '3'", r"\[training\] steps = '3': expected an integer"),
        ("[training]\nsteps = 0", r"\[training\] steps = 0: expected 1 or more"),
        ("[training]\nlearning_rate = '1'", "learning_rate = '1': expected a number"),
        ("[training]\nlearning_rate = true", "learning_rate = True: expected a number"),
        ("[training]\nlearning_rate = nan", "learning_rate = nan: expected a number"),
        ("[training]\nclip_norm = inf", "clip_norm = inf: expected a number"),
        ("[training]\nbetas = [0.9]", r"betas = \[0.9\]: expected 2 values"),
        ("[training]\nbetas = 0.9", "betas = 0.9: expected 2 values"),
        ("[training]\nbetas = ['a', 0.9]", r"betas\[0\] = 'a': expected a number"),
        ("[training]\nbetas = ['0.8', 0.9]", r"betas\[0\] = '0.8': expected a number"),
        ("[training]\nschedule = 'cosine'", "schedule = 'cosine': expected 'exponential' or"),
        ("[confusion]\nobjective = 1", "objective = 1: expected 'negated' or 'uniform'"),
        ("[model]\nencoder_leading_relu = 1", "encoder_leading_relu = 1: expected true or false"),
        ("[model]\nfamily = 'gan'", "unknown model family 'gan'; known: wavenet, spectral"),
        ("[training\nsteps = 3", "cannot read this configuration"),
    ],
)
def test_toml_errors_name_file_section_key_and_what_is_accepted(tmp_path, text, told):
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=told) as caught:
        read_config(path, get_preset("paper"))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "section", "key", "value", "accepted"),
    [
        ("tiny", "model", "hop_length", 0, "1 or more"),
        ("tiny", "model", "latent_dim", -1, "1 or more"),
        ("tiny", "model", "decoder_layers", 0, "1 or more"),
        ("fast", "model", "latent_dim", 264, "265 or more"),
        ("fast", "model", "sample_rate", 2000, "4000 or more"),
        ("fast", "model", "frame_length", 0, "1 or more"),
        ("fast", "model", "n_fft", 0, "1024 or more"),
        ("fast", "model", "n_fft", 1300, "an even multiple of frame_length"),
        ("fast", "model", "kernel_size", 6, "an odd number"),
        ("fast", "model", "partials_ceiling_hz", 20.0, "21.5332 or more"),
        ("fast", "model", "latent_noise", -0.1, "0 or more"),
        ("fast", "model", "score_weight", 0.1, "0.0 with pretrained_salience = true"),
        ("fast", "model", "salience_channels", 8, "32 with pretrained_salience = true"),
        ("fast", "model", "explains_overtones", False, "true with pretrained_salience = true"),
        ("fast", "confusion", "channels", 0, "1 or more"),
        ("fast", "confusion", "weight", -0.1, "0 or more"),
        ("fast", "distortion", "pitch_semitones", -0.5, "0 or more"),
        ("fast", "distortion", "pitch_segment_seconds", (0.5, 0.25), "0 < first <= second"),
        ("fast", "training", "segment_seconds", 0.1, "0.25 or more"),
        ("fast", "training", "learning_rate", -1e-3, "0 or more"),
        ("fast", "training", "betas", (0.9, 1.0), "0 <= beta < 1"),
    ],
)
def test_impossible_numbers_are_usage_errors(preset, section, key, value, accepted):
    with pytest.raises(UsageError) as caught:
        get_preset(preset).updated(section, **{key: value})
    assert str(caught.value) == f"[{section}] {key} = {value}: expected {accepted}"


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_rate": 4000, "latent_dim": 265, "kernel_size": 1},
        {"frame_length": 1024, "n_fft": 2048, "partials_ceiling_hz": 21.6},
    ],
)
def test_spectral_networks_can_be_built_and_trained_at_the_limits(changes, tiny_spectral):
    config = tiny_spectral.updated("model", **changes)
    model = Translator.create(config, ["piano"])
    n_frames = -(-config.model.sample_rate // 4 // config.model.hop_length)
    waveform = torch.rand(1, max(1, n_frames) * config.model.hop_length) - 0.5
    assert model.decoders["piano"].reconstruction_loss(model.encoder(waveform), waveform).isfinite()


def test_retired_keys_of_stored_configurations_are_ignored():
    values = get_preset("fast").to_dict()
    values["training"] |= {"adversarial_weight": 0.2, "adversarial_start": 500}
    assert Config.from_dict(values) == get_preset("fast")


def test_retired_key_in_a_toml_file_is_refused_with_what_to_do(tmp_path):
    path = write(tmp_path, "[training]\nadversarial_weight = 0.2")
    with pytest.raises(UsageError, match=r"adversarial_weight does nothing any more; remove it"):
        read_config(path, get_preset("fast"))


def test_missing_and_binary_toml_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml: cannot read"):
        read_config(tmp_path / "none.toml", get_preset("tiny"))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.toml: cannot read"):
        read_config(binary, get_preset("tiny"))


def test_stored_configuration_with_an_unknown_section_is_refused():
    values = get_preset("tiny").to_dict() | {"optimizer": {}}
    with pytest.raises(UsageError, match="unknown configuration section 'optimizer'"):
        Config.from_dict(values)


def test_stored_configuration_without_a_key_gets_its_default():
    values = get_preset("paper").to_dict()
    del values["model"]["encoder_leading_relu"], values["distortion"]
    assert Config.from_dict(values) == get_preset("paper")


def test_a_mistyped_preset_gets_a_suggestion():
    with pytest.raises(UsageError, match=r"known: fast, .*; did you mean 'small'\?"):
        get_preset("smal")
