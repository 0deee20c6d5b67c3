"""Stereo through the commands: files, pipes, latents; and `--mono`."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from .conftest import WIDTH

TO = ("--to", "piano")


@pytest.fixture
def wide(tmp_path):
    """0.5 s of 44.1 kHz: one note on the left, another one on the right, and a title."""
    time = np.arange(22_050) / 44_100
    left, right = (0.2 * np.sin(2 * np.pi * hertz * time) for hertz in (440, 660))
    with soundfile.SoundFile(tmp_path / "wide.flac", "w", 44_100, 2) as file:
        file.title = "Wide"
        file.write(np.stack([left, right], axis=1))
    return tmp_path / "wide.flac"


def audio(ran):
    assert ran.code == 0, ran.stderr
    return soundfile.read(io.BytesIO(ran.stdout), dtype="int16")[0]


def test_stereo_comes_out_as_it_went_in(umt, wide):
    ran = umt("translate", wide, *TO, "-o", "out.flac", "--rate", 48_000, "--mix", 0.5)
    assert ran.code == 0, ran.stderr
    with soundfile.SoundFile("out.flac") as file:
        assert (file.channels, file.frames, file.title) == (2, 24_000, "Wide")


def test_stages_and_pipes_give_the_samples_of_translate(umt, wide):
    plain = ("translate", wide, *TO, "--no-match-level")
    made = audio(umt(*plain, stdout_kind="data"))
    assert made.shape == (22_050, 2)
    assert not np.array_equal(made[:, 0], made[:, 1])
    latents = umt("encode", wide, stdout_kind="data").stdout
    assert np.load(io.BytesIO(latents)).shape == (2, 22, WIDTH)
    decoded = audio(umt("decode", *TO, stdin=latents, stdout_kind="data"))
    np.testing.assert_array_equal(decoded[: len(made)], made)
    assert umt("encode", wide, "-o", "wide.npy").code == 0
    np.testing.assert_array_equal(
        audio(umt("decode", "wide.npy", *TO, stdout_kind="data")), decoded
    )
    several = umt(*plain, "--to", "organ", "-o", "out/")
    assert several.code == 0
    np.testing.assert_array_equal(soundfile.read("out/wide.piano.wav", dtype="int16")[0], made)


def test_mono_mixes(umt, wide):
    samples, rate = soundfile.read(wide)
    soundfile.write("mixed.wav", samples.mean(1), rate, subtype="FLOAT")
    expected = audio(umt("translate", "mixed.wav", *TO, stdout_kind="data"))
    mixed = audio(umt("translate", wide, *TO, "--mono", stdout_kind="data"))
    assert expected.shape == (22_050,)
    np.testing.assert_array_equal(mixed, expected)
    assert umt("encode", wide, "--mono", "-o", "m.npy").code == 0
    assert np.load("m.npy").shape == (22, WIDTH)


def test_playing_along_has_two_channels(umt, wide):
    samples, rate = soundfile.read(wide)
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="wav")
    ran = umt("translate", *TO, "--live", stdin=stream.getvalue(), stdout_kind="data")
    assert audio(ran).shape == (22_050, 2)


def test_latents_of_one_channel_blend_with_those_of_two(umt, wide):
    assert umt("encode", wide, "-o", "wide.npy").code == 0
    assert umt("encode", wide, "--mono", "-o", "mono.npy").code == 0
    for inputs in (("wide.npy", "mono.npy"), ("mono.npy", "wide.npy")):
        assert umt("blend", *inputs, "--mix", 0.5, "-o", "both.npy", "-f").code == 0
        assert np.load("both.npy").shape == (2, 22, WIDTH)
    ran = umt("blend", "wide.npy", "mono.npy", "--seconds", 0.2, stdout_kind="data")
    assert audio(umt("decode", *TO, stdin=ran.stdout, stdout_kind="data")).shape[1] == 2


def test_wavenets_stay_mono_and_say_so_once(umt, wide, wavenet_model):
    ran = umt("translate", wide, "--to", "piano,organ", "-o", "out/", "-m", wavenet_model)
    assert ran.stderr.count("wavenet models are mono: stereo input is mixed") == 1
    assert soundfile.info("out/wide.piano.wav").channels == 1
    assert umt("encode", wide, "-o", "wide.npy").code == 0
    ran = umt("decode", "wide.npy", *TO, "-m", wavenet_model)
    assert (ran.code, len(ran.errors)) == (1, 1)
