"""`umt eval IN…`: what is compared with what, and odd audio: figures or one clear error."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile

from tests.umtcli.conftest import DOMAINS, TUNE_RATE, leaves, write_tune

from .conftest import figures, melody, prepare, row


def test_help_lists_the_baselines_line_by_line(umt):
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
    assert "stdin was made from tune.wav, which is not here or has changed since" in ran.stderr


def test_audio_without_provenance_is_measured_alone_and_says_so(umt, tune):
    ran = umt("eval", tune)
    assert ran.code == 0
    assert "measured alone; add --source" in ran.stderr
    assert b"chroma" not in ran.stdout
    piped = umt("eval", stdin=tune.read_bytes())
    assert "umt: stdin does not say what it was made from" in piped.stderr


def test_identical_audio_scores_one_and_other_music_near_chance(umt, long_tune):
    same = figures(umt("eval", long_tune, "--source", long_tune, "--json"))
    assert row(same, "chroma")["value"] == pytest.approx(1, abs=1e-3)
    assert row(same, "chroma")["score"] == pytest.approx(1, abs=1e-3)
    assert row(same, "onset")["value"] == pytest.approx(1, abs=1e-3)
    soundfile.write("other.wav", melody(base_hz=262 * 2 ** (6 / 12), decay=4)[::-1], 22050)
    other = figures(umt("eval", "other.wav", "--source", long_tune, "--json"))
    assert row(other, "chroma")["score"] < 0.5


def test_a_song_is_compared_with_its_baselines(umt, long_tune):
    for name, hertz, decay in (("out", 262, 1), ("true", 262, 0), ("font", 262, 0.3)):
        soundfile.write(f"{name}.wav", melody(base_hz=hertz, decay=decay), 22050)
    options = ("--source", long_tune, "--to", "organ")
    references = ("--reference", "true.wav", "--reference", "font.wav")
    found = figures(umt("eval", "out.wav", *options, *references, "--json"))
    distances = found["metrics"]["log_spectral_distance_db"]["rows"]
    assert list(distances) == ["translation", "copy", "true", "other_rendering", "noise"]
    assert distances["true"]["value"] == pytest.approx(0, abs=1e-3)
    assert distances["true"]["score"] == pytest.approx(1)
    assert distances["noise"]["score"] == pytest.approx(0)
    assert 0 < distances["other_rendering"]["value"] < distances["copy"]["value"]
    assert distances["copy"]["value"] < distances["noise"]["value"]
    # The classifier's reference of organs stands in for other music.
    assert row(found, "target_probability", "wrong_piece")["value"] > 0.8
    for metric in found["metrics"]:
        low, high = row(found, metric)["interval"]
        assert low <= row(found, metric)["value"] <= high, metric


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
def test_wrong_usage_is_one_line(umt, song, args):
    ran = umt("eval", *args)
    assert ran.code == 2
    assert len(ran.errors) == 1


@pytest.mark.parametrize("option", ["--to", "--source", "--reference"])
def test_with_an_option_of_audio_data_train_the_classifier(
    umt, tmp_path, tune, monkeypatch, option
):
    from core.evaluation import classifier_cache

    calls = []
    monkeypatch.setattr(
        classifier_cache,
        "classifier_of",
        lambda *args, **_: calls.append(args) or classifier_cache.shipped_classifier(),
    )
    prepare(tmp_path, DOMAINS[0])
    args = ("eval", "--data", "data", option, "organ" if option == "--to" else tune)
    ran = umt(*args)
    assert (ran.code, len(ran.errors), calls) == (2, 1, [])
    assert "no input" in ran.errors[0]
    found = figures(umt(*args, "--html", "page.html", "--json", stdin=tune.read_bytes()))
    assert found["input"] == "-"
    assert len(calls) == 1


def write(name: str, samples: np.ndarray) -> str:
    soundfile.write(name, samples.astype(np.float32), TUNE_RATE)
    return name


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * TUNE_RATE))


ODD = {
    "silence": lambda: np.zeros(3 * TUNE_RATE),
    "noise": lambda: noise(3),
    "one second": lambda: noise(1),
    "a few samples": lambda: noise(0.001),
    "one sample": lambda: np.array([0.5]),
    "an offset": lambda: np.full(2 * TUNE_RATE, 0.2),
    "full scale": lambda: np.sign(noise(2)),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_audio_has_figures_or_dashes(umt, tmp_path, kind):
    write_tune(tmp_path / "tune.wav", seconds=3)
    write("odd.wav", ODD[kind]())
    shown = umt("eval", "tune.wav", *against("odd.wav"))
    assert shown.code == 0, shown.stderr
    assert b"nan" not in shown.stdout.lower()
    assert b"inf" not in shown.stdout.lower()
    result = umt("eval", "odd.wav", *against("tune.wav"), "--json")
    assert result.code == 0, result.stderr
    for leaf in leaves(json.loads(result.stdout)):
        assert not isinstance(leaf, float) or math.isfinite(leaf)


def against(name: str) -> list[str]:
    return ["--source", name, "--reference", name, "--to", "organ"]


def test_a_file_without_samples_is_one_clear_error(umt, tmp_path):
    write("empty.wav", np.zeros(0))
    ran = umt("eval", "empty.wav")
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert "no samples" in ran.errors[0]


def test_what_is_missing_at_the_end_costs_content(umt, tmp_path):
    write_tune(tmp_path / "tune.wav", seconds=4)
    samples, _ = soundfile.read("tune.wav")
    write("half.wav", samples[: len(samples) // 2])
    ran = umt("eval", "half.wav", "--source", "tune.wav", "--json")
    rows = json.loads(ran.stdout)["results"][0]["metrics"]["chroma"]["rows"]
    assert rows["translation"]["value"] == pytest.approx(0.5, abs=0.06)


def test_a_page_of_silence_can_be_made(umt, tmp_path):
    write("silence.wav", np.zeros(TUNE_RATE))
    assert umt("eval", "silence.wav", "--html", "page.html").code == 0
    assert "NaN" not in (tmp_path / "page.html").read_text()


def test_what_is_missing_at_the_end_is_as_uncertain_as_it_is(umt, tmp_path):
    write_tune(tmp_path / "tune.wav", seconds=15)
    samples, _ = soundfile.read("tune.wav")
    write("short.wav", samples[: 2 * len(samples) // 3])
    ran = umt("eval", "short.wav", "--source", "tune.wav", "--json")
    low, high = json.loads(ran.stdout)["results"][0]["metrics"]["chroma"]["rows"]["translation"][
        "interval"
    ]
    assert high - low > 0.5  # two stretches have all of it, one has nothing


def test_what_is_unlike_recordings_is_marked_everywhere(umt, tmp_path):
    write("noise.wav", noise(3))
    args = ("eval", "noise.wav", "--to", "piano")
    found = figures(umt(*args, "--json", "--html", "page.html"))
    assert {"harmonic_share", "spectral_contrast_db"} <= set(found["unusual"])
    low, high = found["usual"]["harmonic_share"]
    assert row(found, "harmonic_share")["value"] < low < high
    shown = umt(*args, stdout_kind="data")
    lines = shown.stdout.decode().splitlines()
    assert "but unlike recordings in: " in lines[0]
    (line,) = [own for own in lines if own.strip().startswith("harmonic share")]
    assert " * " in line
    assert "outside what recordings usually show: " in shown.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('class="unusual"') == len(found["unusual"])


def test_a_source_shorter_than_its_provenance_claims_is_left_out(umt, tune, tmp_path):
    made = umt("translate", "tune.wav", "--to", "piano", "--start", "1", stdout_kind="data").stdout
    later = made.replace(b'"start_seconds":1.0', b'"start_seconds":9.0')
    assert later != made
    ran = umt("eval", "--json", stdin=later)
    assert ran.code == 0, ran.stderr
    assert "measured alone" in ran.stderr
    assert figures(ran)["source"] is None
