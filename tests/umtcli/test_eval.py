"""`umt eval`: what it compares with what, and what it says when it cannot."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile

from core.data.domain import Domain, Part, Track, write_domain_file
from core.evaluation.score_card import Estimate
from core.metrics.catalogue import METRICS
from umtcli.evaluating import tables

from .conftest import DOMAINS, RATE, leaves


def melody(*, base_hz: float, decay: float, seconds: int = 10) -> np.ndarray:
    """Return up to twenty half-second tones with harmonics, float32 (T,)."""
    rate = 22050
    t = np.arange(rate // 2) / rate
    steps = [0, 4, 7, 12, 9, 5, 2, 7, 11, 0, 5, 9, 12, 16, 14, 7, 4, 2, 11, 0]
    tones = [
        sum(np.sin(2 * np.pi * base_hz * 2 ** (s / 12) * k * t) / k for k in range(1, 5))
        * np.exp(-decay * t)
        for s in steps[: 2 * seconds]
    ]
    return (0.15 * np.concatenate(tones)).astype(np.float32)


@pytest.fixture
def tune(tmp_path):
    """Four seconds, where nothing is said about chance or intervals."""
    soundfile.write(tmp_path / "tune.wav", melody(base_hz=262, decay=4, seconds=4), 22050)
    return tmp_path / "tune.wav"


@pytest.fixture
def long_tune(tmp_path):
    """Long enough for chance, distances of timbre and intervals."""
    soundfile.write(tmp_path / "tune.wav", melody(base_hz=262, decay=4), 22050)
    return tmp_path / "tune.wav"


def figures(ran) -> dict:
    content = json.loads(ran.stdout)
    assert (content["command"], content["version"]) == ("eval", 1)
    assert not any(isinstance(v, float) and math.isnan(v) for v in leaves(content))
    return content["results"][0]


def test_help_lists_the_yardsticks_line_by_line(umt):
    lines = umt("eval", "--help").stdout.decode().splitlines()
    assert "  noise              white noise" in lines
    assert max(map(len, lines)) <= 80


def test_a_piped_translation_is_compared_with_its_own_source(umt, tune):
    made = umt("translate", "tune.wav", "--to", "piano", stdout_kind="data")
    found = figures(umt("eval", "--json", stdin=made.stdout))
    assert (found["source"], found["target"]) == ("tune.wav", "piano")
    assert {"chroma", "aligned_chroma", "onset"} < set(found["metrics"])


def test_only_the_translated_part_of_the_source_is_compared(umt, tune):
    options = ("--to", "piano", "--start", "1", "--seconds", "2")
    made = umt("translate", "tune.wav", *options, stdout_kind="data")
    soundfile.write("cut.wav", soundfile.read(tune)[0][22050 : 3 * 22050], 22050)
    itself, cut, whole = (
        figures(umt("eval", "--json", *source, stdin=made.stdout))
        for source in ((), ("--source", "cut.wav"), ("--source", tune))
    )
    for metric in ("chroma", "onset"):
        value = row(itself, metric)["value"]
        assert value == pytest.approx(row(cut, metric)["value"], abs=1e-6)
        assert value != pytest.approx(row(whole, metric)["value"], abs=0.05)


def test_a_changed_source_is_not_compared(umt, tune):
    made = umt("translate", "tune.wav", "--to", "piano", stdout_kind="data")
    soundfile.write(tune, melody(base_hz=300, decay=4), 22050)
    ran = umt("eval", "--json", stdin=made.stdout)
    assert "chroma" not in figures(ran)["metrics"]
    assert "tune.wav has changed since stdin was made" in ran.stderr


def test_audio_without_provenance_is_measured_alone_and_says_so(umt, tune):
    ran = umt("eval", tune)
    assert ran.code == 0
    assert "measured alone; add --source" in ran.stderr
    assert b"chroma" not in ran.stdout
    piped = umt("eval", stdin=tune.read_bytes())
    assert "umt: stdin does not say what it was made from" in piped.stderr


def row(found: dict, metric: str, name: str = "translation") -> dict:
    return found["metrics"][metric]["rows"][name]


def test_identical_audio_scores_one_and_other_music_near_chance(umt, long_tune):
    same = figures(umt("eval", long_tune, "--source", long_tune, "--json"))
    assert row(same, "chroma")["value"] == pytest.approx(1, abs=1e-3)
    assert row(same, "chroma")["share"] == pytest.approx(1, abs=1e-3)
    assert row(same, "onset")["value"] == pytest.approx(1, abs=1e-3)
    soundfile.write("other.wav", melody(base_hz=262 * 2 ** (6 / 12), decay=4)[::-1], 22050)
    other = figures(umt("eval", "other.wav", "--source", long_tune, "--json"))
    assert row(other, "chroma")["share"] < 0.5


def test_a_song_stands_beside_its_yardsticks(umt, long_tune):
    for name, hertz, decay in (("out", 262, 1), ("true", 262, 0), ("font", 262, 0.3)):
        soundfile.write(f"{name}.wav", melody(base_hz=hertz, decay=decay), 22050)
    options = ("--source", long_tune, "--to", "organ")
    references = ("--reference", "true.wav", "--reference", "font.wav")
    found = figures(umt("eval", "out.wav", *options, *references, "--json"))
    distances = found["metrics"]["log_spectral_distance_db"]["rows"]
    assert list(distances) == ["translation", "copy", "true", "other_rendering", "noise"]
    assert distances["true"]["value"] == pytest.approx(0, abs=1e-3)
    assert distances["true"]["share"] == pytest.approx(1)
    assert distances["noise"]["share"] == pytest.approx(0)
    assert 0 < distances["other_rendering"]["value"] < distances["copy"]["value"]
    assert distances["copy"]["value"] < distances["noise"]["value"]
    # What the starter's classifier knows of organs stands for other music.
    assert row(found, "target_probability", "wrong_piece")["value"] > 0.8
    for metric in found["metrics"]:
        low, high = row(found, metric)["interval"]
        assert low <= row(found, metric)["value"] <= high, metric


def test_a_figure_just_below_zero_is_shown_as_zero():
    estimate = Estimate(value=-0.001, interval=(-0.004, 0.002), share=-0.001)
    metric = METRICS["kernel_distance"]
    assert tables.value_text(metric, estimate) == "0.00"
    assert tables.interval_text(metric, estimate) == "0.00 to 0.00"
    assert tables.share_text(estimate) == "0%"


def test_a_directory_is_measured_file_by_file(umt, tune, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    for name in ("b.wav", "a.wav"):
        (made / name).write_bytes(tune.read_bytes())
    found = json.loads(umt("eval", made, "--source", tune, "--json").stdout)["results"]
    assert [own["input"] for own in found] == [str(made / "a.wav"), str(made / "b.wav")]


def test_silence_gives_dashes_and_no_nan(umt):
    soundfile.write("silence.wav", np.zeros(22050 * 3), 22050)
    assert figures(umt("eval", "silence.wav", "--source", "silence.wav", "--json"))["heard"] is None
    ran = umt("eval", "silence.wav", "--source", "silence.wav")
    assert ran.code == 0
    assert b"nan" not in ran.stdout.lower()


def test_a_bad_file_fails_and_the_others_are_measured(umt, tune, tmp_path):
    (tmp_path / "notes.wav").write_text("not audio")
    ran = umt("eval", "notes.wav", tune, "--json")
    assert ran.code == 1
    assert len(json.loads(ran.stdout)["results"]) == 1
    assert len(ran.errors) == 2  # the failure, and the list at the end


@pytest.mark.parametrize(
    "args",
    [
        ("--data", "data", "--model", "m", "song.wav"),
        ("--paired", "pairs", "song.wav"),
        ("--paired", "pairs", "--source", "song.wav"),
        ("--data", "data", "--html", "page.html"),
        ("--model", "m.safetensors"),
        ("--paired", "missing"),
    ],
)
def test_wrong_usage_is_told_in_one_line(umt, song, args):
    ran = umt("eval", *args)
    assert ran.code == 2
    assert len(ran.errors) == 1


@pytest.fixture
def _few_segments(monkeypatch):
    monkeypatch.setattr("core.evaluation.model.ITEMS_PER_SPLIT", 8)


def prepare(tmp_path, name: str) -> None:
    directory = tmp_path / "data" / name
    directory.mkdir(parents=True)
    samples = (melody(base_hz=262, decay=3) * 32767).astype(np.int16)
    np.save(directory / "a.npy", np.repeat(samples, 2))
    half = len(samples)
    parts = (Part("train", 0, half), Part("validation", half, 2 * half))
    track = Track("a.npy", "a.wav", "0" * 64, 1, 1, 2 * half, -20.0, parts)
    write_domain_file(Domain(name, 44100, (track,), directory))


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
    # Random weights know nothing: about the 8 bits of a uniform guess.
    for found in rows.values():
        yardsticks = found["yardsticks"]
        assert 7 < found["figure"] < 9
        assert yardsticks["uniform"] == 8 > yardsticks["unigram"] > yardsticks["linear prediction"]
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


@pytest.mark.parametrize("option", ["--to", "--source", "--reference"])
def test_what_only_audio_has_makes_data_the_judges(umt, tmp_path, tune, monkeypatch, option):
    from core.evaluation import classifier_cache

    asked = []
    monkeypatch.setattr(
        classifier_cache,
        "classifier_of",
        lambda *args, **_: asked.append(args) or classifier_cache.shipped_classifier(),
    )
    prepare(tmp_path, DOMAINS[0])
    args = ("eval", "--data", "data", option, "organ" if option == "--to" else tune)
    ran = umt(*args)
    assert (ran.code, len(ran.errors), asked) == (2, 1, [])
    assert "no input" in ran.errors[0]
    found = figures(umt(*args, "--html", "page.html", "--json", stdin=tune.read_bytes()))
    assert found["input"] == "-"
    assert len(asked) == 1


def test_paired_pieces_are_compared_with_the_true_rendering(umt, tmp_path, spectral_model):
    for piece, base_hz in (("one", 262), ("two", 330)):
        for domain, decay in zip(DOMAINS, (0, 4), strict=True):
            for rendering in ("loud", "soft"):
                path = tmp_path / "pairs" / piece / f"{domain}--{rendering}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, melody(base_hz=base_hz, decay=decay, seconds=4), RATE)
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
