"""`umt eval --paired`: translations beside the same notes truly played."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from tests.umtcli.conftest import DOMAINS, RATE

from .conftest import melody


def test_paired_pieces_are_compared_with_the_true_rendering(umt, tmp_path, spectral_model):
    for piece, base_hz in (("one", 262), ("two", 330)):
        for domain, decay in zip(DOMAINS, (0, 4), strict=True):
            for rendering in ("loud", "soft"):
                path = tmp_path / "pairs" / piece / f"{domain}--{rendering}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, melody(base_hz=base_hz, decay=decay, seconds=2), RATE)
    ran = umt("eval", "--model", spectral_model, "--paired", "pairs", "--json")
    assert ran.code == 0, ran.stderr
    content = json.loads(ran.stdout)
    pairs = content["results"]
    assert len(pairs) == 2 * len(DOMAINS) * (len(DOMAINS) - 1)
    assert {pair["rendering"] for pair in pairs} == {"loud", "soft"}
    for pair in pairs:
        distances = {name: own["log_spectral_distance_db"] for name, own in pair["rows"].items()}
        # Both renderings of a target are the same file here.
        assert distances["other_rendering"] == pytest.approx(0, abs=1e-3)
        assert distances["true"] == pytest.approx(0, abs=1e-3)
        assert 1 < distances["copy"] < distances["noise"]
    means = content["metrics"]["log_spectral_distance_db"]["rows"]
    values = [pair["rows"]["copy"]["log_spectral_distance_db"] for pair in pairs]
    assert means["copy"]["value"] == pytest.approx(np.mean(values))
    assert {(own["source"], own["target"]) for own in content["matrix"]} == {
        ("organ", "piano"),
        ("piano", "organ"),
    }
    for own in content["matrix"]:
        values = [
            pair["rows"]["wrong_piece"]["chroma"]
            for pair in pairs
            if (pair["source"], pair["target"]) == (own["source"], own["target"])
        ]
        mean = own["metrics"]["chroma"]["rows"]["wrong_piece"]
        assert mean["value"] == pytest.approx(np.mean(values))
        assert mean["interval"] == pytest.approx([min(values), max(values)])
