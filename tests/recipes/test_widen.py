"""Weights of an older starter in networks that hear and play more."""

from __future__ import annotations

import importlib
from typing import Any, cast

import pytest
import torch

from core.translator import Translator

from ..pages import ROOT


@pytest.fixture
def widen(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "starter"))
    return importlib.import_module("widen")


def test_what_both_have_is_kept_where_it_belongs(
    widen: Any, small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = small_model.updated("model", pretrained_salience=False)
    old_config = fresh.updated(
        "model", pitch_latents=False, latent_dim=216, strike_noise=False, shimmer=False
    )
    monkeypatch.setattr(widen, "get_preset", lambda _: fresh)
    old = Translator.create(old_config, ["piano"])
    with torch.no_grad():
        for parameter in old.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    new = widen.widen(old)
    before, after = (cast("Any", model.decoders["piano"]).voices for model in (old, new))
    n_timbres = before.n_envelopes
    assert after.n_envelopes == n_timbres + 1
    assert torch.equal(after.own[:, :n_timbres], before.own)
    shape = (2 * old_config.model.downsampling, -1)
    rows = after.output.weight.unflatten(0, shape)
    assert torch.equal(rows[:, :n_timbres], before.output.weight.unflatten(0, shape))
