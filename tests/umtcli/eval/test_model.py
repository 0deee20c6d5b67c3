"""`umt eval --data`: a model on held-out tracks of prepared domains."""

from __future__ import annotations

import json

import pytest

from tests.umtcli.conftest import DOMAINS

from .conftest import prepare


@pytest.fixture
def _few_segments(monkeypatch):
    monkeypatch.setattr("core.evaluation.model.MAX_SEGMENTS", 4)


@pytest.mark.usefixtures("_few_segments")
def test_a_model_is_measured_per_domain_and_split_beside_chance(umt, tmp_path, wavenet_model):
    for name in (*DOMAINS, "accordion"):
        prepare(tmp_path, name)
    ran = umt("eval", "--model", wavenet_model, "--data", "data", "--json")
    assert ran.code == 0, ran.stderr
    content = json.loads(ran.stdout)
    assert content["figure"] == "bits/sample"
    assert content["chance"] == 1 / len(DOMAINS)
    rows = {(row["domain"], row["split"]): row for row in content["results"]}
    assert set(rows) == {(name, split) for name in DOMAINS for split in ("train", "validation")}
    # Random weights: about the 8 bits of a uniform guess.
    for found in rows.values():
        baselines = found["baselines"]
        assert 7 < found["figure"] < 9
        assert baselines["uniform"] == 8 > baselines["unigram"] > baselines["linear prediction"]
    # Both domains are the same recording: nothing tells their latents apart.
    assert content["probe_accuracy"] == pytest.approx(0.5)
    assert content["probe_chance"] == 0.5
    assert 0 <= content["notes"]["auc"] <= 1
    assert "accordion is unknown" in ran.stderr


@pytest.mark.usefixtures("_few_segments")
def test_a_model_is_measured_whatever_stdin_is(umt, tmp_path, wavenet_model):
    prepare(tmp_path, DOMAINS[0])
    ran = umt("eval", "--model", wavenet_model, "--data", "data", stdin=b"no audio")
    assert ran.code == 0, ran.stderr
    assert DOMAINS[0].encode() in ran.stdout
    assert b"one note on several instruments" in ran.stdout
    assert "stdin" not in ran.stderr


@pytest.mark.usefixtures("_few_segments")
def test_data_alone_measure_a_model_and_leave_stdin_unread(umt, tmp_path):
    prepare(tmp_path, DOMAINS[0])
    ran = umt("eval", "--data", "data", stdin=b"no audio")
    assert ran.code == 0, ran.stderr
    assert DOMAINS[0].encode() in ran.stdout
    assert "stdin is not read; name it -" in ran.stderr
