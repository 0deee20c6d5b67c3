"""A run that begins with a trained model: what it takes over, and that all of it learns."""

from __future__ import annotations

import pytest
import torch

from core.errors import UsageError
from core.model_file import read_header
from core.training.parent import config_of, descendant
from core.translator import Translator

from .conftest import read_log, stop_after, store_music, tiny_config

OLD = ("bass", "reed")  # the domains of `duo`


@pytest.fixture
def parent(tmp_path):
    model = Translator.create(tiny_config(steps=30), OLD, seed=3)
    model.training_record = {"steps": 30, "seconds": 4}
    model.save(tmp_path / "parent.safetensors")
    return tmp_path / "parent.safetensors"


def is_equal(first, second):
    weights = first.state_dict(), second.state_dict()
    return all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_what_the_parent_has_is_taken_over(parent):
    old, new = Translator.load(parent), descendant(parent, tiny_config(), OLD)
    for part in ("encoder", "decoders", "classifier"):
        assert is_equal(getattr(old, part), getattr(new, part)), part
    assert all(weight.requires_grad for weight in new.parameters())


def test_what_it_does_not_have_begins_fresh(parent):
    config = tiny_config()
    old, new = Translator.load(parent), descendant(parent, config, ["reed", "voice"])
    fresh = Translator.create(config, ["reed", "voice"], seed=config.training.seed)
    assert new.domains == ("reed", "voice")
    assert is_equal(new.encoder, old.encoder)
    assert is_equal(new.decoders["reed"], old.decoders["reed"])
    assert is_equal(new.decoders["voice"], fresh.decoders["voice"])
    assert is_equal(new.classifier, fresh.classifier)  # of other domains, it has another task


def test_the_classifiers_outputs_follow_their_domains(tmp_path):
    """Parents whose domains are in another order exist: those to which one was added."""
    config, reversed_names = tiny_config(), OLD[::-1]
    old = Translator(config, reversed_names, reversed_names)
    old.save(tmp_path / "reversed.safetensors")
    new = descendant(tmp_path / "reversed.safetensors", config, OLD)
    assert new.classified == OLD
    latents = torch.randn(2, 3, new.latent_dim)
    with torch.no_grad():
        torch.testing.assert_close(new.classifier(latents), old.classifier(latents).flip(1))


def test_classifier_of_another_size_begins_fresh(parent):
    config = tiny_config().updated("confusion", channels=5)
    new = descendant(parent, config, OLD)
    fresh = Translator.create(config, OLD, seed=config.training.seed)
    assert is_equal(new.classifier, fresh.classifier)


def test_everything_learns_and_the_parent_stays(parent, duo, train, tmp_path):
    before = parent.read_bytes()
    model = train(tiny_config(steps=4), duo, tmp_path / "run", parent=parent).model
    assert parent.read_bytes() == before
    old, new = Translator.load(parent), Translator.load(model)
    for part in ("encoder", "classifier"):
        assert not is_equal(getattr(old, part), getattr(new, part)), part
    assert not any(is_equal(old.decoders[name], new.decoders[name]) for name in OLD)


def test_record_and_notice_name_the_parent(parent, duo, train, tmp_path, told):
    run = train(tiny_config(steps=2), duo, tmp_path / "run", parent=parent)
    record = read_header(run.model).training
    header = read_header(parent)
    assert record["parent"] == {"id": header.id, "domains": list(OLD), "steps": 30, "seconds": 4}
    assert "added" not in record
    line = f"beginning with the encoder and the decoders of bass, reed of model {header.id}"
    assert line in told.notices
    assert not any("updates of a decoder" in notice for notice in told.notices)


def test_continued_run_equals_an_uninterrupted_one(parent, duo, train, tmp_path):
    config = tiny_config(steps=6)
    train(config, duo, tmp_path / "whole", parent=parent)
    train(config, duo, tmp_path / "parts", parent=parent, should_stop=stop_after(3))
    train(config, duo, tmp_path / "parts", parent=parent)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")


def test_continuing_without_the_parent_is_refused(parent, duo, train, tmp_path):
    train(tiny_config(steps=2), duo, tmp_path / "run", parent=parent)
    with pytest.raises(UsageError, match=r"was started with parent [0-9a-f]{12}, now none"):
        train(tiny_config(steps=4), duo, tmp_path / "run")


def test_other_networks_are_refused(parent, duo, train, tmp_path):
    config = tiny_config().updated("model", decoder_layers=4)
    with pytest.raises(UsageError, match=r"\[model\] decoder_layers = 4, but .* has 3"):
        train(config, duo, tmp_path / "run", parent=parent)
    assert not (tmp_path / "run" / "run.json").exists()


def test_without_common_domains_the_encoder_is_left(parent, train, tmp_path, told):
    domains = store_music(tmp_path / "more", voice=3.0, drum=3.0)
    train(tiny_config(steps=1), domains, tmp_path / "run", parent=parent)
    assert any("the encoder and no decoder of model" in notice for notice in told.notices)
    assert any("updates of a decoder" in notice for notice in told.notices)


def test_its_configuration_is_known(parent):
    assert config_of(parent) == tiny_config(steps=30)
