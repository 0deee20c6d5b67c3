"""Commands with a model on the hub: what is said, what TAB offers, and that no token gets out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from core.audio.reader import open_audio

from ..hub_server import serve_hub, use_hub


@pytest.fixture
def hub(monkeypatch, tmp_path, spectral_model):
    """A hub with the private repository `me/duo`, to which the user has a token."""
    with serve_hub() as served:
        use_hub(served, monkeypatch, tmp_path)
        served.add("me/duo", {"model.safetensors": spectral_model.read_bytes()})
        served.private.add("me/duo")
        monkeypatch.setenv("HF_TOKEN", served.token)
        yield served


def test_a_download_is_announced_once_and_the_token_is_nowhere(umt, hub, song):
    args = ("translate", song, "--to", "piano", "-m", "hf:me/duo", "-o", "a.wav", "-f", "--json")
    ran = umt(*args, "-v")
    assert ran.code == 0
    lines = ran.stderr.splitlines()
    assert lines[:2] == ["umt: downloading hf:me/duo", "umt: model hf:me/duo (as requested)"]
    assert json.loads(ran.stdout)["model"]["name"] == "hf:me/duo"
    with open_audio("a.wav") as audio:
        assert audio.provenance.model == "hf:me/duo"
    again = umt(*args)
    assert "downloading" not in again.stderr
    info = umt("info", "hf:me/duo", "-v")
    for shown in (ran.stdout, again.stdout, info.stdout, Path("a.wav").read_bytes()):
        assert hub.token.encode() not in shown
    assert hub.token not in ran.stderr + again.stderr + info.stderr
    assert f"Bearer {hub.token}" in hub.tokens, "but it was sent"


@pytest.mark.parametrize("status", [200, 500])
def test_a_failed_download_shows_no_token_with_its_traceback(umt, hub, song, status):
    hub.status = status
    ran = umt("translate", song, "--to", "piano", "-m", "hf:me/gone", "-v")
    assert ran.code == (2 if status == 200 else 1)
    assert "Traceback" in ran.stderr
    assert hub.token not in ran.stderr


def test_tab_offers_the_domains_of_a_cached_model_and_downloads_none(umt, hub, completions):
    line = "umt translate -m hf:me/duo --to "
    assert "organ" not in completions(line)
    assert hub.requests == []
    assert umt("info", "hf:me/duo").code == 0
    n_requests = len(hub.requests)
    assert "organ" in completions(line)
    assert len(hub.requests) == n_requests


def test_a_run_begins_with_a_model_on_the_hub(umt, hub, monkeypatch):
    """Refused for its data, which comes after the model was found."""
    ran = umt("train", "--from", "hf:me/duo", "--data", "nowhere")
    assert "downloading hf:me/duo" in ran.stderr
    assert "nowhere" in ran.errors[0]


@pytest.mark.slow
def test_a_process_of_its_own_reads_address_and_cache_from_the_environment(umt_process, hub, song):
    own = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": "home"}
    args = ("translate", song, "--to", "piano", "-m", "hf:me/duo", "-f", "-o")
    ran = umt_process(*args, "a.wav", env=own)
    assert (ran.code, ran.stderr.count("downloading")) == (0, 1)
    offline = umt_process(*args, "b.wav", env={**own, "HF_HUB_OFFLINE": "1"})
    assert (offline.code, offline.stderr.count("downloading")) == (0, 0)
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    ran = umt_process("info", "hf:me/new", env={**own, "HF_HUB_OFFLINE": "1"})
    assert ran.code == 1
    assert "127.0.0.1 was not asked (HF_HUB_OFFLINE), and the model is not in" in ran.stderr
