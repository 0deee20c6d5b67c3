"""Models on the hub, from a server on this machine: names, the cache, errors, and the token."""

from __future__ import annotations

import errno
import traceback

import huggingface_hub
import pytest
from huggingface_hub import constants

from core.errors import ModelError, UsageError
from core.hub import HubModel, cached_model, download_model, parse_hub_name
from core.model_file import find_model, locate_model, read_header
from core.translator import Translator

from ..hub_server import serve_hub, use_hub


@pytest.fixture(scope="module")
def model_bytes(tiny_spectral, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "m.safetensors"
    Translator.create(tiny_spectral, ["organ", "piano"]).save(path)
    return path.read_bytes()


@pytest.fixture
def hub(monkeypatch, tmp_path, model_bytes):
    """A hub with `me/duo`, and an empty cache."""
    with serve_hub() as served:
        use_hub(served, monkeypatch, tmp_path)
        served.add("me/duo", {"model.safetensors": model_bytes, "README.md": b"# duo"})
        yield served


NAMES = {
    "hf:me/duo": HubModel("me/duo"),
    "hf:me/duo@v1.0": HubModel("me/duo", "v1.0"),
    "hf:me/duo/a/best.safetensors": HubModel("me/duo", None, "a/best.safetensors"),
    "hf:a.b/c-d@0f3e/x.safetensors": HubModel("a.b/c-d", "0f3e", "x.safetensors"),
}


@pytest.mark.parametrize(("name", "model"), NAMES.items())
def test_a_name_says_repository_revision_and_file(name, model):
    assert parse_hub_name(name) == model
    assert str(model) == name


@pytest.mark.parametrize(
    "name",
    ["hf:", "hf:duo", "hf:me/", "hf:me/duo@", "hf:me/duo/../x.safetensors", "hf:me/duo@a b",
     "hf:me/duo//x.safetensors", "hf:me/duo/a\\b.safetensors"],
)  # fmt: skip
def test_another_name_is_refused_with_the_form_of_one(name):
    with pytest.raises(UsageError, match=r"expected hf:owner/name\[@revision\]\[/file\]"):
        parse_hub_name(name)


@pytest.mark.parametrize("file", ["model.pt", "pytorch_model.bin", "model.ckpt", "sub"])
def test_no_other_kind_of_file_is_asked_for(hub, file):
    with pytest.raises(UsageError, match=r"models are .safetensors files, and nothing else"):
        locate_model(f"hf:me/duo/{file}")
    assert hub.requests == []


def test_a_model_is_downloaded_once_and_loads(hub, model_bytes):
    name = "hf:me/duo"
    assert cached_model(parse_hub_name(name)) is None
    found = locate_model(name)
    assert (found.path.read_bytes(), found.name) == (model_bytes, name)
    assert cached_model(parse_hub_name(name)) == found.path
    locate_model(name)
    assert [method for method, path in hub.requests if "resolve" in path].count("GET") == 1
    model = Translator.load(name)
    assert (model.name, model.domains) == (name, ("organ", "piano"))


def test_a_newer_file_of_a_branch_is_downloaded_and_a_revision_stays(hub, model_bytes):
    hub.add("me/duo", {"model.safetensors": model_bytes}, revision="v1")
    first = locate_model("hf:me/duo@v1")
    hub.add("me/duo", {"model.safetensors": b"newer"})
    assert locate_model("hf:me/duo").path.read_bytes() == b"newer"
    assert locate_model("hf:me/duo@v1") == first


def test_a_file_in_a_folder_is_found(hub, model_bytes):
    hub.add("me/duo", {"best/m.safetensors": model_bytes})
    assert locate_model("hf:me/duo/best/m.safetensors").path.read_bytes() == model_bytes


def test_the_environment_variable_takes_such_a_name(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("UMT_MODEL", "hf:me/duo")
    assert find_model(None, ["piano"], cwd=tmp_path).reason == "from $UMT_MODEL"


def test_the_cache_serves_where_the_hub_does_not_answer(hub, monkeypatch):
    path = download_model(HubModel("me/duo"))
    hub.status = 503
    assert download_model(HubModel("me/duo")) == path
    with pytest.raises(ModelError, match=r"hf:me/trio: 127.0.0.1 answered with status 503"):
        download_model(HubModel("me/trio"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download_model(HubModel("me/duo")) == path


def test_without_a_network_the_error_says_what_is_missing_and_comes_at_once(
    hub, monkeypatch, tmp_path
):
    # Port 9 of this machine: the connection is refused.
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.endpoint, "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    with pytest.raises(ModelError) as raised:
        download_model(HubModel("me/duo"))
    text = str(raised.value)
    assert text.startswith("hf:me/duo: 127.0.0.1 cannot be reached (ConnectError), and the model ")
    assert f"is not in the cache ({tmp_path / 'cache'})" in text
    assert slept == []


def test_a_missing_file_is_an_error_that_names_those_that_are_there(hub, model_bytes):
    hub.add("me/best", {"best.safetensors": model_bytes, "x/y.safetensors": b"", "z.pt": b""})
    with pytest.raises(UsageError) as raised:
        locate_model("hf:me/best")
    assert str(raised.value) == (
        "hf:me/best: me/best has no model.safetensors; name one of hf:me/best/best.safetensors, "
        "hf:me/best/x/y.safetensors"
    )


def test_a_repository_of_pickles_is_refused(hub):
    hub.add("me/pickles", {"model.pt": b"", "pytorch_model.bin": b""})
    with pytest.raises(UsageError, match=r"nor any other .safetensors file; nothing else "):
        locate_model("hf:me/pickles")
    assert not any(path.endswith((".pt", ".bin")) for _, path in hub.requests)


def test_a_pickle_under_the_name_of_a_model_is_not_loaded(hub):
    hub.add("me/pickle", {"model.safetensors": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00."})
    with pytest.raises(ModelError, match="not a model file"):
        read_header(locate_model("hf:me/pickle").path)


def test_a_missing_revision_is_named(hub):
    with pytest.raises(UsageError, match="hf:me/duo@v9: me/duo has no revision v9"):
        locate_model("hf:me/duo@v9")


def test_a_missing_and_a_private_repository_look_the_same(hub, monkeypatch):
    hub.add("me/private", hub.repositories["me/duo"]["main"])
    hub.private.add("me/private")
    for name in ("hf:me/gone", "hf:me/private"):
        with pytest.raises(UsageError, match="no such repository, or it is private or gated; "):
            locate_model(name)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert locate_model("hf:me/private").path.is_file()
    assert hub.tokens[-1] == f"Bearer {hub.token}"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
def test_no_error_shows_the_token(hub, monkeypatch, caplog, capfd, status):
    """Though the server repeats it."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.status = status
    with pytest.raises((UsageError, ModelError)) as raised:
        locate_model("hf:me/gone")
    assert f"Bearer {hub.token}" in hub.tokens
    shown = "".join(traceback.format_exception(raised.value))
    assert hub.token not in shown + caplog.text + "".join(capfd.readouterr())


def test_a_token_that_cannot_be_sent_is_not_shown(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_\u00e9SECRET")
    with pytest.raises(UsageError, match="the token in HF_TOKEN") as raised:
        locate_model("hf:me/gone")
    assert "SECRET" not in "".join(traceback.format_exception(raised.value))


def test_a_full_disk_is_said_with_the_variable_that_moves_the_cache(hub, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(ModelError, match=r"cannot be stored in .*cache \(No space.*set HF_HOME"):
        locate_model("hf:me/duo")
