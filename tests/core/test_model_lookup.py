"""Which model is taken: as requested, from the environment, the newest run, the starter."""

from __future__ import annotations

import os

import pytest

from core import model_file
from core.errors import ModelError, UsageError
from core.model_file import bundled_models, find_model, list_models, read_header


@pytest.fixture(scope="module")
def files(tiny_spectral, tmp_path_factory):
    """Bytes of models that know only `bach`, and `bach` and `piano`."""
    from core.translator import Translator

    path = tmp_path_factory.mktemp("models") / "m.safetensors"
    made = {}
    for domains in (("bach",), ("bach", "piano")):
        model = Translator.create(tiny_spectral, domains)
        model.training_record = {"steps": 5000}
        model.save(path)
        made[domains] = path.read_bytes()
    return made


@pytest.fixture
def add_trained(cwd, tiny_spectral):
    """Add the newest run, of `bach` and `piano`, with a training record."""
    from core.translator import Translator

    def add(name, **record):
        path = cwd / "runs" / name / "model.safetensors"
        path.parent.mkdir(parents=True)
        model = Translator.create(tiny_spectral, ["bach", "piano"])
        model.training_record = record
        model.save(path)
        return path

    return add


UNTRAINED = {
    "no record": {},
    "few updates": {"steps": 7},
    "few updates of each": {"steps": 299, "minutes": {"bach": {}, "piano": {}}},
    "few updates of the added one": {
        "steps": 12,
        "added": "piano",
        "like": None,
        "parent": {"steps": 9000, "domains": ["bach"]},
    },
    "no better than a guess": {
        "steps": 9000,
        "figures": {"validation/piano": 2.0},
        "baselines": {"piano": {"silence": 1.5}},
    },
    "not what a record is": {"steps": "many", "minutes": 3, "parent": []},
}


@pytest.mark.parametrize("record", UNTRAINED.values(), ids=UNTRAINED)
def test_a_run_that_would_be_noise_is_passed_over_and_named(cwd, add_trained, starter, record):
    add_trained("new", **record)
    found = find_model(None, ["piano"], cwd=cwd)
    assert (found.path, found.warning) == (starter, "")
    assert found.reason.startswith("bundled model; runs/new has ")


TRAINED = {
    "updates": {"steps": 5000},
    "updates of what it began with": {
        "steps": 7,
        "parent": {"steps": 5000, "domains": ["bach", "piano"], "parent": {}},
    },
    "updates of the added one": {
        "steps": 400,
        "added": "piano",
        "like": None,
        "parent": {"steps": 1, "domains": ["bach"]},
    },
    "updates of the one it was copied from": {
        "steps": 4,
        "added": "piano",
        "like": "bach",
        "parent": {"steps": 5000, "domains": ["bach"]},
    },
    "better than a guess": {
        "steps": 5000,
        "figures": {"validation/piano": 1.0},
        "baselines": {"piano": {"silence": 1.5}},
    },
}


@pytest.mark.parametrize("record", TRAINED.values(), ids=TRAINED)
def test_a_trained_run_is_taken(cwd, add_trained, record):
    path = add_trained("new", **record)
    assert find_model(None, ["piano"], cwd=cwd).path == path


def test_an_untrained_run_is_taken_with_a_warning_where_nothing_else_has_the_domain(
    cwd, add_trained, starter, files
):
    starter.write_bytes(files["bach",])
    path = add_trained("new", steps=7)
    found = find_model(None, ["piano"], cwd=cwd)
    assert (found.path, found.reason) == (path, "newest run with piano")
    assert "updates of piano, and needs 300" in found.warning
    assert find_model("runs/new", ["piano"], cwd=cwd).warning == "", "it was requested"


def test_domains_in_decomposed_unicode_are_found(cwd, tiny_spectral, files):
    from core.translator import Translator

    model = Translator.create(tiny_spectral, ["fl\u00f6te"])
    model.training_record = {"steps": 5000}
    path = cwd / "runs" / "new" / "model.safetensors"
    path.parent.mkdir(parents=True)
    model.save(path)
    assert find_model(None, ["flo\u0308te"], cwd=cwd).path == path


def test_what_cannot_be_looked_at_does_not_stand_in_the_way(cwd, starter):
    (cwd / "runs" / "gone").mkdir(parents=True)
    (cwd / "runs" / "gone" / "model.safetensors").symlink_to("nowhere")
    os.mkfifo(cwd / "runs" / "model.safetensors")
    (cwd / "runs" / "pipe").mkdir()
    os.mkfifo(cwd / "runs" / "pipe" / "model.safetensors")
    assert find_model(None, ["piano"], cwd=cwd).path == starter
    with pytest.raises(UsageError, match="no model"):
        find_model("n" * 300, ["piano"], cwd=cwd)


@pytest.fixture(autouse=True)
def starter(tmp_path, files, monkeypatch):
    """Bundle a starter and another model; nothing is set in the environment."""
    monkeypatch.delenv("UMT_MODEL", raising=False)
    folder = tmp_path / "package"
    folder.mkdir()
    paths = {name: folder / f"{name}.safetensors" for name in ("starter", "starter-old")}
    for path in paths.values():
        path.write_bytes(files["bach", "piano"])
    monkeypatch.setattr(model_file, "bundled_models", lambda: paths)
    return paths["starter"]


@pytest.fixture
def cwd(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def add_run(cwd, files):
    """Add a run's model, `age` seconds old."""

    def add(name, *domains, age, content=None):
        path = cwd / "runs" / name / "model.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(files[domains] if content is None else content)
        os.utime(path, (1e9 - age, 1e9 - age))
        return path

    return add


def test_without_anything_the_starter_is_taken(cwd, starter):
    found = find_model(None, ["piano"], cwd=cwd)
    assert (found.path, found.name, found.reason) == (starter, "starter", "bundled model")


def test_newest_run_with_all_domains_is_taken_before_the_starter(cwd, add_run):
    add_run("old", "bach", "piano", age=50)
    newest = add_run("new", "bach", "piano", age=10)
    add_run("oldest", "bach", "piano", age=90)
    found = find_model(None, ["piano", "bach"], cwd=cwd)
    assert (found.path, found.name) == (newest, "runs/new")
    assert found.reason == "newest run with piano, bach"


def test_a_run_that_knows_only_bach_is_not_taken_for_piano(cwd, add_run, starter):
    bach = add_run("fast", "bach", age=1)
    assert find_model(None, ["piano"], cwd=cwd).path == starter
    assert find_model(None, ["bach", "piano"], cwd=cwd).path == starter
    assert find_model(None, ["bach"], cwd=cwd).path == bach
    older = add_run("older", "bach", "piano", age=9)
    assert find_model(None, ["piano"], cwd=cwd).path == older


def test_without_domains_the_newest_run_is_taken(cwd, add_run):
    newest = add_run("new", "bach", age=1)
    add_run("old", "bach", "piano", age=2)
    found = find_model(None, [], cwd=cwd)
    assert (found.path, found.reason) == (newest, "newest run here")


@pytest.mark.parametrize("content", [b"", b"damaged" * 100])
def test_an_unreadable_run_does_not_stand_in_the_way(cwd, add_run, content):
    add_run("new", age=1, content=content)
    good = add_run("old", "bach", age=2)
    assert find_model(None, ["bach"], cwd=cwd).path == good


def test_the_environment_comes_before_runs(cwd, add_run, monkeypatch):
    add_run("new", "bach", "piano", age=1)
    named = add_run("old", "bach", age=2)
    monkeypatch.setenv("UMT_MODEL", "runs/old")
    found = find_model(None, ["piano"], cwd=cwd)
    assert (found.path, found.reason) == (named, "from $UMT_MODEL")


def test_an_empty_environment_variable_counts_for_nothing(cwd, starter, monkeypatch):
    monkeypatch.setenv("UMT_MODEL", "")
    assert find_model(None, [], cwd=cwd).path == starter


def test_what_was_asked_for_comes_before_the_environment(cwd, add_run, monkeypatch):
    requested_path = add_run("old", "bach", age=2)
    monkeypatch.setenv("UMT_MODEL", "no/such/model")
    for requested in ("runs/old", "runs/old/", "runs/old/model.safetensors", str(requested_path)):
        found = find_model(requested, ["piano"], cwd=cwd)
        assert found.path == requested_path
        assert (found.name, found.reason) == (requested, "as requested")


def test_a_bundled_model_can_be_asked_for_by_name(cwd, starter):
    assert find_model("starter", [], cwd=cwd).path == starter
    assert find_model("starter-old", [], cwd=cwd).path == starter.with_name(
        "starter-old.safetensors"
    )


def test_a_file_comes_before_a_bundled_model_of_its_name(cwd):
    (cwd / "starter").write_bytes(b"")
    assert find_model("starter", [], cwd=cwd).path == cwd / "starter"


@pytest.mark.parametrize("how", ["requested", "environment"])
def test_what_is_not_there_lists_what_is(cwd, add_run, how, monkeypatch):
    add_run("mine", "bach", age=1)
    monkeypatch.setenv("UMT_MODEL", "startet")
    with pytest.raises(UsageError, match=r"'startet'.*\(runs/mine, starter, starter-old\)"):
        find_model("startet" if how == "requested" else None, [], cwd=cwd)


def test_a_run_without_a_model_yet_says_when_it_will_have_one(cwd):
    (cwd / "runs" / "new").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"runs/new: a directory without model\.safetensors"):
        find_model("runs/new", [], cwd=cwd)
    assert list_models(cwd)[0].name == "starter", "and it is not listed"


def test_nothing_anywhere_says_what_to_do(cwd, monkeypatch):
    monkeypatch.setattr(model_file, "bundled_models", dict)
    with pytest.raises(ModelError, match=r"--model.*umt train"):
        find_model(None, [], cwd=cwd)


def test_listing_gives_runs_from_the_newest_on_then_the_bundled_ones(cwd, add_run):
    add_run("b", "bach", age=5)
    add_run("a", "bach", age=5)
    add_run("c", "bach", age=1)
    names = [(model.name, model.reason) for model in list_models(cwd)]
    assert names[:3] == [("runs/c", "run"), ("runs/a", "run"), ("runs/b", "run")]
    assert names[3:] == [("starter", "bundled"), ("starter-old", "bundled")]


def test_bundled_models_are_those_of_the_package_and_can_be_read():
    for name, path in bundled_models().items():
        assert path.stem == name
        assert read_header(path).domains
