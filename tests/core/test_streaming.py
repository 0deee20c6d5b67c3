"""Music as it arrives: blocks, lengths, levels, channels, targets; both families."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from core.arrays import as_waveform
from core.audio.resampling import resampled_length
from core.errors import AudioError, LatentsError, UsageError
from core.families.spectral.transposition import transpose
from core.key_range import KeyRange
from core.streaming import LIVE_FRAMES
from core.streams import LatentStream
from core.translator import Translator

from .conftest import DOMAINS, loudness_db, noise


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


def test_the_last_frame_is_filled_up_with_silence(translator):
    waveform = noise(3 * translator.hop_length // 2)
    padded = np.pad(waveform, (0, translator.hop_length // 2))
    one, other = (np.concatenate(list(translator.encode_blocks([x]))) for x in (waveform, padded))
    assert np.array_equal(one, other)


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


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_an_impulse_stays_where_it_was(spectral, monkeypatch, rate):
    """Through both changes of rate, with networks that pass the waveform on."""

    def pass_on(sequences, **_):
        yield [iter([block.reshape(-1) for block in next(iter(sequences))])]

    monkeypatch.setattr(spectral, "decode_parts", pass_on)
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
        yield [iter([np.full(512, 4.0, np.float32)])]

    monkeypatch.setattr(spectral, "decode_parts", loud)
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


@pytest.mark.parametrize("how", ["whole", "running", "live"])
def test_shares_tell_how_loud_each_target_is(spectral, monkeypatch, how):
    """However much louder one decoder is by itself."""
    decode_parts = Translator.decode_parts

    def uneven(self, *args, **kwargs):
        for parts in decode_parts(self, *args, **kwargs):
            yield [
                (own * np.float32(0.4 + number) for own in part)
                for number, part in enumerate(parts)
            ]

    rate, waveform = spectral.sample_rate, noise(4 * spectral.sample_rate, level=0.1)
    spectral.window_seconds = 1.0
    options = spectral.generation_options({"is_live": how == "live"})

    def translated(to):
        audios = spectral.translate_streams(
            [as_waveform(waveform, rate)],
            to=to,
            options=options,
            match_level="running" if how == "live" else how,
        )
        return np.concatenate(list(next(audios).blocks))

    alone = np.stack([translated(to) for to in ("piano", "organ")])
    monkeypatch.setattr(Translator, "decode_parts", uneven)
    both = translated("piano:0.7,organ:0.3")
    later = slice(2 * rate, None)  # once gains that run have settled
    shares, *_ = np.linalg.lstsq(alone[:, later].T, both[later], rcond=None)
    levels = [loudness_db(x[later], rate) for x in alone] + 20 * np.log10(shares)
    assert levels[0] - levels[1] == pytest.approx(20 * np.log10(7 / 3), abs=1)
    source = loudness_db(waveform, rate)
    if how == "whole":
        assert loudness_db(both[later], rate) == pytest.approx(source, abs=1)
    else:  # together as loud as the source where targets differ, and untrained ones hardly do
        assert levels[0] == pytest.approx(source + 20 * np.log10(0.7 / np.hypot(0.7, 0.3)), abs=1)


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


@pytest.fixture
def ranged(tiny_spectral):
    """A spectral model whose organ has two octaves, and whose piano has all keys."""
    model = Translator.create(tiny_spectral, DOMAINS).eval()
    model.ranges = {"organ": KeyRange(60, 84), "piano": KeyRange(21, 108)}
    return model


def latents_of_a_note(model, key, *, n_frames=60, level=0.9):
    """Return latents in which nothing sounds but one key."""
    latents = np.full((n_frames, model.latent_dim), np.tanh(-1), np.float32)
    latents[:, 176:] = 0
    latents[:, key - 21] = level
    return latents


@pytest.mark.parametrize(("low", "high"), [(45, 69), (93, 81)])
def test_notes_that_the_target_lacks_are_played_in_another_octave(ranged, caplog, low, high):
    note = latents_of_a_note(ranged, low)
    made = ranged.decode(note, to="organ")
    where = (
        "below C4 are played octaves higher" if low < 60 else "above C6 are played octaves lower"
    )
    message = f"notes {where} on organ; --keep-octaves keeps them"
    assert caplog.messages == [message]
    np.testing.assert_array_equal(
        made, ranged.decode(latents_of_a_note(ranged, high), to="organ", keep_octaves=True)
    )
    assert not np.array_equal(made, ranged.decode(note, to="organ", keep_octaves=True))
    ranged.decode(note, to="organ")
    assert caplog.messages == [message]  # once


def test_of_several_targets_each_keeps_to_its_own_range(ranged):
    low, high = (latents_of_a_note(ranged, key) for key in (45, 69))
    both = ranged.decode(low, to="piano:0.02,organ:0.03", seed=3)
    piano = ranged.decode(low, to="piano:0.02", seed=3)
    organ = ranged.decode(high, to="organ:0.03", seed=3)
    np.testing.assert_allclose(both, piano + organ, atol=1e-6)


def test_a_transposition_comes_before_the_range(ranged, caplog):
    made = ranged.decode(latents_of_a_note(ranged, 45), to="organ", transpose=24)
    np.testing.assert_array_equal(made, ranged.decode(latents_of_a_note(ranged, 69), to="organ"))
    assert caplog.messages == []


def test_models_without_ranges_move_nothing(ranged, caplog):
    note = latents_of_a_note(ranged, 45)
    ranged.ranges = {}
    np.testing.assert_array_equal(
        ranged.decode(note, to="organ"), ranged.decode(note, to="organ", keep_octaves=True)
    )
    assert caplog.messages == []


@pytest.mark.parametrize("n_channels", [1, 2])
def test_to_fit_is_to_transpose_by_octaves(ranged, n_channels):
    latents = latents_of_a_note(ranged, 38)
    if n_channels == 2:
        latents = np.stack([latents, latents_of_a_note(ranged, 38, level=0.5)])
    frames = latents if n_channels == 1 else np.moveaxis(latents, 0, 1)
    stream = LatentStream(iter(np.split(frames, [7, 30])), n_channels=n_channels)
    (made,) = [
        np.concatenate(list(own.blocks))
        for own in ranged.decode_streams([stream], to="organ", transpose="fit")
    ]
    assert stream.transpose == 24
    np.testing.assert_array_equal(made.T, ranged.decode(latents, to="organ", transpose=24))


def test_of_several_pieces_each_fits_by_itself(ranged):
    pieces = [latents_of_a_note(ranged, key) for key in (38, 70, 98)]
    fitted = ranged.decode_batch(pieces, to="organ", transpose="fit")
    for piece, made, semitones in zip(pieces, fitted, (24, 0, -24), strict=True):
        expected = ranged.decode(piece, to="organ", transpose=semitones)
        np.testing.assert_array_equal(made, expected)


def test_what_cannot_fit_is_named(ranged, wavenet):
    note = latents_of_a_note(ranged, 38)
    del ranged.ranges["piano"]
    with pytest.raises(UsageError, match="does not know the range of piano; give a number"):
        ranged.decode(note, to="piano:0.5,organ:0.5", transpose="fit")
    live = ranged.generation_options({"is_live": True})
    with pytest.raises(UsageError, match="reads the whole piece first"):
        ranged.decode(note, to="organ", transpose="fit", options=live)
    with pytest.raises(UsageError, match="wavenet models cannot transpose"):
        wavenet.decode(np.zeros((2, wavenet.latent_dim)), to="organ", transpose="fit")


def test_what_is_live_keeps_to_the_range_frame_by_frame(ranged):
    live = ranged.generation_options({"is_live": True})
    low, high = (latents_of_a_note(ranged, key) for key in (45, 69))
    made = ranged.decode_blocks(np.split(low, 30), to="organ", options=live)
    expected = ranged.decode_blocks([high], to="organ", options=live)
    np.testing.assert_allclose(
        np.concatenate(list(made)), np.concatenate(list(expected)), atol=1e-5
    )
