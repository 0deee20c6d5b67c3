"""Runs that begin with a trained model: what is taken over, what is trained, what is refused."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.errors import UsageError
from core.evaluation.model import evaluate_model
from core.model_file import count_updates, part_of, read_header
from core.training.warm_start import WarmStart, base_config, initial_model
from core.translator import Translator

from .conftest import (
    make_trainer,
    music,
    read_log,
    spectral_config,
    stop_after,
    store_domain,
    store_music,
    tiny_config,
)

OLD = ("bass", "reed")  # the domains of `duo`


@pytest.fixture
def base_model(tmp_path):
    """A model of two domains that was trained for some steps, stored in half precision."""
    model = Translator.create(tiny_config(steps=30), OLD, seed=3)
    model.level_db = -20.0
    model.training_record = {
        "steps": 30,
        "seconds": 4,
        "updates": {"bass": 400, "reed": 500},
        "figures": {"validation/bass": 5.0},
    }
    path = tmp_path / "base.safetensors"
    model.save(path, dtype=torch.float16)
    return path


@pytest.fixture
def voice(tmp_path):
    return store_music(tmp_path / "data", voice=4.0)


@pytest.fixture
def begin(base_model, tmp_path):
    """Return a model of some domains that begins with the base model."""

    def make(config, **seconds):
        domains = store_music(tmp_path / "others", **seconds)
        return initial_model(config, domains, WarmStart(base_model))

    return make


@pytest.fixture
def add(train, base_model, voice, tmp_path):
    """Add `voice` to the base model; returns the run's folder."""

    def run(folder="run", *, like=None, domains=voice, **options):
        warm_start = WarmStart(base_model, "voice", like)
        changes = options.pop("training", {"steps": 6})
        config = base_config(warm_start).updated("training", **changes)
        train(config, domains, tmp_path / folder, warm_start=warm_start, **options)
        return tmp_path / folder

    return run


def is_equal(first, second):
    weights = first.state_dict(), second.state_dict()
    return all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def parts_of(path):
    parts = {}
    for name, tensor in load_file(path).items():
        parts.setdefault(part_of(name), {})[name] = tensor
    return parts


def are_equal(first, second):
    return first.keys() == second.keys() and all(
        value.dtype == second[name].dtype and torch.equal(value, second[name])
        for name, value in first.items()
    )


def test_what_the_base_model_has_is_taken_over(base_model, begin):
    old, new = Translator.load(base_model), begin(tiny_config(), bass=2.0, reed=2.0)
    for part in ("encoder", "decoders", "classifier"):
        assert is_equal(getattr(old, part), getattr(new, part)), part
    assert all(weight.requires_grad for weight in new.parameters())


def test_what_it_does_not_have_begins_fresh(base_model, begin):
    config = tiny_config()
    old, new = Translator.load(base_model), begin(config, reed=2.0, voice=2.0)
    fresh = Translator.create(config, ["reed", "voice"], seed=config.training.seed)
    assert new.domains == ("reed", "voice")
    assert is_equal(new.encoder, old.encoder)
    assert is_equal(new.decoders["reed"], old.decoders["reed"])
    assert is_equal(new.decoders["voice"], fresh.decoders["voice"])
    assert is_equal(new.classifier, fresh.classifier)  # of other domains, it has another task


def test_classifier_of_another_size_begins_fresh(begin):
    config = tiny_config().updated("confusion", channels=5)
    new = begin(config, bass=2.0, reed=2.0)
    fresh = Translator.create(config, OLD, seed=config.training.seed)
    assert is_equal(new.classifier, fresh.classifier)


def test_outputs_of_the_classifier_follow_their_domains(tmp_path):
    """Base models whose domains are in another order exist: those to which one was added."""
    config, names = tiny_config(), OLD[::-1]
    old = Translator(config, names, names)
    old.save(tmp_path / "reversed.safetensors")
    domains = store_music(tmp_path / "data", bass=2.0, reed=2.0)
    new = initial_model(config, domains, WarmStart(tmp_path / "reversed.safetensors"))
    assert new.classified == OLD
    latents = torch.randn(2, 3, new.latent_dim)
    with torch.no_grad():
        torch.testing.assert_close(new.classifier(latents), old.classifier(latents).flip(1))


def test_everything_is_trained_and_the_base_model_stays(base_model, duo, train, tmp_path):
    before = base_model.read_bytes()
    warm_start = WarmStart(base_model)
    model = train(tiny_config(steps=4), duo, tmp_path / "run", warm_start=warm_start).model
    assert base_model.read_bytes() == before
    old, new = Translator.load(base_model), Translator.load(model)
    for part in ("encoder", "classifier"):
        assert not is_equal(getattr(old, part), getattr(new, part)), part
    assert not any(is_equal(old.decoders[name], new.decoders[name]) for name in OLD)


def test_record_and_notice_name_the_base_model(base_model, duo, train, tmp_path, reporter):
    run = train(tiny_config(steps=2), duo, tmp_path / "run", warm_start=WarmStart(base_model))
    record = read_header(run.model).training
    header = read_header(base_model)
    assert record["parent"] == {"id": header.id, "domains": list(OLD), **header.training}
    assert "added" not in record
    line = f"beginning with the encoder and the decoders of bass, reed of model {header.id}"
    assert line in reporter.notices


@pytest.mark.parametrize("added", [None, "voice"])
def test_continued_run_equals_an_uninterrupted_one(base_model, duo, voice, train, tmp_path, added):
    options = {"warm_start": WarmStart(base_model, added)}
    config, domains = tiny_config(steps=6), voice if added else duo
    train(config, domains, tmp_path / "whole", **options)
    train(config, domains, tmp_path / "parts", should_stop=stop_after(3), **options)
    train(config, domains, tmp_path / "parts", **options)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    models = [parts_of(tmp_path / run / "model.safetensors") for run in ("whole", "parts")]
    assert all(are_equal(models[0][name], models[1][name]) for name in models[0])


def test_continuing_without_the_base_model_is_refused(base_model, duo, train, tmp_path):
    train(tiny_config(steps=2), duo, tmp_path / "run", warm_start=WarmStart(base_model))
    with pytest.raises(UsageError, match=r"was started with parent [0-9a-f]{12}, now none"):
        train(tiny_config(steps=4), duo, tmp_path / "run")


@pytest.mark.parametrize("added", [None, "voice"])
def test_other_networks_are_refused(base_model, duo, voice, train, tmp_path, added):
    config = tiny_config().updated("model", decoder_layers=4)
    options = {"warm_start": WarmStart(base_model, added)}
    with pytest.raises(UsageError, match=r"\[model\] decoder_layers = 4, but .* has 3"):
        train(config, voice if added else duo, tmp_path / "run", **options)
    assert not (tmp_path / "run" / "run.json").exists()


def test_without_common_domains_the_encoder_is_left(base_model, train, tmp_path, reporter):
    domains = store_music(tmp_path / "more", voice=3.0, drum=3.0)
    train(tiny_config(steps=1), domains, tmp_path / "run", warm_start=WarmStart(base_model))
    assert any("the encoder and no decoder of model" in notice for notice in reporter.notices)


def test_configuration_is_that_of_the_base_model(base_model):
    assert base_config(WarmStart(base_model)) == tiny_config(steps=30)


def test_steps_of_an_addition_are_those_that_a_decoder_of_the_base_model_gets(base_model):
    warm_start = WarmStart(base_model, "voice")
    assert base_config(warm_start).training.steps == 15  # 30 for two, one a step


@pytest.mark.parametrize("like", [None, "reed"])
def test_old_parts_are_the_same_bit_for_bit_and_the_new_one_is_there(add, base_model, like):
    before = base_model.read_bytes()
    model = add(like=like) / "model.safetensors"
    assert base_model.read_bytes() == before
    old, new = parts_of(base_model), parts_of(model)
    assert new.keys() - old.keys() == {"decoders.voice"}
    for name, tensors in old.items():
        assert are_equal(tensors, new[name]), name
    headers = read_header(base_model), read_header(model)
    assert headers[1].domains == (*OLD, "voice")
    assert headers[1].level_db == headers[0].level_db
    for name, checksum in headers[0].checksums.items():
        assert headers[1].checksums[name] == checksum


def test_old_domains_sound_as_before_and_the_new_one_has_learnt(add, base_model):
    waveform = music(1.0, harmonics=4).astype(np.float32) / 32768
    run = add(training={"steps": 40, "learning_rate": 2e-2})
    before, after = Translator.load(base_model), Translator.load(run / "model.safetensors")
    for name in OLD:
        first, second = (model.translate(waveform, 2000, to=name) for model in (before, after))
        assert np.array_equal(first, second)
    losses = [record["loss/voice"] for record in read_log(run) if "loss/voice" in record]
    assert losses[-1] < 0.95 * losses[0]
    assert len(after.translate(waveform, 2000, to="voice")) == len(waveform)


def test_only_the_new_decoder_is_in_the_optimizer(base_model, voice, tmp_path):
    warm_start = WarmStart(base_model, "voice")
    trainer = make_trainer(base_config(warm_start), voice, tmp_path, warm_start=warm_start)
    updater = trainer.updater
    optimized = {id(p) for group in updater.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in trainer.model.decoders["voice"].parameters()}
    figures = updater.update(trainer.batches[0], 0)
    assert set(figures) == {"loss/voice"}
    frozen = (trainer.model.encoder, trainer.model.classifier, trainer.model.decoders["bass"])
    assert all(p.grad is None for module in frozen for p in module.parameters())


def test_new_decoder_starts_from_the_one_it_is_like_or_from_fresh_weights(base_model, voice):
    def first_weights(like, seed=0):
        warm_start = WarmStart(base_model, "voice", like)
        config = base_config(warm_start).updated("training", seed=seed)
        return initial_model(config, voice, warm_start).decoders["voice"].state_dict()

    reed = Translator.load(base_model).decoders["reed"].state_dict()
    assert are_equal(first_weights("reed"), reed)
    assert not are_equal(first_weights(None), reed)
    assert not are_equal(first_weights(None), first_weights(None, seed=1))


def test_record_tells_the_lineage_through_generations(add, base_model, train, tmp_path):
    first = add(like="bass") / "model.safetensors"
    record = read_header(first).training
    assert (record["steps"], record["added"], record["like"]) == (6, "voice", "bass")
    assert record["parent"]["id"] == read_header(base_model).id
    assert (record["parent"]["domains"], record["parent"]["steps"]) == (list(OLD), 30)
    assert set(record["minutes"]) == {"voice"}
    assert {"validation/voice"} <= record["figures"].keys()

    warm_start = WarmStart(first, "drum")
    config = base_config(warm_start).updated("training", steps=2)
    drum = store_music(tmp_path / "more", drum=3.0)
    second = train(config, drum, tmp_path / "second", warm_start=warm_start).model
    header = read_header(second)
    assert header.domains == (*OLD, "voice", "drum")
    assert header.classified == OLD
    assert header.training["parent"]["added"] == "voice"
    assert header.training["parent"]["parent"]["id"] == read_header(base_model).id
    updates = {name: count_updates(header, name) for name in header.domains}
    assert updates == header.training["updates"]
    assert updates == {"bass": 400, "reed": 500, "voice": 406, "drum": 2}
    assert are_equal(parts_of(first)["decoders.voice"], parts_of(second)["decoders.voice"])


def test_confusion_network_is_not_asked_about_a_domain_that_it_does_not_know(add, duo, voice):
    model = Translator.load(add() / "model.safetensors")
    assert model.classified == OLD
    accuracy = {
        row.domain: row.confusion_accuracy
        for row in evaluate_model(model, [*duo, *voice], ["validation"]).domains
    }
    assert accuracy["voice"] is None
    assert accuracy["bass"] + accuracy["reed"] == pytest.approx(1.0, abs=0.5)


def test_quiet_recordings_are_raised_to_the_level_that_the_encoder_knows(tmp_path, base_model):
    track = music(3.0, harmonics=3)
    warm_start = WarmStart(base_model, "voice")
    levels = []
    for folder, samples, level_db in (("loud", track, -20.0), ("quiet", track // 32, -50.1)):
        (domain,) = [store_domain(tmp_path / folder, "voice", [samples])]
        tracks = (dataclasses.replace(domain.tracks[0], level_db=level_db),)
        domains = [dataclasses.replace(domain, tracks=tracks)]
        trainer = make_trainer(base_config(warm_start), domains, tmp_path, warm_start=warm_start)
        levels.append(float(trainer.batches[0].target.square().mean().sqrt()))
    assert levels[1] == pytest.approx(levels[0], rel=0.05)


def test_spectral_models_take_a_domain_too(tmp_path, train):
    domains = store_music(tmp_path / "data", 44100, bass=2.0, voice=2.0)
    train(spectral_config(steps=1), domains[:1], tmp_path / "old")
    base_model = tmp_path / "old" / "model.safetensors"
    warm_start = WarmStart(base_model, "voice", "bass")
    run = train(base_config(warm_start), domains[1:], tmp_path / "new", warm_start=warm_start)
    old, new = parts_of(base_model), parts_of(run.model)
    assert all(are_equal(tensors, new[name]) for name, tensors in old.items())
    assert not torch.equal(
        new["decoders.voice"]["decoders.voice.input.weight"],
        old["decoders.bass"]["decoders.bass.input.weight"],
    )


def test_what_is_added_and_how_is_said(add, reporter):
    add(like="reed")
    assert (
        "training a decoder for voice, from the one of reed; the encoder and the decoders of "
        "bass, reed stay as they are" in reporter.notices
    )


def test_domain_that_the_base_model_has_is_refused(base_model, train, tmp_path, duo):
    warm_start = WarmStart(base_model, "bass")
    with pytest.raises(UsageError, match=r"has a domain 'bass' already.*another name"):
        train(base_config(warm_start), duo[:1], tmp_path / "run", warm_start=warm_start)
    assert not (tmp_path / "run" / "run.json").exists()


def test_unknown_domain_to_start_from_is_refused(add):
    with pytest.raises(UsageError, match="unknown domain 'oboe'; this model has bass, reed"):
        add(like="oboe")


def test_run_of_another_base_model_or_start_is_refused(add, base_model):
    add(like="reed")
    with pytest.raises(UsageError, match="was started with like reed, now none"):
        add()
    other = base_model.with_name("other.safetensors")
    Translator.create(tiny_config(steps=30), OLD, seed=4).save(other)
    shutil.move(other, base_model)
    with pytest.raises(UsageError, match=r"was started with parent [0-9a-f]{12}, now "):
        add(like="reed")


def test_updates_of_the_base_model_count_where_a_decoder_continues_them(
    add, base_model, duo, train, tmp_path, reporter
):
    """Few updates are warned of where the decoder began with random weights."""
    add("like", like="reed")
    train(tiny_config(steps=2), duo, tmp_path / "on", warm_start=WarmStart(base_model))
    assert not any("expect noise" in notice and "updates" in notice for notice in reporter.notices)
    add("fresh")
    assert any("6 steps: 6 updates of the decoder for voice" in text for text in reporter.notices)
