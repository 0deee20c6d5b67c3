"""The translator on arrays, batches and files; both families."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from core.audio.levels import measure_level_db
from core.audio.reader import open_audio, read_audio
from core.audio.resampling import resampled_length
from core.errors import AudioError, LatentsError, UsageError
from core.key_range import KeyRange
from core.streams import LatentStream

from .conftest import DOMAINS, loudness_db, noise


def test_each_domain_has_a_decoder_of_its_own(translator):
    latents = noise(5 * translator.latent_dim).reshape(5, -1)
    first, second = (translator.decode(latents, to=name) for name in DOMAINS)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("frames", [0, 1 / 40, 0.5, 1, 1 + 1 / 40, 3, 7.3])
def test_encoding_fills_the_last_frame_up(translator, frames):
    n_samples = round(frames * translator.hop_length)
    latents = translator.encode(noise(n_samples), translator.sample_rate)
    assert latents.shape == (math.ceil(n_samples / translator.hop_length), translator.latent_dim)
    assert latents.dtype == np.float32


@pytest.mark.parametrize("n_frames", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_decoding_gives_whole_frames(translator, n_frames, dtype):
    shape = (n_frames, translator.latent_dim)
    latents = noise(n_frames * translator.latent_dim).reshape(shape).astype(dtype)
    waveform = translator.decode(latents, to="piano")
    assert (waveform.shape, waveform.dtype) == ((n_frames * translator.hop_length,), np.float32)
    assert np.isfinite(waveform).all()


@pytest.mark.parametrize("sample_rate", [8000, 11025, 44100, 96000])
def test_a_translation_is_as_long_as_its_input(translator, sample_rate):
    n_samples = sample_rate // 50 + 1
    made = translator.translate(noise(n_samples), sample_rate, to="organ")
    assert len(made) == resampled_length(n_samples, sample_rate, translator.sample_rate)


def test_translating_is_decoding_what_was_encoded(translator):
    waveform = noise(3 * translator.hop_length)
    latents = translator.encode(waveform, translator.sample_rate)
    whole = translator.translate(
        waveform, translator.sample_rate, to="organ", seed=3, match_level=False
    )
    assert np.array_equal(whole, translator.decode(latents, to="organ", seed=3))
    assert not np.array_equal(whole, translator.decode(latents, to="organ", seed=4))
    cut = LatentStream(iter([latents[:1], latents[1:]]))
    (pieces,) = [list(own.blocks) for own in translator.decode_streams([cut], to="organ", seed=3)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)


def test_stereo_stays_stereo(spectral):
    """Each channel as loud as the source has it; of any rate, and as long as the input."""
    waveform = noise(5000)
    stereo = np.stack([waveform, 0.3 * waveform])
    latents = spectral.encode(stereo, 11_025)
    assert latents.shape == (2, math.ceil(3628 / spectral.hop_length), spectral.latent_dim)
    made = spectral.translate(stereo, 11_025, to="organ", seed=3, match_level=False)
    assert (made.shape, made.dtype) == ((2, 3628), np.float32)
    np.testing.assert_array_equal(
        made, spectral.decode(latents, to="organ", seed=3)[:, : made.shape[1]]
    )
    both = spectral.translate_batch([stereo, waveform], 11_025, to="organ", seed=3)
    for own, source in zip(both, (stereo, waveform), strict=True):
        expected = spectral.translate(source, 11_025, to="organ", seed=3)
        np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("level", [0.1, 0.01])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_translation_is_as_loud_as_its_input(translator, level, n_channels):
    if translator.family_description.is_stereo:
        waveform = np.stack([noise(16_000, level=level, seed=own) for own in range(n_channels)])
    else:  # a sample takes its time
        waveform = noise(1000, level=level)[None]
    rate = 16_000
    matched, plain = (
        translator.translate(waveform.squeeze(), rate, to="organ", match_level=own)
        for own in (True, False)
    )
    wanted = loudness_db(waveform, rate)
    found, before = (loudness_db(own, translator.sample_rate) for own in (matched, plain))
    assert abs(found - wanted) < 1 < abs(before - wanted)


@pytest.mark.parametrize("level", [0.3, 0.002])
def test_channels_that_are_the_same_give_the_samples_of_mono(spectral, level):
    waveform = noise(5000, level=level)
    mono = spectral.translate(waveform, 11_025, to="organ")
    for channel in spectral.translate(np.stack([waveform, waveform]), 11_025, to="organ"):
        np.testing.assert_array_equal(channel, mono)


@pytest.mark.parametrize("mono", [False, True])
def test_translating_a_file_keeps_its_channels(spectral, tmp_path, mono):
    stereo = np.stack([noise(5000), noise(5000, seed=1)], axis=1)
    soundfile.write(tmp_path / "song.wav", stereo, 11_025, subtype="FLOAT")
    made = spectral.translate_file(
        tmp_path / "song.wav", to="organ", output=tmp_path / "x.wav", bits="float", mono=mono
    )
    source = read_audio(tmp_path / "song.wav", 11_025, mono=mono)
    assert source.ndim == (1 if mono else 2)
    found, _ = soundfile.read(made, dtype="float32")
    np.testing.assert_array_equal(found.T, spectral.translate(source, 11_025, to="organ"))


def test_quiet_input_is_raised_to_the_training_level(spectral):
    waveform = noise(8000)
    spectral.level_db = measure_level_db([waveform], 8000)
    loud = spectral.encode(waveform, 8000)
    np.testing.assert_allclose(spectral.encode(0.05 * waveform, 8000), loud, atol=1e-4)
    unraised = np.concatenate(list(spectral.encode_blocks([0.05 * waveform])))
    assert np.abs(unraised - loud).max() > 1e-2


def test_loud_input_is_not_lowered(spectral):
    waveform = noise(8000, level=0.9)
    spectral.level_db = -40.0
    unchanged = np.concatenate(list(spectral.encode_blocks([waveform])))
    assert np.array_equal(spectral.encode(waveform, 8000), unchanged)


def test_silence_stays_silent(translator):
    assert not translator.translate(np.zeros(200), translator.sample_rate, to="piano").any()


def test_silence_is_translated_without_being_raised(translator):
    silence = np.zeros(200, np.float32)
    latents = np.concatenate(list(translator.encode_blocks([silence])))
    assert np.array_equal(translator.encode(silence, translator.sample_rate), latents)
    assert np.isfinite(translator.translate(silence, translator.sample_rate, to="piano")).all()


def test_unknown_domain_lists_the_known_ones(translator):
    with pytest.raises(UsageError, match=r"unknown domain 'flute'.*organ, piano"):
        translator.decode(np.zeros((1, translator.latent_dim), np.float32), to="flute")


@pytest.mark.parametrize("shape", [(3, 1), (3, 63), (8,), (2, 3, 9), (3, 3, 8)])
def test_latents_of_another_width_name_both_shapes(translator, shape):
    told = rf"{np.zeros(shape).shape}".replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(LatentsError, match=rf"{told}.*\(frames, ({translator.latent_dim}|D)\)"):
        translator.decode(np.zeros(shape, np.float32), to="piano")


def test_batches_of_different_lengths_give_what_each_gives_alone(translator):
    rate = 11_025
    waveforms = [noise(n, seed=n) for n in (300, 70, 555)]
    mixed = [waveforms[0], torch.from_numpy(waveforms[1]), waveforms[2].tolist()]
    latents = translator.encode_batch(mixed, rate)
    decoded = translator.decode_batch([torch.from_numpy(own) for own in latents], to="organ")
    made = translator.translate_batch(mixed, rate, to="organ")
    assert len(latents) == len(decoded) == len(made) == 3
    for waveform, own, whole, cut in zip(waveforms, latents, decoded, made, strict=True):
        assert np.array_equal(own, translator.encode(waveform, rate))
        assert np.array_equal(whole, translator.decode(own, to="organ"))
        assert np.array_equal(cut, translator.translate(waveform, rate, to="organ"))


def test_a_batch_may_be_empty(translator):
    assert translator.translate_batch([], 8000, to="organ") == []


def test_a_bad_item_of_a_batch_is_refused_before_any_work(translator, monkeypatch):
    monkeypatch.setattr(translator, "encode_blocks", None)
    with pytest.raises(AudioError, match="NaN"):
        translator.translate_batch([noise(100), np.float32([np.nan])], 8000, to="organ")


@pytest.fixture
def song(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", np.stack([noise(2205), noise(2205)], axis=1), 22_050)
    return "song.wav"


def test_a_file_is_translated_as_its_samples_are(spectral, song):
    assert spectral.translate_file(song, to="organ") == Path("song.organ.wav")
    made, rate = soundfile.read("song.organ.wav", dtype="int16")
    samples = read_audio(song, 22_050, mono=False)
    expected = spectral.translate(samples, 22_050, to="organ")
    assert rate == spectral.sample_rate
    np.testing.assert_array_equal(made.T, np.rint(expected * 32768).clip(-32768, 32767))
    with open_audio("song.organ.wav") as audio:
        assert audio.provenance is not None
        assert (audio.provenance.source, audio.provenance.domain) == (song, "organ")
        assert audio.provenance.find_source() is not None


def test_a_translated_file_has_the_rate_and_bits_asked_for(spectral, song):
    spectral.translate_file(song, to="organ", output="x.flac", sample_rate=22_050, bits="24")
    info = soundfile.info("x.flac")
    assert (info.samplerate, info.subtype, info.frames) == (22_050, "PCM_24", 2205)


def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(spectral, song):
    Path("song.organ.wav").write_bytes(b"mine")
    with pytest.raises(AudioError, match=r"song\.organ\.wav exists; pass overwrite=True"):
        spectral.translate_file(song, to="organ")
    assert Path("song.organ.wav").read_bytes() == b"mine"
    spectral.translate_file(song, to="organ", overwrite=True)
    assert soundfile.info("song.organ.wav").frames == resampled_length(
        2205, 22_050, spectral.sample_rate
    )


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"to": "flute"}, UsageError, "unknown domain 'flute'"),
        ({"to": "organ", "output": "x.xyz"}, UsageError, "cannot write .xyz"),
        ({"to": "organ", "output": "no/x.wav"}, AudioError, "no/x.wav: cannot be written"),
        ({"to": "organ", "bits": "12"}, UsageError, "12"),
    ],
)
def test_a_file_that_cannot_be_made_leaves_nothing(spectral, song, options, error, reason):
    with pytest.raises(error, match=reason):
        spectral.translate_file(song, **options)
    assert [path.name for path in Path().iterdir()] == ["song.wav"]


@pytest.mark.parametrize("drums", ["keep_drums", "drop_drums"])
def test_a_file_keeps_or_drops_its_drums_as_its_stream_does(spectral, song, drums):
    made = spectral.translate_file(song, to="organ", bits="float", **{drums: True})
    with open_audio(song, mono=False) as recording:
        (audio,) = spectral.translate_streams([recording], to="organ", **{drums: True})
        expected = np.concatenate(list(audio.blocks))
    np.testing.assert_array_equal(soundfile.read(made, dtype="float32")[0], expected)
    with open_audio(made) as recording:
        assert recording.provenance is not None
        assert recording.provenance.options[drums] is True


def test_a_file_says_how_it_was_made(spectral, song):
    spectral.ranges = {"organ": KeyRange(60, 84)}
    spectral.translate_file(
        song, to="organ", transpose="fit", keep_octaves=True, mix=0.5, match_level=False
    )
    with open_audio("song.organ.wav") as audio:
        assert audio.provenance is not None
        options = audio.provenance.options
    assert options["keep_octaves"] is True
    assert (options["mix"], options["match_level"]) == (0.5, False)
    assert options.get("transpose", 0.0) % 12 == 0  # by how much it was, and not "fit"
