"""A domain added to a trained model: what is new, and that nothing else is."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.errors import UsageError
from core.evaluation.model import evaluate_model
from core.model_file import part_of, read_header
from core.training.adding import Addition, config_for
from core.translator import Translator

from .conftest import (
    make_loop,
    music,
    read_log,
    spectral_config,
    stop_after,
    store_domain,
    store_music,
    tiny_config,
)

OLD = ("bass", "reed")


@pytest.fixture
def parent(tmp_path):
    """A model of two domains that was trained for some steps, stored in half precision."""
    model = Translator.create(tiny_config(steps=30), OLD, seed=3)
    model.level_db = -20.0
    model.training_record = {"steps": 30, "seconds": 4, "figures": {"validation/bass": 5.0}}
    path = tmp_path / "parent.safetensors"
    model.save(path, dtype=torch.float16)
    return path


@pytest.fixture
def voice(tmp_path):
    return store_music(tmp_path / "data", voice=4.0)


@pytest.fixture
def add(train, parent, voice, tmp_path):
    """Add `voice` to the parent; returns the run's folder."""

    def run(folder="run", *, like=None, domains=voice, **options):
        addition = Addition("voice", parent, like)
        changes = options.pop("training", {"steps": 6})
        config = config_for(addition).updated("training", **changes)
        train(config, domains, tmp_path / folder, addition=addition, **options)
        return tmp_path / folder

    return run


def parts_of(path):
    parts = {}
    for name, tensor in load_file(path).items():
        parts.setdefault(part_of(name), {})[name] = tensor
    return parts


def is_equal(first, second):
    return first.keys() == second.keys() and all(
        value.dtype == second[name].dtype and torch.equal(value, second[name])
        for name, value in first.items()
    )


@pytest.mark.parametrize("like", [None, "reed"])
def test_old_parts_are_the_same_bit_for_bit_and_the_new_one_is_there(add, parent, like):
    before = parent.read_bytes()
    model = add(like=like) / "model.safetensors"
    assert parent.read_bytes() == before
    old, new = parts_of(parent), parts_of(model)
    assert new.keys() - old.keys() == {"decoders.voice"}
    for name, tensors in old.items():
        assert is_equal(tensors, new[name]), name
    headers = read_header(parent), read_header(model)
    assert headers[1].domains == (*OLD, "voice")
    assert headers[1].level_db == headers[0].level_db
    for name, checksum in headers[0].checksums.items():
        assert headers[1].checksums[name] == checksum


def test_old_domains_sound_as_before_and_the_new_one_has_learnt(add, parent):
    waveform = music(1.0, harmonics=4).astype(np.float32) / 32768
    run = add(training={"steps": 40, "learning_rate": 2e-2})
    before, after = Translator.load(parent), Translator.load(run / "model.safetensors")
    for name in OLD:
        first, second = (model.translate(waveform, 2000, to=name) for model in (before, after))
        assert np.array_equal(first, second)
    losses = [record["loss/voice"] for record in read_log(run) if "loss/voice" in record]
    assert losses[-1] < 0.95 * losses[0]
    assert len(after.translate(waveform, 2000, to="voice")) == len(waveform)


def test_only_the_new_decoder_is_in_the_optimizer(parent, voice, tmp_path):
    addition = Addition("voice", parent)
    trained = make_loop(config_for(addition), voice, tmp_path, addition=addition)
    updater = trained.updater
    optimized = {id(p) for group in updater.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in trained.model.decoders["voice"].parameters()}
    figures = updater.update(trained.batches[0], 0)
    assert set(figures) == {"loss/voice"}
    frozen = (trained.model.encoder, trained.model.classifier, trained.model.decoders["bass"])
    assert all(p.grad is None for module in frozen for p in module.parameters())


def test_new_decoder_starts_from_the_one_it_is_like_or_from_fresh_weights(parent, voice, tmp_path):
    def first_weights(like, seed=0):
        addition = Addition("voice", parent, like)
        config = config_for(addition).updated("training", seed=seed)
        model = make_loop(config, voice, tmp_path, addition=addition).model
        return model.decoders["voice"].state_dict()

    reed = Translator.load(parent).decoders["reed"].state_dict()
    assert is_equal(first_weights("reed"), reed)
    assert not is_equal(first_weights(None), reed)
    assert not is_equal(first_weights(None), first_weights(None, seed=1))


def test_continued_run_equals_an_uninterrupted_one(add):
    add("whole")
    add("parts", should_stop=stop_after(3))
    run = add("parts")
    assert read_log(run) == read_log(run.parent / "whole")
    models = [parts_of(run.parent / name / "model.safetensors") for name in ("whole", "parts")]
    assert all(is_equal(models[0][name], models[1][name]) for name in models[0])


def test_steps_are_those_that_a_decoder_of_the_model_gets(parent):
    assert config_for(Addition("voice", parent)).training.steps == 15  # 30 for two, one a step


def test_record_tells_the_lineage_through_generations(add, parent, train, tmp_path):
    first = add(like="bass") / "model.safetensors"
    record = read_header(first).training
    assert (record["steps"], record["added"], record["like"]) == (6, "voice", "bass")
    assert record["parent"]["id"] == read_header(parent).id
    assert (record["parent"]["domains"], record["parent"]["steps"]) == (list(OLD), 30)
    assert set(record["minutes"]) == {"voice"}
    assert record["figures"].keys() == {"validation/voice", "other latents/voice"}

    addition = Addition("drum", first)
    config = config_for(addition).updated("training", steps=2)
    drum = store_music(tmp_path / "more", drum=3.0)
    second = train(config, drum, tmp_path / "second", addition=addition).model
    header = read_header(second)
    assert header.domains == (*OLD, "voice", "drum")
    assert header.classified == OLD
    assert header.training["parent"]["added"] == "voice"
    assert header.training["parent"]["parent"]["id"] == read_header(parent).id
    assert is_equal(parts_of(first)["decoders.voice"], parts_of(second)["decoders.voice"])


def test_confusion_network_is_not_asked_about_a_domain_that_it_does_not_know(add, duo, voice):
    model = Translator.load(add() / "model.safetensors")
    assert model.classified == OLD
    accuracy = {
        row.domain: row.confusion_accuracy
        for row in evaluate_model(model, [*duo, *voice], ["validation"]).domains
    }
    assert accuracy["voice"] is None
    assert accuracy["bass"] + accuracy["reed"] == pytest.approx(1.0, abs=0.5)


def test_quiet_recordings_are_raised_to_the_level_that_the_encoder_knows(tmp_path, parent):
    track = music(3.0, harmonics=3)
    levels = []
    for folder, samples, level_db in (("loud", track, -20.0), ("quiet", track // 32, -50.1)):
        (domain,) = [store_domain(tmp_path / folder, "voice", [samples])]
        tracks = (dataclasses.replace(domain.tracks[0], level_db=level_db),)
        addition = Addition("voice", parent)
        domains = [dataclasses.replace(domain, tracks=tracks)]
        trained = make_loop(config_for(addition), domains, tmp_path, addition=addition)
        levels.append(float(trained.batches[0].target.square().mean().sqrt()))
    assert levels[1] == pytest.approx(levels[0], rel=0.05)


def test_spectral_models_take_a_domain_too(tmp_path, train):
    domains = store_music(tmp_path / "data", 44100, bass=2.0, voice=2.0)
    train(spectral_config(steps=1), domains[:1], tmp_path / "old")
    parent = tmp_path / "old" / "model.safetensors"
    addition = Addition("voice", parent, "bass")
    run = train(config_for(addition), domains[1:], tmp_path / "new", addition=addition)
    old, new = parts_of(parent), parts_of(run.model)
    assert all(is_equal(tensors, new[name]) for name, tensors in old.items())
    assert not torch.equal(
        new["decoders.voice"]["decoders.voice.input.weight"],
        old["decoders.bass"]["decoders.bass.input.weight"],
    )


def test_what_is_added_and_how_is_said(add, told):
    add(like="reed")
    assert (
        "training a decoder for voice, from the one of reed; the encoder and the decoders of "
        "bass, reed stay as they are" in told.notices
    )


def test_domain_that_the_model_has_is_refused(parent, train, tmp_path, duo):
    addition = Addition("bass", parent)
    with pytest.raises(UsageError, match=r"has a domain 'bass' already.*another name"):
        train(config_for(addition), duo[:1], tmp_path / "run", addition=addition)
    assert not (tmp_path / "run" / "run.json").exists()


def test_unknown_domain_to_start_from_is_refused(add):
    with pytest.raises(UsageError, match="unknown domain 'oboe'; this model knows: bass, reed"):
        add(like="oboe")


def test_other_networks_are_refused(parent, train, tmp_path, voice):
    addition = Addition("voice", parent)
    config = config_for(addition).updated("model", decoder_layers=4)
    with pytest.raises(UsageError, match=r"\[model\] decoder_layers = 4, but .* has 3"):
        train(config, voice, tmp_path / "run", addition=addition)


def test_run_of_another_parent_or_start_is_refused(add, parent, voice, train, tmp_path):
    add(like="reed")
    with pytest.raises(UsageError, match="was started with like reed, now none"):
        add()
    other = tmp_path / "other.safetensors"
    Translator.create(tiny_config(steps=30), OLD, seed=4).save(other)
    shutil.move(other, parent)
    with pytest.raises(UsageError, match=r"was started with parent [0-9a-f]{12}, now "):
        add(like="reed")


def test_decoder_that_starts_from_another_is_not_said_to_need_many_updates(add, told):
    add("like", like="reed")
    assert not any("updates of a decoder" in notice for notice in told.notices)
    add("fresh")
    assert any("6 updates of a decoder" in notice for notice in told.notices)
