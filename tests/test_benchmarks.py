"""The benchmarks: a baseline that is right, and a command that reports what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.exported import measure
from benchmarks.precision import PARTS, batch_draws, reference_draws, rounded_logits
from benchmarks.products import n_rounds
from benchmarks.sampling import chain
from benchmarks.textbook import TextbookLoop
from core.export.nn_tilde import write_nn_tilde
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.sampling.engine import choose
from core.families.wavenet.sampling.weights import prepare_weights
from core.translator import Translator

ROOT = Path(__file__).parents[1]


def test_the_textbook_loop_samples_the_same_network(generator, tiny, trained):
    network = trained(WaveNetDecoder(tiny.model))
    latents = torch.randn(1, 1, tiny.model.latent_dim)
    codes = torch.randint(256, (1, tiny.model.hop_length))
    with torch.no_grad():
        whole = network(codes, latents)[0, :, :100].T
    loop, stepped = TextbookLoop(network), []
    for code in codes[0, :100].tolist():
        stepped.append(loop.logits(latents[0, 0]))
        loop.codes = [loop.codes[1], code]
    torch.testing.assert_close(torch.stack(stepped), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("n_streams", "n_frames", "rounds"),
    [(64, 2, 2), (64, 4, 4), (1, 4, 6), (64, 3, 3)],
)
def test_rounds_of_a_song(n_streams, n_frames, rounds):
    """Chunks of two frames, the second with two more for its warm-up."""
    assert n_rounds(n_streams, n_frames) == rounds


def test_draws_are_compared_from_the_same_history(generator, short_hop, trained):
    """With parts rounded to float32, which changes nothing, all are the network's own."""
    network = trained(WaveNetDecoder(short_hop))
    latents, codes = torch.randn(3, 2, short_hop.latent_dim), torch.randint(256, (3, 100))
    uniforms = torch.rand(3, 100, dtype=torch.float64)
    with torch.no_grad():
        whole = network(codes, latents).transpose(1, 2)
    same = rounded_logits(prepare_weights(network), latents, codes, torch.float32, PARTS)
    torch.testing.assert_close(same, whole, atol=1e-4, rtol=0)
    expected = choose(whole, uniforms, 1.0)
    for engine in (reference_draws, batch_draws):
        assert torch.equal(engine(network, latents, codes, uniforms), expected)
    for part in PARTS:
        rounded = rounded_logits(prepare_weights(network), latents, codes, torch.bfloat16, (part,))
        assert (rounded - whole).abs().max() > 1e-4, part


def test_a_song_is_measured_to_its_end(generator):
    row = chain("tiny", 0.1, engine="cpu")
    assert row.sound_seconds == pytest.approx(0.1)
    assert 0 < row.first_sound_seconds < row.work_seconds


def test_blocks_of_an_exported_model_are_timed(tiny_spectral, tmp_path):
    model = Translator.create(tiny_spectral, ["piano"])
    write_nn_tilde(model, ["piano"], tmp_path / "piano.ts")
    shares, busy = measure(str(tmp_path / "piano.ts"), 1 << 14, 2)
    assert len(shares) in (2, 3)
    assert (shares > 0).all()
    assert busy > 0


@pytest.mark.slow
def test_the_benchmark_reports_what_it_measured(tmp_path):
    options = ["--presets", "tiny", "--seconds", "0.5", "--threads", "1", "--streams", "8"]
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.sampling",
            *options,
            "--json",
            tmp_path / "figures.json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert rows[0]["what"] == "textbook"
    assert len(rows) == 8 == len(ran.stdout.splitlines()) - 2
    for row in rows:
        assert row["rtf"] == pytest.approx(row["work_seconds"] / row["sound_seconds"])
        assert row["samples_per_second"] > 0
    (chunks,) = [row for row in rows if row["what"] == "cpu"]
    assert chunks["streams"] == 8
    assert chunks["first_sound_seconds"] <= chunks["work_seconds"]
    assert 0 < chunks["cpu_share"] < 1.5
    assert chunks["rounds"] == n_rounds(chunks["streams"], 10)
