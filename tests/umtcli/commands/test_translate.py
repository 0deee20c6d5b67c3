"""`umt encode`, `decode` and `translate`: what they make, and of what."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

import core
from core.audio.loudness import LoudnessMeter
from core.audio.reader import open_audio
from core.translator import Translator
from umtcli.options import parse_seconds

from ..conftest import HOP, RATE, WIDTH, read_wav, write_song


def provenance_of(path: str | Path):
    with open_audio(path) as audio:
        return audio.provenance


def test_translation_has_the_models_rate_and_the_inputs_length_and_channels(umt, song):
    assert umt("translate", song, "--to", "piano", "-o", "b.wav").code == 0
    info = soundfile.info("b.wav")
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 2, "PCM_16")
    assert info.frames == soundfile.info(song).frames


@pytest.mark.parametrize(("rate", "bits"), [(22_050, "16"), (48_000, "24"), (48_000, "float")])
def test_rate_and_bits_of_a_file_and_of_a_stream(umt, song, rate, bits):
    """The input has 52920 samples at 44.1 kHz."""
    fits = ("--to", "piano", "--rate", rate, "--bits", bits)
    assert umt("translate", song, *fits, "-o", "b.wav").code == 0
    piped = umt("translate", *fits, stdin=song.read_bytes(), stdout_kind="data")
    Path("c.wav").write_bytes(piped.stdout)
    subtype = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}[bits]
    for name in ("b.wav", "c.wav"):
        info = soundfile.info(name)
        assert (info.samplerate, info.subtype, info.frames) == (rate, subtype, 1.2 * rate)


def test_decode_gives_the_rate_and_the_bits_of_translate(umt, song):
    fits = ("--to", "piano", "--rate", 48_000, "--bits", 24)
    encoded = umt("encode", song, stdout_kind="data")
    joined = umt("decode", *fits, stdin=encoded.stdout, stdout_kind="data")
    whole = umt("translate", song, *fits, "--no-match-level", stdout_kind="data")
    samples = read_wav(whole.stdout)
    assert len(samples) == 57_600
    np.testing.assert_array_equal(read_wav(joined.stdout)[: len(samples)], samples)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--bits", "12"), "--bits 12: expected 16, 24 or float"),
        (("--bits", "24", "-o", "b.mp3"), "mp3 stores no bits"),
        (("--rate", "44100", "-o", "b.opus"), "opus has rates of 8000"),
        (("--rate", "10"), "'--rate': Input should be greater than or equal to 1000"),
    ],
)
def test_rates_and_bits_that_cannot_be_are_wrong_usage(umt, song, options, reason):
    ran = umt("translate", song, "--to", "piano", *options)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert reason in ran.errors[0]


@pytest.mark.parametrize("rate", [RATE, 22_050])
def test_a_mix_of_nothing_is_the_input_bit_for_bit(umt, tmp_path, rate):
    """Also where the input is quiet, and at a rate that the model does not have."""
    samples = np.random.default_rng(0).integers(-90, 90, rate + 1).astype(np.int16)
    soundfile.write("a.wav", samples, rate)
    options = ("--mix", 0, "--rate", rate, "-o", "out")
    assert umt("translate", "a.wav", "--to", "piano,organ", *options).code == 0
    for domain in ("piano", "organ"):
        made, made_rate = soundfile.read(f"out/a.{domain}.wav", dtype="int16")
        assert made_rate == rate
        np.testing.assert_array_equal(made, samples)
    assert provenance_of("out/a.piano.wav").options["mix"] == 0


def test_a_stereo_file_of_24_bits_comes_back_bit_for_bit(umt):
    """The null test of a producer: the dry path, at the session's rate, with its texts."""
    samples = np.random.default_rng(0).integers(-(2**21), 2**21, (48_000 // 2 + 1, 2)) << 8
    with soundfile.SoundFile("stem.wav", "w", 48_000, 2, "PCM_24") as file:
        file.title, file.artist, file.album = "Stem", "Me", "Session"
        file.write(samples.astype(np.int32))
    how = ("--mix", 0, "--rate", 48_000, "--bits", 24, "-o", "b.wav")
    assert umt("translate", "stem.wav", "--to", "piano", *how).code == 0
    with soundfile.SoundFile("b.wav") as file:
        assert (file.samplerate, file.subtype) == (48_000, "PCM_24")
        assert (file.title, file.artist, file.album) == ("Stem", "Me", "Session")
        np.testing.assert_array_equal(file.read(dtype="int32"), samples)


def test_a_mix_is_the_sum_of_input_and_translation_at_the_inputs_level(umt, tmp_path):
    song = write_song(tmp_path / "a.wav", 1.0, level=0.005, sample_rate=RATE)
    made = {}
    for mix in (0, 0.25, 1):
        how = ("--mix", mix, "--bits", "float", "-o", "b.wav", "-f", "--json")
        ran = umt("translate", song, "--to", "piano", *how)
        assert ran.code == 0
        made[mix] = soundfile.read("b.wav")[0]
        (result,) = json.loads(ran.stdout)["results"]
    assert result["gain_db"] > 3  # for the encoder
    assert np.abs(made[1]).max() < 0.1
    np.testing.assert_allclose(made[0.25], 0.75 * made[0] + 0.25 * made[1], atol=1e-6)


@pytest.mark.parametrize("mix", [-0.1, 1.1])
def test_a_mix_beyond_its_ends_is_wrong_usage(umt, song, mix):
    ran = umt("translate", song, "--to", "piano", "--mix", mix)
    assert (ran.code, len(ran.errors)) == (2, 1)


@pytest.mark.parametrize("option", [("--mix", 0.5), ("--keep-drums",)])
def test_a_pipe_is_mixed_as_a_file_is_but_not_while_it_is_played_along_with(umt, song, option):
    common = ("--to", "piano", *option)
    assert umt("translate", song, *common, "-o", "a.wav").code == 0
    ran = umt("translate", *common, "-o", "b.wav", stdin=song.read_bytes())
    assert ran.code == 0, ran.stderr
    np.testing.assert_array_equal(*(soundfile.read(name)[0] for name in ("a.wav", "b.wav")))
    assert umt("translate", *common, "-o", "c.wav", stdin=b"").code == 1
    live = umt("translate", *common, "--live", "-o", "c.wav", stdin=song.read_bytes())
    assert (live.code, len(live.errors)) == (2, 1)


@pytest.mark.parametrize("rate", [RATE, 22_050])
def test_kept_drums_are_those_of_the_input_to_the_sample(umt, tmp_path, rate):
    """Quieter than the model's level, so that the translation is raised and they are not."""
    samples = np.zeros(2 * rate + 1, np.float32)
    samples[rate] = 0.1
    soundfile.write("a.wav", samples, rate, subtype="FLOAT")
    how = ("--to", "piano", "--rate", rate, "--bits", "float", "--keep-drums", "-o", "b.wav")
    assert umt("translate", "a.wav", *how).code == 0
    made, made_rate = soundfile.read("b.wav")
    assert (made_rate, len(made)) == (rate, len(samples))
    assert np.argmax(np.abs(made)) == rate
    assert made[rate] == pytest.approx(0.1, abs=0.01)
    assert provenance_of("b.wav").options["keep_drums"] is True


def tone_after_a_second(path: Path, sample_rate: int) -> Path:
    """Write two seconds of stereo: silence, and from 1.000 s on a tone."""
    seconds = np.arange(2 * sample_rate + 1) / sample_rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * seconds) * (seconds >= 1)
    soundfile.write(path, np.stack([tone, tone], axis=1), sample_rate)
    return path


@pytest.mark.parametrize("sample_rate", [44_100, 48_000])
def test_a_note_of_a_stem_begins_where_it_did(umt, sample_rate):
    tone_after_a_second(Path("stem.wav"), sample_rate)
    how = ("-m", "starter", "--to", "organ", "--rate", sample_rate, "-o", "b.wav")
    assert umt("translate", "stem.wav", *how).code == 0
    made, made_rate = soundfile.read("b.wav")
    assert (made_rate, made.shape) == (sample_rate, (2 * sample_rate + 1, 2))
    loud = np.abs(made[:, 0]) > 0.1 * np.abs(made).max()
    assert np.argmax(loud) / sample_rate == pytest.approx(1.0, abs=0.03)


@pytest.mark.skipif(shutil.which("sox") is None, reason="sox is not installed")
def test_sox_puts_a_translated_stem_beside_the_others(umt):
    tone_after_a_second(Path("stem.wav"), RATE)
    drums = np.zeros((2 * RATE + 1, 2))
    drums[RATE] = 0.25
    soundfile.write("drums.wav", drums, RATE)
    assert umt("translate", "stem.wav", "--to", "piano", "--rate", RATE, "-o", "b.wav").code == 0
    sox = ("sox", "-D", "-m", "-v", "1", "b.wav", "-v", "1", "drums.wav", "sum.wav")
    subprocess.run(sox, check=True, timeout=60)
    translation, others, total = (
        soundfile.read(name)[0] for name in ("b.wav", "drums.wav", "sum.wav")
    )
    np.testing.assert_allclose(total, translation + others, atol=2**-14)


def test_dropped_drums_are_no_part_of_the_latents(umt, tmp_path):
    strokes = np.zeros(2 * RATE, np.float32)
    strokes[:: RATE // 2] = 0.5
    soundfile.write("a.wav", strokes, RATE, subtype="FLOAT")
    assert umt("encode", "a.wav", "-o", "with.npy").code == 0
    assert umt("encode", "a.wav", "--drop-drums", "-o", "without.npy").code == 0
    assert not np.allclose(np.load("with.npy"), np.load("without.npy"), atol=0.1)
    assert umt("decode", "without.npy", "--to", "piano", "-o", "b.wav").code == 0
    assert umt("translate", "a.wav", "--to", "piano", "--drop-drums", "-o", "c.wav").code == 0
    decoded, translated = (soundfile.read(name)[0] for name in ("b.wav", "c.wav"))
    np.testing.assert_array_equal(decoded[: len(translated)], translated)


def test_a_mix_of_nothing_with_kept_drums_is_the_input(umt, tmp_path):
    song = write_song(tmp_path / "a.wav", 1.0, sample_rate=RATE)
    how = ("--to", "piano", "--mix", 0, "--keep-drums", "--bits", "float", "-o", "b.wav")
    assert umt("translate", song, *how).code == 0
    dry = soundfile.read(song)[0]
    np.testing.assert_allclose(soundfile.read("b.wav")[0], dry, atol=1e-6)


def test_redirected_stdout_gets_the_same_file_as_o(umt, song):
    assert umt("translate", song, "--to", "piano", "-o", "b.wav").code == 0
    with Path("c.wav").open("wb") as stdout:
        ran = umt("translate", song, "--to", "piano", stdout=stdout, stdout_kind="data")
    assert ran.code == 0
    np.testing.assert_array_equal(*(soundfile.read(name)[0] for name in ("b.wav", "c.wav")))


@pytest.mark.parametrize("family", ["spectral", "wavenet"])
@pytest.mark.parametrize("level", [0.3, 0.002])
def test_encode_piped_into_decode_equals_translate(umt, request, tmp_path, family, level):
    model = request.getfixturevalue(f"{family}_model")
    seconds = 0.064 if family == "wavenet" else 0.32  # several chunks of a WaveNet
    song = write_song(tmp_path / "a.wav", seconds, level=level)
    common = ("-m", model, "--device", "cpu")
    encoded = umt("encode", song, *common, stdout_kind="data")
    joined = umt(
        *("decode", "--to", "piano", "--seed", 7, *common),
        stdin=encoded.stdout,
        stdout_kind="data",
    )
    options = ("--to", "piano", "--seed", 7, "--no-match-level", *common)
    whole = umt("translate", song, *options, stdout_kind="data")
    assert (encoded.code, joined.code, whole.code) == (0, 0, 0)
    samples = read_wav(whole.stdout)  # without what the last frame was filled up with
    np.testing.assert_array_equal(read_wav(joined.stdout)[: len(samples)], samples)
    assert joined.stdout != whole.stdout, "the provenance differs"


def test_peaks_above_full_scale_are_lowered_alike_and_said_so(umt, song, monkeypatch):
    decode_parts = Translator.decode_parts

    def loud(self, sequences, **options):
        for (blocks,) in decode_parts(self, sequences, **options):
            yield [(block + np.float32(2.5) for block in blocks)]

    monkeypatch.setattr(Translator, "decode_parts", loud)
    umt("encode", song, "-o", "a.npy")
    decoded = umt("decode", "a.npy", "--to", "piano", stdout_kind="data")
    options = ("--to", "piano", "--no-match-level")
    whole = umt("translate", song, *options, stdout_kind="data")
    samples = read_wav(whole.stdout)
    np.testing.assert_array_equal(read_wav(decoded.stdout)[: len(samples)], samples)
    assert "peaks above full scale; lowered by" in whole.stderr


def test_a_peak_that_is_lowered_by_nothing_to_speak_of_is_not_mentioned(umt, song, monkeypatch):
    decode_parts = Translator.decode_parts

    def just_above(self, sequences, **options):
        for (blocks,) in decode_parts(self, sequences, **options):
            yield [(np.full_like(block, 1.002) for block in blocks)]  # 0.02 dB

    monkeypatch.setattr(Translator, "decode_parts", just_above)
    whole = umt("translate", song, "--to", "piano", "--no-match-level", stdout_kind="data")
    assert whole.code == 0
    assert np.abs(read_wav(whole.stdout)).max() > 0.99
    assert "peaks" not in whole.stderr


LOUD_AND_QUIET = [(level, how) for level in (0.3, 0.005) for how in (("-o", "b.wav"), ("-o", "-"))]


@pytest.mark.parametrize(("level", "how"), LOUD_AND_QUIET)
def test_a_translation_has_the_loudness_of_its_input(umt, tmp_path, level, how):
    song = write_song(tmp_path / "a.wav", 2.0, level=level)
    options = {"stdout_kind": "data"} if how[1] == "-" else {}
    ran = umt("translate", song, "--to", "piano", "--bits", "float", *how, **options)
    assert ran.code == 0, ran.stderr
    if options:
        Path("b.wav").write_bytes(ran.stdout)
    meters = LoudnessMeter(), LoudnessMeter()
    for meter, path in zip(meters, (song, "b.wav"), strict=True):
        meter.push(*soundfile.read(path, dtype="float32"))
    source, made = (meter.loudness_db() for meter in meters)
    assert made == pytest.approx(source, abs=1)


def test_provenance_says_that_the_level_was_not_matched(umt, song):
    assert umt("translate", song, "--to", "piano", "--no-match-level", "-o", "c.wav").code == 0
    assert provenance_of("c.wav").options["match_level"] is False


@pytest.mark.parametrize("level", [0.3, 0.005])
def test_what_is_live_has_the_loudness_of_its_input(umt, tmp_path, level):
    """After a second: an untrained model is not as loud as models are known to be."""
    song = write_song(tmp_path / "a.wav", 3.0, level=level)
    ran = umt("translate", song, "--to", "piano", "--bits", "float", "--live", "-o", "b.wav")
    assert ran.code == 0, ran.stderr
    levels = []
    for path in (song, "b.wav"):
        samples, rate = soundfile.read(path, dtype="float32")
        meter = LoudnessMeter()
        meter.push(samples[rate:], rate)
        levels.append(meter.loudness_db())
    assert levels[1] == pytest.approx(levels[0], abs=1.5)


def test_quiet_input_is_raised_and_the_gain_reported(umt, tmp_path):
    quiet = write_song(tmp_path / "quiet.wav", 1.0, level=0.005)
    ran = umt("encode", quiet)
    assert "quiet.wav is quiet: raised by" in ran.stderr
    piped = umt("encode", stdin=quiet.read_bytes(), stdout_kind="data")
    assert "umt: stdin is quiet: raised by" in piped.stderr


def test_seed_changes_the_samples_of_a_model_that_draws(umt, tmp_path, wavenet_model):
    song = write_song(tmp_path / "a.wav", 0.02)
    command = ("translate", song, "--to", "piano", "-m", wavenet_model)
    zero, default, one = (
        read_wav(umt(*command, *seed, stdout_kind="data").stdout)
        for seed in (("--seed", 0), (), ("--seed", 1))
    )
    np.testing.assert_array_equal(zero, default)
    assert not np.array_equal(zero, one)


def test_latents_are_a_plain_float32_array(umt, song):
    assert umt("encode", song, "-o", "a.npy").code == 0
    latents = np.load("a.npy")
    n_frames = -(-soundfile.info(song).frames // HOP)
    assert (latents.dtype, latents.shape) == (np.float32, (2, n_frames, WIDTH))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_latents_of_other_precisions_are_decoded(umt, dtype):
    np.save("a.npy", np.zeros((5, WIDTH), dtype))
    assert umt("decode", "a.npy", "--to", "piano").code == 0
    assert soundfile.info("a.piano.wav").frames == 5 * HOP
    assert provenance_of("a.piano.wav").source == "a.npy"


def test_latents_of_another_width_are_refused_before_the_model_is_loaded(umt, monkeypatch):
    monkeypatch.setattr("umtcli.render.load_translator", None)
    np.save("a.npy", np.zeros((5, WIDTH + 1), np.float32))
    ran = umt("decode", "a.npy", "--to", "piano")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert f"a.npy: {WIDTH + 1} values a frame" in ran.errors[0]
    assert f"has {WIDTH}" in ran.errors[0]
    piped = umt("decode", "--to", "piano", stdin=Path("a.npy").read_bytes())
    assert piped.errors[0].startswith(f"umt: error: stdin: {WIDTH + 1} values a frame")


def test_temperature_is_refused_by_a_family_without_it_and_the_family_named(umt, song):
    ran = umt("translate", song, "--to", "piano", "--temperature", 0.5)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "spectral" in ran.errors[0]
    assert not Path("song.piano.wav").exists()


@pytest.mark.parametrize("option", [("--engine", "cpu"), ("--exact",)])
def test_sampling_options_are_refused_by_a_family_that_does_not_sample(umt, song, option):
    ran = umt("translate", song, "--to", "piano", *option)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert f"{option[0][2:]} is an option of wavenet models" in ran.errors[0]


def test_engines_give_the_same_samples_and_exact_others(umt, tmp_path, wavenet_model):
    song = write_song(tmp_path / "a.wav", 0.04)  # two chunks
    command = ("translate", song, "--to", "piano", "-m", wavenet_model, "--device", "cpu")
    auto, cpu, plain, exact = (
        read_wav(umt(*command, *option, stdout_kind="data").stdout)
        for option in ((), ("--engine", "cpu"), ("--engine", "reference"), ("--exact",))
    )
    np.testing.assert_array_equal(auto, cpu)
    np.testing.assert_array_equal(auto, plain)
    assert auto.shape == exact.shape
    assert not np.array_equal(auto, exact)


def test_an_unknown_engine_is_wrong_usage(umt, song, wavenet_model):
    ran = umt("translate", song, "--to", "piano", "-m", wavenet_model, "--engine", "warp")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "'warp'; known: auto, cpu, cuda, reference" in ran.errors[0]


def test_the_cuda_engine_on_a_cpu_is_wrong_usage(umt, song, wavenet_model):
    on_cpu = ("--device", "cpu", "--engine", "cuda")
    ran = umt("translate", song, "--to", "piano", "-m", wavenet_model, *on_cpu)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "engine=cuda does not run on cpu; add --device cuda" in ran.errors[0]


def test_an_apple_gpu_is_left_alone(umt, song, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert umt("translate", song, "--to", "piano").code == 0
    ran = umt("translate", song, "--to", "piano", "--device", "mps")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "--device mps: expected auto, cpu, cuda or cuda:N" in ran.errors[0]


def test_provenance_of_a_translation(umt, song, wavenet_model):
    ran = umt(
        *("translate", "./song.wav", "--to", "organ", "-m", wavenet_model, "--seed", 3),
        *("--temperature", 0.5, "--start", 0.2, "--seconds", 0.02, "-o", "b.wav"),
    )
    assert ran.code == 0
    found = provenance_of("b.wav")
    assert found.tool == f"umt {core.__version__}"
    assert found.model_id == Translator.load(wavenet_model, domains=[]).id
    assert (found.model, found.domain, found.seed) == (str(wavenet_model), "organ", 3)
    drawn = {"temperature": 0.5, "engine": "auto", "exact": False}
    assert found.options == drawn | {"is_live": False}
    assert (found.start_seconds, found.seconds) == (0.2, 0.02)
    assert found.source == "./song.wav"
    assert found.source_sha256 == hashlib.sha256(song.read_bytes()).hexdigest()


def test_provenance_of_a_stream_has_no_hash(umt, song):
    umt("translate", "--to", "organ", "-o", "b.wav", stdin=song.read_bytes())
    found = provenance_of("b.wav")
    assert (found.source, found.source_sha256) == ("-", None)


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        *[("65", 65), ("1:05", 65), ("0:01:05", 65), ("01:05.25", 65.25), ("90:00", 5400)],
        *[("1:02:03.5", 3723.5), ("0.5", 0.5), ("1e2", 100), (7, 7)],
    ],
)
def test_times_are_seconds_or_read_off_a_clock(typed, seconds):
    assert parse_seconds(typed) == seconds


@pytest.mark.parametrize("typed", ["1:5", "1:60", "1:", ":30", "1:2:03", "-1:05", "soon", ""])
def test_what_is_no_time_is_wrong_usage(umt, song, typed):
    ran = umt("translate", song, "--to", "piano", "--start", typed)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "'--start'" in ran.errors[0]


def test_a_time_of_the_clock_chooses_the_part_of_its_seconds(umt, song):
    parts = []
    for start, seconds in ((0.5, 0.25), ("0:00.5", "00:00.25")):
        part = ("--start", start, "--seconds", seconds)
        ran = umt("translate", song, "--to", "piano", *part, stdout_kind="data")
        parts.append(read_wav(ran.stdout))
    np.testing.assert_array_equal(*parts)
    assert len(parts[0]) == RATE // 4


@pytest.mark.parametrize(
    "to",
    [
        *[("--to", "organ,piano"), ("--to", "all"), ("--to", "piano,all,organ")],
        ("--to", "organ", "--to", "piano,organ"),
    ],
)
def test_several_targets_in_one_option(umt, song, to):
    assert umt("translate", song, *to).code == 0
    assert {path.name for path in Path().glob("song.*.wav")} == {"song.organ.wav", "song.piano.wav"}


def test_decode_takes_all_domains_too(umt, song):
    umt("encode", song, "-o", "a.npy")
    assert umt("decode", "a.npy", "--to", "all", "-o", "out").code == 0
    assert {path.name for path in Path("out").iterdir()} == {"a.organ.wav", "a.piano.wav"}


@pytest.mark.parametrize(
    ("options", "suggestion"),
    [
        (("--to", "paino"), "; did you mean 'piano'?"),
        (
            ("--to", "piano", "--device", "gpu"),
            "expected auto, cpu, cuda or cuda:N; did you mean 'cuda'?",
        ),
        (("--to", "piano,Orgn"), "; did you mean 'organ'?"),
        (("--to", "piano,"), "unknown domain ''"),
    ],
)
def test_a_mistyped_name_gets_a_suggestion(umt, song, options, suggestion):
    ran = umt("translate", song, *options)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert suggestion in ran.errors[0]


def test_start_and_seconds_choose_a_part(umt, song):
    umt("translate", song, "--to", "piano", "--start", 0.5, "--seconds", 0.25, "-o", "b.wav")
    assert soundfile.info("b.wav").frames == RATE // 4
    ran = umt("translate", song, "--to", "piano", "--start", 5)
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "lasts 1.2 s" in ran.errors[0]


def test_source_is_encoded_once_for_many_targets(umt, song, monkeypatch):
    calls = []
    encode_blocks = Translator.encode_blocks

    def counted(self, blocks, **options):
        calls.append(1)
        return encode_blocks(self, blocks, **options)

    umt("translate", song, "--to", "piano", "-o", "alone.wav")
    monkeypatch.setattr(Translator, "encode_blocks", counted)
    assert umt("translate", song, "--to", "organ", "--to", "piano").code == 0
    assert len(calls) == 1
    np.testing.assert_array_equal(
        soundfile.read("alone.wav")[0], soundfile.read("song.piano.wav")[0]
    )


def test_only_the_decoders_asked_for_are_loaded(umt, song, monkeypatch):
    asked = []
    load = Translator.load.__func__

    def watched(cls, path, *, domains=None, device="cpu"):
        asked.append(list(domains))
        return load(cls, path, domains=domains, device=device)

    monkeypatch.setattr(Translator, "load", classmethod(watched))
    umt("translate", song, "--to", "organ")
    umt("encode", song)
    assert asked == [["organ"], []]


def test_template_names_the_files_and_their_folders(umt, song):
    template = "{domain}/{stem}-{seed}.flac"
    ran = umt("translate", song, "--to", "piano", "--seed", 4, "--name", template, "-o", "out")
    assert ran.code == 0
    assert soundfile.info("out/piano/song-4.flac").format == "FLAC"


@pytest.mark.parametrize("template", ["{artist}.wav", "{}.wav", "{stem", "{stem}/", ""])
def test_impossible_template_is_wrong_usage(umt, song, template):
    ran = umt("translate", song, "--to", "piano", "--name", template)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "--name" in ran.errors[0]


def test_template_and_stdout_do_not_go_together(umt, song):
    ran = umt("translate", song, "--to", "piano", "--name", "{stem}.wav", stdout_kind="data")
    assert (ran.code, ran.stdout) == (2, b"")


def test_directory_is_searched_at_any_depth(umt, tmp_path):
    (tmp_path / "album/sub").mkdir(parents=True)
    for name in ("album/one.wav", "album/sub/zwö lf.wav"):
        write_song(tmp_path / name, 0.1)
    (tmp_path / "album/notes.txt").write_text("not audio")
    assert umt("translate", "album", "--to", "piano", "-o", "out").code == 0
    names = sorted(str(path) for path in Path("out").rglob("*.wav"))
    assert names == ["out/one.piano.wav", "out/sub/zwö lf.piano.wav"]


def test_directory_without_audio_fails(umt, tmp_path):
    (tmp_path / "empty").mkdir()
    ran = umt("encode", "empty", "-o", "out")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "empty: no audio files" in ran.errors[0]


def test_shell_substitution_is_read_once(umt, song):
    """What a shell makes of `<(cat song.wav)`: the path of a pipe."""
    with subprocess.Popen(["cat", song], stdout=subprocess.PIPE) as cat:
        ran = umt("encode", f"/dev/fd/{cat.stdout.fileno()}", "-o", "a.npy")
    assert (ran.code, Path("a.npy").is_file()) == (0, True), ran.stderr


def test_header_has_the_true_length_when_it_is_known_and_reads_to_the_end_when_not(umt, song):
    known = umt("translate", song, "--to", "piano", stdout_kind="data").stdout
    data = song.read_bytes()
    # What a recorder that cannot seek writes: lengths of all ones.
    endless = data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
    assert data[36:40] == b"data"
    unknown = umt("translate", "--to", "piano", stdin=endless, stdout_kind="data").stdout
    assert known.index(b"LIST") < known.index(b"data")
    length = int.from_bytes(known[known.index(b"data") + 4 :][:4], "little")
    assert length == len(known) - known.index(b"data") - 8
    assert unknown[unknown.index(b"data") + 4 :][:4] == b"\xff" * 4
    np.testing.assert_array_equal(read_wav(known), read_wav(unknown))


@pytest.mark.parametrize(("seconds", "option"), [(30.0, ()), (4.0, ("--live",))])
def test_output_begins_before_a_live_input_ends(umt, tmp_path, seconds, option):
    """Without `--live` the level is measured on five seconds, and a window has fifteen."""
    data = write_song(tmp_path / "long.wav", seconds, sample_rate=8000).read_bytes()
    (heard, played), (shown, written) = os.pipe(), os.pipe()
    has_begun = threading.Event()
    in_time: list[bool] = []

    def play() -> None:
        with os.fdopen(played, "wb") as instrument:
            instrument.write(data[:-1000])
            instrument.flush()
            in_time.append(has_begun.wait(60))
            instrument.write(data[-1000:])

    def listen() -> None:
        with os.fdopen(shown, "rb") as speaker:
            if len(speaker.read(10_000)) == 10_000:
                has_begun.set()
            speaker.read()

    threads = [threading.Thread(target=target) for target in (play, listen)]
    for thread in threads:
        thread.start()
    with os.fdopen(heard, "rb") as stdin, os.fdopen(written, "wb") as stdout:
        ran = umt(
            "translate", "--to", "piano", *option, stdin=stdin, stdout=stdout, stdout_kind="data"
        )
    for thread in threads:
        thread.join()
    assert (ran.code, in_time) == (0, [True]), ran.stderr


class Clock:
    """Each reading is some seconds after the one before."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.parametrize(("step", "announced"), [(60.0, True), (0.001, False)])
def test_long_work_is_estimated_before_it_has_gone_on_for_long(umt, song, step, announced):
    ran = umt("translate", song, "--to", "piano", "--to", "organ", clock=Clock(step))
    assert ran.code == 0
    assert ("translating: about " in ran.stderr) is announced
    assert (" min left" in ran.stderr) is announced


def test_plain_progress_line_every_ten_seconds_where_there_is_no_terminal(umt, song):
    ran = umt("translate", song, "--to", "piano", clock=Clock(3.0))
    lines = [line for line in ran.stderr.splitlines() if "%" in line]
    assert 1 <= len(lines) <= 3
    assert "\r" not in ran.stderr


def test_progress_bar_is_drawn_on_a_terminal_only_on_stderr(umt, song):
    ran = umt("translate", song, "--to", "piano", stdout_kind="data", stderr_is_terminal=True)
    assert "\r" in ran.stderr
    assert ran.stdout.startswith(b"RIFF")
    quiet = umt("encode", song, "-q", stderr_is_terminal=True)
    assert quiet.stderr == ""


def test_model_is_named_on_stderr_with_the_reason(umt, song, spectral_model, monkeypatch, tmp_path):
    assert f"model {spectral_model} (from $UMT_MODEL)" in umt("encode", song).stderr
    monkeypatch.delenv("UMT_MODEL")
    run = tmp_path / "runs/mine"
    run.mkdir(parents=True)
    model = Translator.load(spectral_model)
    for n_steps, expected in ((7, "starter (bundled"), (5000, "runs/mine (newest run with piano)")):
        model.training_record = {"steps": n_steps}
        model.save(run / "model.safetensors")
        ran = umt("translate", song, "--to", "piano", "-f")
        assert f"umt: model {expected}" in ran.stderr
    ran = umt("translate", song, "--to", "piano", "-m", "runs/mine", "-f")
    assert "model runs/mine (as requested)" in ran.stderr


def test_targets_with_shares_are_one_file(umt, song):
    target = "piano:0.7,organ:0.3"
    ran = umt("translate", song, "--to", target, "--to", "organ", "-o", "out/", "--json")
    assert ran.code == 0, ran.stderr
    first, second = json.loads(ran.stdout)["results"]
    assert (first["domain"], first["output"]) == (target, "out/song.piano+organ.wav")
    assert second["output"] == "out/song.organ.wav"
    assert provenance_of("out/song.piano+organ.wav").domain == target
    alone = umt("translate", song, "--to", target, "-o", "alone.wav")
    assert alone.code == 0
    np.testing.assert_array_equal(
        soundfile.read("alone.wav")[0], soundfile.read("out/song.piano+organ.wav")[0]
    )


@pytest.mark.parametrize("target", ["piano:0.7,organ", "piano:x,organ:1", "piano:0.7,flute:1"])
def test_shares_that_cannot_be_are_wrong_usage(umt, song, target):
    ran = umt("translate", song, "--to", target)
    assert (ran.code, len(ran.errors)) == (2, 1)


def test_transposed_is_another_translation_and_decode_does_the_same(umt, song):
    common = ("--to", "piano", "--transpose", 3)
    assert umt("encode", song, "-o", "a.npy").code == 0
    assert umt("decode", "a.npy", *common, "-o", "b.wav").code == 0
    assert umt("translate", song, *common, "--no-match-level", "-o", "c.wav").code == 0
    decoded, made = (soundfile.read(name)[0] for name in ("b.wav", "c.wav"))
    np.testing.assert_array_equal(decoded[: len(made)], made)
    assert provenance_of("c.wav").options["transpose"] == 3
    assert umt("translate", song, "--to", "piano", "--no-match-level", "-o", "d.wav").code == 0
    assert not np.array_equal(soundfile.read("d.wav")[0], made)


@pytest.fixture
def ranged(umt, spectral_model, tmp_path, monkeypatch):
    """A model whose piano has all keys, and whose organ has none of the song's, A4."""
    from core.key_range import KeyRange
    from core.translator import Translator

    model = Translator.load(spectral_model)
    model.ranges = {"piano": KeyRange(21, 108), "organ": KeyRange(36, 60)}
    model.save(tmp_path / "ranged.safetensors")
    monkeypatch.setenv("UMT_MODEL", str(tmp_path / "ranged.safetensors"))


@pytest.mark.usefixtures("ranged")
def test_notes_that_the_target_lacks_are_moved_which_is_said_once(umt, song):
    (song.parent / "again.wav").write_bytes(song.read_bytes())
    ran = umt("translate", song, "again.wav", "--to", "organ,piano", "-o", "out")
    assert (ran.code, ran.errors) == (0, [])
    line = "umt: notes above C4 are played octaves lower on organ; --keep-octaves keeps them"
    assert ran.stderr.splitlines().count(line) == 1
    assert "on piano" not in ran.stderr
    kept = umt("translate", song, "--to", "organ", "--keep-octaves", "-o", "kept.wav")
    assert (kept.code, "octave" in kept.stderr) == (0, False)
    assert provenance_of("kept.wav").options["keep_octaves"] is True
    moved, stayed = (soundfile.read(name)[0] for name in ("out/song.organ.wav", "kept.wav"))
    assert not np.array_equal(moved, stayed)
    quiet = umt("translate", song, "--to", "organ", "-q", "-o", "quiet.wav")
    assert (quiet.code, quiet.stderr) == (0, "")
    np.testing.assert_array_equal(soundfile.read("quiet.wav")[0], moved)


@pytest.mark.usefixtures("ranged")
def test_latents_keep_all_keys_and_decode_moves_them(umt, song):
    latents = umt("encode", song, stdout_kind="data").stdout
    ran = umt("decode", "--to", "organ", "-o", "a.wav", stdin=latents)
    assert "octaves lower on organ" in ran.stderr
    made = umt("translate", song, "--to", "organ", "--no-match-level", "-o", "b.wav")
    assert made.code == 0
    decoded, whole = (soundfile.read(name)[0] for name in ("a.wav", "b.wav"))
    np.testing.assert_array_equal(decoded[: len(whole)], whole)


@pytest.mark.usefixtures("ranged")
@pytest.mark.parametrize("to", ["organ", "organ,piano"])
def test_a_song_is_transposed_to_fit(umt, song, to):
    ran = umt("translate", song, "--to", to, "--transpose", "fit", "-o", "out/", "--json")
    assert ran.code == 0
    assert "fits organ 1 octave lower" in ran.stderr
    shifts = {own["domain"]: own["transpose"] for own in json.loads(ran.stdout)["results"]}
    assert shifts == {name: {"organ": -12, "piano": 0}[name] for name in to.split(",")}
    assert provenance_of("out/song.organ.wav").options["transpose"] == -12
    by_hand = umt("translate", song, "--to", "organ", "--transpose", "-12", "-o", "same.wav")
    assert by_hand.code == 0
    np.testing.assert_array_equal(
        soundfile.read("out/song.organ.wav")[0], soundfile.read("same.wav")[0]
    )


@pytest.mark.usefixtures("ranged")
def test_a_pipe_is_read_to_its_end_to_fit(umt, song):
    arguments = ("--to", "organ", "--transpose", "fit")
    piped = umt("translate", *arguments, "-o", "a.wav", stdin=song.read_bytes())
    assert piped.code == 0
    assert umt("translate", song, *arguments, "-o", "b.wav").code == 0
    np.testing.assert_array_equal(soundfile.read("a.wav")[0], soundfile.read("b.wav")[0])


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--transpose", "x"), 2, "--transpose x: expected semitones from -48 to 48, or fit"),
        (("--transpose", "49"), 2, "expected semitones from -48 to 48"),
        (("--transpose", "fit", "--live"), 2, "--transpose fit reads the whole input first"),
        (("--transpose", "fit"), 2, "this model does not know the range of piano"),
    ],
)
def test_transpositions_that_cannot_be_are_named(umt, song, options, code, reason):
    ran = umt("translate", song, "--to", "piano", *options, "-o", "a.wav")
    assert (ran.code, len(ran.errors)) == (code, 1)
    assert reason in ran.errors[0]
