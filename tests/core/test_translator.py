"""The translator: lengths, levels, domains, options; both families."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from core.audio.levels import measure_level_db
from core.audio.loudness import LoudnessMeter
from core.audio.reader import open_audio, read_audio
from core.audio.resampling import resampled_length
from core.errors import AudioError, LatentsError, UsageError
from core.families.spectral.transposition import transpose
from core.streams import LatentStream
from core.translator import LIVE_FRAMES, Translator, as_waveform

DOMAINS = ("piano", "organ")


@pytest.fixture
def translator(any_family):
    """A model of each family; WaveNet's hop is shortened, sampling takes a millisecond a step."""
    if any_family.model.family == "wavenet":
        any_family = any_family.updated("model", hop_length=40)
    return Translator.create(any_family, DOMAINS).eval()


@pytest.fixture
def spectral(tiny_spectral):
    return Translator.create(tiny_spectral, DOMAINS).eval()


@pytest.fixture
def wavenet(tiny):
    return Translator.create(tiny.updated("model", hop_length=40), DOMAINS).eval()


def noise(n_samples, *, level=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return (level * rng.uniform(-1, 1, n_samples)).astype(np.float32)


def test_domains_are_sorted_so_that_ids_do_not_depend_on_the_order_given(tiny_spectral):
    one, other = (
        Translator.create(tiny_spectral, names) for names in (["b", "c", "a"], ("c", "a", "b"))
    )
    assert one.domains == other.domains == ("a", "b", "c")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_each_domain_has_a_decoder_of_its_own(translator):
    latents = noise(5 * translator.latent_dim).reshape(5, -1)
    first, second = (translator.decode(latents, to=name) for name in DOMAINS)
    assert not np.array_equal(first, second)


def test_streams_decoded_together_are_those_decoded_alone(translator):
    """A broken one among them is reported in its place."""
    first, last = (noise(n * translator.latent_dim).reshape(n, -1) for n in (3, 7))
    wide = np.zeros((2, translator.latent_dim + 1), np.float32)
    streams = [LatentStream(iter(blocks)) for blocks in ([first], [wide], [], [last])]
    made, broken = [], []
    for audio in translator.decode_streams(streams, to="piano", seed=3):
        try:
            made.append(np.concatenate([np.zeros(0, np.float32), *audio.blocks]))
        except LatentsError as error:
            broken.append((len(made), str(error)))
    ((place, message),) = broken
    assert (place, "another model" in message) == (1, True)
    assert len(made[1]) == 0
    np.testing.assert_array_equal(made[0], translator.decode(first, to="piano", seed=3))
    np.testing.assert_array_equal(made[2], translator.decode(last, to="piano", seed=3))


@pytest.mark.parametrize(
    "name",
    [
        "pop",
        "train",
        "type",
        "keys",
        "forward",
        "élan vital",
        "encoder",
        "networks",
        "training",
        "0",
    ],
)
def test_a_domain_may_be_called_like_anything_of_torch(tiny_spectral, tmp_path, name):
    model = Translator.create(tiny_spectral, [name, "other"])
    model.save(tmp_path / "m.safetensors")
    loaded = Translator.load(tmp_path / "m.safetensors", domains=[name])
    latents = np.zeros((3, loaded.latent_dim), np.float32)
    assert np.array_equal(loaded.decode(latents, to=name), model.decode(latents, to=name))


def test_seed_of_the_weights_repeats_and_differs_and_torchs_state_stays(tiny):
    state = torch.get_rng_state()
    first, same, other = (
        Translator.create(tiny, DOMAINS, seed=seed).encoder.output.weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("frames", [0, 1 / 40, 0.5, 1, 1 + 1 / 40, 3, 7.3])
def test_encoding_fills_the_last_frame_up(translator, frames):
    n_samples = round(frames * translator.hop_length)
    latents = translator.encode(noise(n_samples), translator.sample_rate)
    assert latents.shape == (math.ceil(n_samples / translator.hop_length), translator.latent_dim)
    assert latents.dtype == np.float32


def test_the_last_frame_is_filled_up_with_silence(translator):
    waveform = noise(3 * translator.hop_length // 2)
    padded = np.pad(waveform, (0, translator.hop_length // 2))
    one, other = (np.concatenate(list(translator.encode_blocks([x]))) for x in (waveform, padded))
    assert np.array_equal(one, other)


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


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100])
@pytest.mark.parametrize("source_rate", [11_025, 48_000])
@pytest.mark.parametrize("n_samples", [1, 999, 1001])
def test_at_another_rate_it_has_as_many_samples_as_its_input_there(
    spectral, rate, source_rate, n_samples
):
    recording = as_waveform(noise(n_samples), source_rate)
    (audio,) = [
        (own.sample_rate, own.n_samples, len(np.concatenate(list(own.blocks))))
        for own in spectral.translate_streams([recording], to="organ", sample_rate=rate)
    ]
    expected = resampled_length(n_samples, source_rate, rate)
    assert audio == (rate, expected, expected)


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_an_impulse_stays_where_it_was(spectral, monkeypatch, rate):
    """Through both changes of rate, with networks that pass the waveform on."""

    def pass_on(sequences, **_):
        yield iter([block.reshape(-1) for block in next(iter(sequences))])

    monkeypatch.setattr(spectral, "decode_all", pass_on)
    monkeypatch.setattr(spectral, "encode_blocks", lambda blocks, **_: blocks)
    impulse = np.zeros(2 * rate, np.float32)
    impulse[rate] = 0.5
    recording = as_waveform(impulse, rate)
    (made,) = [
        np.concatenate(list(own.blocks))
        for own in spectral.translate_streams(
            [recording], to="organ", sample_rate=rate, match_level="off"
        )
    ]
    assert len(made) == len(impulse)
    assert int(np.argmax(made)) == rate
    # Nor does it lie between that sample and the next.
    assert abs(made[rate - 1] - made[rate + 1]) < 0.02 * made[rate]


@pytest.mark.parametrize("rate", [0, 500, 1e6, 44_100.5, True])
def test_a_rate_that_is_none_is_refused(spectral, rate):
    latents = LatentStream(iter([np.zeros((2, spectral.latent_dim), np.float32)]))
    with pytest.raises(AudioError, match=r"sample_rate .*: expected"):
        next(spectral.decode_streams([latents], to="organ", sample_rate=rate))


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


def test_a_stream_is_cut_where_its_audio_ends_and_not_before(translator):
    """Of unknown length, as on a pipe: the samples are those of the whole, the end is cut off."""
    waveform = noise(5 * translator.hop_length + 7)

    class Pipe:
        sample_rate, n_samples = translator.sample_rate, None
        is_live, is_stereo = True, False

        def blocks(self):
            return iter(np.array_split(waveform, 9))

    (audio,) = [
        (own, np.concatenate(list(own.blocks)))
        for own in translator.translate_streams([Pipe()], to="organ", seed=3, match_level="off")
    ]
    assert audio[0].latents.n_samples is None
    assert len(audio[1]) == len(waveform)
    whole = translator.decode(
        translator.encode(waveform, translator.sample_rate), to="organ", seed=3
    )
    np.testing.assert_allclose(audio[1], whole[: len(waveform)], atol=1e-4)


def test_decoding_lowers_peaks_above_full_scale(spectral, monkeypatch):
    latents = np.zeros((4, spectral.latent_dim), np.float32)

    def loud(*_, **__):
        yield iter([np.full(512, 4.0, np.float32)])

    monkeypatch.setattr(spectral, "decode_all", loud)
    (audio,) = [
        (np.concatenate(list(own.blocks)), own.peak_gain_db)
        for own in spectral.decode_streams([LatentStream(iter([latents]))], to="piano")
    ]
    assert np.abs(audio[0]).max() == 1
    assert audio[1] == pytest.approx(-12.04, abs=0.01)


def test_encoding_does_not_depend_on_how_the_waveform_is_cut(translator):
    waveform = noise(5 * translator.hop_length + 7)
    whole, pieces = (
        np.concatenate(list(translator.encode_blocks(blocks)))
        for blocks in ([waveform], [waveform[:3], waveform[3:3], waveform[3:100], waveform[100:]])
    )
    np.testing.assert_allclose(pieces, whole, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_any_kind_of_float_array_is_taken_as_it_is(translator):
    """Float64, read-only as mapped files are, strided: no warning, and nothing written."""
    wide = noise(400).astype(np.float64)
    read_only = noise(400)
    read_only.flags.writeable = False
    strided = np.repeat(noise(400), 2)[::2]
    encoded = [translator.encode(x, translator.sample_rate) for x in (wide, read_only, strided)]
    assert np.array_equal(encoded[0], encoded[1])
    assert np.array_equal(encoded[1], encoded[2])
    encoded[0].flags.writeable = False
    translator.decode(encoded[0], to="piano")
    translator.decode(np.asfortranarray(encoded[0]), to="piano")


@pytest.mark.parametrize(
    ("shape", "hint"), [((400, 2), r"waveform\.T"), ((1, 400), ""), ((3, 400), ""), ((), "")]
)
def test_a_waveform_that_is_neither_mono_nor_stereo_is_refused(translator, shape, hint):
    with pytest.raises(AudioError, match=rf"shape \(.*mono or \(2, samples\).*{hint}"):
        translator.encode(np.zeros(shape, np.float32), translator.sample_rate)


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


def loudness_db(waveform, rate):
    meter = LoudnessMeter()
    meter.push(np.atleast_2d(waveform).T, rate)
    return meter.loudness_db()


def test_what_is_heard_while_it_is_made_is_matched_as_it_goes_on(spectral):
    """The first block comes before the last sample is read."""
    n_read = 0

    class Pipe:
        sample_rate, n_samples, is_live, is_stereo = 8000, None, True, False

        def blocks(self):
            nonlocal n_read
            for block in np.array_split(noise(40 * 8000, level=0.02), 40):
                n_read += 1
                yield block

    spectral.window_seconds = 0.5
    (audio,) = spectral.translate_streams([Pipe()], to="organ", match_level="running")
    first = next(audio.blocks)
    assert n_read < 20
    made = np.concatenate([first, *audio.blocks])
    assert loudness_db(made, 8000) == pytest.approx(
        loudness_db(noise(40 * 8000, level=0.02), 8000), abs=1
    )
    assert audio.level_gain_db is not None


def test_latents_carry_no_level(spectral):
    latents = spectral.encode(noise(4000), 8000)
    (audio,) = spectral.decode_streams([LatentStream(iter([latents]))], to="organ")
    made = np.concatenate(list(audio.blocks))
    assert audio.level_gain_db is None
    np.testing.assert_array_equal(made, spectral.decode(latents, to="organ"))


@pytest.mark.parametrize("level", [0.3, 0.002])
def test_channels_that_are_the_same_give_the_samples_of_mono(spectral, level):
    waveform = noise(5000, level=level)
    mono = spectral.translate(waveform, 11_025, to="organ")
    for channel in spectral.translate(np.stack([waveform, waveform]), 11_025, to="organ"):
        np.testing.assert_array_equal(channel, mono)


@dataclass(frozen=True)
class Pieces:
    """A recording that arrives in blocks of some length."""

    samples: np.ndarray
    length: int
    sample_rate: int
    is_live: bool = True
    n_samples: int | None = None

    @property
    def is_stereo(self):
        return self.samples.ndim == 2

    def blocks(self):
        return iter(np.split(self.samples, range(self.length, len(self.samples), self.length)))


@pytest.mark.parametrize("n_channels", [1, 2])
def test_what_is_live_does_not_depend_on_the_blocks_it_comes_in(tiny_spectral, n_channels):
    """From one sample to all of them; level, loudness and peaks are followed alike."""
    spectral = Translator.create(tiny_spectral.updated("model", pitch_latents=True), DOMAINS).eval()
    options = spectral.generation_options({"is_live": True})
    rate, n_samples = spectral.sample_rate, spectral.sample_rate
    channels = [noise(n_samples, level=0.02, seed=seed) for seed in range(n_channels)]
    samples = np.stack(channels, axis=1) if n_channels == 2 else channels[0]
    samples[n_samples // 2 :] *= 20

    def streamed(recording):
        audios = spectral.translate_streams([recording], to="piano", options=options)
        return np.concatenate(list(next(audios).blocks))

    whole = streamed(Pieces(samples, n_samples, rate, is_live=False, n_samples=n_samples))
    assert whole.shape == samples.shape
    assert np.abs(whole).max() > 1e-3
    for length in (1, 37, spectral.hop_length, 3001):
        pieces = streamed(Pieces(samples, length, rate))
        np.testing.assert_allclose(pieces, whole, atol=1e-5)


def test_what_is_live_waits_no_longer_than_its_networks_look_ahead(spectral):
    """And two steps of the peaks' guard, and a frame's overhang."""
    taken = []
    recording = Pieces(noise(4000), 8, spectral.sample_rate)

    def blocks():
        for block in recording.blocks():
            taken.append(len(block))
            yield block

    config = spectral.config.model
    options = spectral.generation_options({"is_live": True})
    latents = spectral.encode_blocks(blocks(), is_live=True)
    first = next(spectral.decode_blocks(latents, to="piano", options=options))
    ahead = spectral.encoder.frames_after + spectral.decoders["piano"].least_after
    assert len(first) > 0
    assert sum(taken) <= (LIVE_FRAMES + ahead) * spectral.hop_length + config.n_fft


def test_stereo_does_not_depend_on_how_it_is_cut(spectral):
    stereo = np.stack([noise(3000), noise(3000, seed=1)], axis=1)
    whole, pieces = (
        np.concatenate(list(spectral.encode_blocks(blocks)))
        for blocks in ([stereo], [stereo[:3], stereo[3:100], stereo[100:]])
    )
    assert whole.shape == (math.ceil(3000 / spectral.hop_length), 2, spectral.latent_dim)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
    # The second half is worked on in windows of its own, where the channels differ.
    stereo[:1500, 1] = stereo[:1500, 0]
    spectral.window_seconds = 0.1
    made = np.concatenate(list(spectral.encode_blocks([stereo])))
    assert np.array_equal(made[:3, 0], made[:3, 1])
    assert not np.array_equal(made[-3:, 0], made[-3:, 1])


def test_wavenets_mix_stereo_and_say_so_once(wavenet, caplog):
    stereo = np.stack([noise(400), noise(400, seed=1)])
    for _ in range(2):
        made = wavenet.translate(stereo, wavenet.sample_rate, to="organ")
    np.testing.assert_array_equal(
        made, wavenet.translate(stereo.mean(0), wavenet.sample_rate, to="organ")
    )
    assert caplog.text.count("wavenet models are mono: stereo input is mixed") == 1
    with pytest.raises(LatentsError, match=r"of 2 channels.*mono"):
        wavenet.decode(np.zeros((2, 3, wavenet.latent_dim)), to="organ")


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


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_integers_are_scaled_as_in_wav_files(translator, dtype):
    full_scale = -int(np.iinfo(dtype).min)
    integers = np.rint(0.5 * full_scale * noise(400)).astype(dtype)
    encoded = translator.encode(integers, translator.sample_rate)
    assert np.array_equal(
        encoded, translator.encode((integers / full_scale).astype("f4"), translator.sample_rate)
    )


def test_lists_and_tensors_are_taken_as_arrays_are(translator):
    waveform = noise(400)
    wanted = translator.encode(waveform, translator.sample_rate)
    tensor = torch.from_numpy(waveform).requires_grad_()
    for same in (waveform.tolist(), tensor, waveform.astype(">f4")):
        assert np.array_equal(translator.encode(same, translator.sample_rate), wanted)
    made = translator.decode(torch.from_numpy(wanted), to="piano")
    assert np.array_equal(made, translator.decode(wanted.tolist(), to="piano"))
    coarse = torch.from_numpy(waveform).to(torch.bfloat16)
    assert translator.encode(coarse, translator.sample_rate).shape == wanted.shape


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.full(9, np.nan, np.float32), "NaN or infinite"),
        (np.array([0, np.inf]), "NaN or infinite"),
        (np.array([0.0, 20_000.0]), r"peak of 20000: expected floats in -1..1"),
        (np.zeros(9, np.int64), "dtype int64: expected floats in -1..1, int16 or int32"),
        (np.zeros(9, bool), "dtype bool"),
        (np.zeros(9, np.uint8), "dtype uint8"),
        (np.zeros(9, complex), "dtype complex128"),
        (["a"], "dtype <U1"),
        ([None], "dtype object"),
        ([[0.0], [0.0, 1.0]], "neither an array nor a tensor"),
        (None, r"shape \(\)"),
    ],
)
def test_a_waveform_of_another_kind_is_named(spectral, waveform, message):
    for call in (spectral.encode, lambda *own: spectral.translate(*own, to="piano")):
        with pytest.raises(AudioError, match=message):
            call(waveform, 8000)


@pytest.mark.parametrize("sample_rate", [0, -8000, 999, 10**9, 8000.5, "8000", None, True])
def test_an_impossible_rate_is_named(spectral, sample_rate):
    with pytest.raises(AudioError, match="sample_rate"):
        spectral.encode(np.zeros(100, np.float32), sample_rate)


@pytest.mark.parametrize("latents", [[[1, 2]], np.full((2, 180), np.nan), [[None]], "abc", None])
def test_latents_of_another_kind_are_named(spectral, latents):
    with pytest.raises(LatentsError, match="latents"):
        spectral.decode(latents, to="piano")


def test_domains_in_decomposed_unicode_are_the_same(tiny_spectral):
    model = Translator.create(tiny_spectral, ["fl\u00f6te"]).eval()
    latents = np.zeros((2, model.latent_dim), np.float32)
    assert len(model.decode(latents, to="flo\u0308te")) == 2 * model.hop_length


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


def test_generation_options_are_filled_in_and_used(wavenet):
    assert wavenet.generation_options({}).temperature == 1.0
    greedy = wavenet.generation_options({"temperature": 0.0})
    latents = noise(2 * wavenet.latent_dim).reshape(2, -1)
    first, other_seed = (
        wavenet.decode(latents, to="piano", seed=seed, options=greedy) for seed in (1, 2)
    )
    assert np.array_equal(first, other_seed)


def test_an_option_of_the_other_family_names_both(spectral):
    with pytest.raises(UsageError, match=r"temperature is an option of wavenet .* is spectral"):
        spectral.generation_options({"temperature": 0.5})


@pytest.mark.parametrize("name", ["wavenet", "spectral"])
def test_an_option_of_no_family_is_wrong_usage(name, request):
    with pytest.raises(UsageError, match="loudness"):
        request.getfixturevalue(name).generation_options({"loudness": 1})


def test_an_impossible_value_of_an_option_is_wrong_usage(wavenet):
    with pytest.raises(UsageError, match=r"temperature=-1"):
        wavenet.generation_options({"temperature": -1.0})


def test_its_repr_tells_family_rate_and_domains_and_no_layers(translator):
    family = translator.config.model.family
    assert repr(translator) == (
        f"Translator(family={family!r}, sample_rate={translator.sample_rate}, "
        "domains=('organ', 'piano'), device='cpu')"
    )


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


def test_several_targets_are_played_together_with_their_shares(translator):
    latents = noise(30 * translator.latent_dim).reshape(30, -1)

    def decode(to):
        return np.concatenate(list(translator.decode_blocks([latents], to=to, seed=3)))

    piano, organ, both = (decode(to) for to in ("piano", "organ", "piano:0.25,organ:0.5"))
    np.testing.assert_allclose(both, 0.25 * piano + 0.5 * organ, atol=1e-5)
    streams = [LatentStream(iter([own])) for own in (latents[:9], latents)]
    made = [
        np.concatenate(list(own.blocks))
        for own in translator.decode_streams(streams, to="piano:0.1,organ:0.2", seed=3)
    ]
    np.testing.assert_allclose(made[1], 0.1 * piano + 0.2 * organ, atol=1e-5)
    assert len(made[0]) == 9 * translator.hop_length


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("piano:0,organ:1", "share above 0"),
        ("piano:-1,organ:1", "share above 0"),
        ("piano:0.5,organ", "share above 0"),
        ("piano:a", "share above 0"),
        ("piano:nan,organ:1", "share above 0"),
        ("piano:0.5,piano:0.5", "share above 0"),
        (":1,organ:1", "share above 0"),
        ("piano:0.5,flute:0.5", "unknown domain 'flute'"),
    ],
)
def test_a_target_with_impossible_shares_is_named(spectral, target, reason):
    with pytest.raises(UsageError, match=reason):
        spectral.decode(np.zeros((2, spectral.latent_dim)), to=target)


def test_transposing_is_decoding_moved_latents(spectral):
    latents = noise(20 * spectral.latent_dim).reshape(20, -1)
    moved = transpose(torch.from_numpy(latents), spectral.config.model, 5).numpy()
    made = spectral.decode(latents, to="piano", transpose=5)
    np.testing.assert_array_equal(made, spectral.decode(moved, to="piano"))
    assert not np.array_equal(made, spectral.decode(latents, to="piano"))


def test_wavenets_cannot_transpose(wavenet):
    with pytest.raises(UsageError, match="wavenet models cannot transpose"):
        wavenet.decode(np.zeros((2, wavenet.latent_dim)), to="piano", transpose=1)
