"""Segments and batches: what is drawn, from where, and on what it depends."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from core.config import DistortionConfig
from core.data.dataset import Batch, Batches, Segments, fixed_batch, make_item
from core.data.domain import load_domains
from core.data.loader import _leave_signals_to_the_loop
from core.data.midi import KEY, START
from core.errors import DataError

from ..training.conftest import RATE, store_domain, store_music, tiny_config

UNDISTORTED = DistortionConfig(pitch_semitones=0)


class Places:
    """Stands in for a generator; draws the places given, in order."""

    def __init__(self, *places: int) -> None:
        self.places = iter(places)

    def integers(self, high: int) -> int:
        place = next(self.places)
        assert place < high
        return place


def ramp(start: int, length: int) -> np.ndarray:
    """Return samples whose values are their places."""
    return np.arange(start, start + length, dtype=np.int16)


def segments_of(domain, length, split="train", sample_rate=RATE) -> Segments:
    return Segments(domain, split, sample_rate=sample_rate, length=length)


def batches_of(domains, config, *, rank=0, n_processes=1) -> Batches:
    length = round(config.training.segment_seconds * config.model.sample_rate)
    segments = [segments_of(domain, length) for domain in domains]
    return Batches(segments, config, rank=rank, n_processes=n_processes)


def load(batches, steps, n_workers=0):
    loader = DataLoader(batches, sampler=steps, batch_size=None, num_workers=n_workers)
    return [(batch.domains, batch.source, batch.target, batch.score) for batch in loader]


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for (ids, *tensors), (other_ids, *others) in zip(first, second, strict=True):
        assert ids == other_ids
        for tensor, other in zip(tensors, others, strict=True):
            torch.testing.assert_close(tensor, other, rtol=0, atol=0, equal_nan=True)


@pytest.fixture
def duo(tmp_path):
    """Two domains, one five times as long as the other."""
    return store_music(tmp_path / "data", bass=10.0, reed=3.0)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_segments_stay_inside_the_parts_of_their_split(tmp_path, split):
    parts = [
        [("train", 0, 300), ("validation", 330, 500), ("train", 520, 640)],
        [("validation", 0, 90)],
        [("train", 0, 100)],
    ]
    tracks = [ramp(1000, 700), ramp(3000, 90), ramp(5000, 100)]
    segments = segments_of(store_domain(tmp_path, "bass", tracks, parts), 60, split)
    allowed = [
        (track[0] + start, track[0] + stop)
        for track, divided in zip(tracks, parts, strict=True)
        for kind, start, stop in divided
        if kind == split
    ]
    rng = np.random.default_rng(0)
    firsts = []
    for _ in range(400):
        samples = segments.draw(rng) * 32768
        np.testing.assert_array_equal(np.diff(samples), 1)
        firsts.append(samples[0])
        assert any(start <= samples[0] and samples[-1] < stop for start, stop in allowed)
    for start, stop in allowed:  # every part is used, up to both of its ends
        inside = [first for first in firsts if start <= first < stop]
        assert min(inside) < start + 25
        assert max(inside) > stop - 60 - 25


def test_every_place_is_as_likely_as_every_other(tmp_path):
    tracks = [ramp(1000, 12), ramp(2000, 21), ramp(3000, 36)]
    segments = segments_of(store_domain(tmp_path, "bass", tracks), 10)
    n_places, n_draws = 3 + 12 + 27, 2100
    rng = np.random.default_rng(0)
    firsts = [round(float(segments.draw(rng)[0]) * 32768) for _ in range(n_draws)]
    _, counts = np.unique(firsts, return_counts=True)
    assert len(counts) == n_places
    expected = n_draws / n_places
    # Chi-squared with 41 degrees of freedom is above 85 once in 20,000 times.
    assert np.sum((counts - expected) ** 2 / expected) < 85


def test_part_shorter_than_a_segment_is_padded_with_silence(tmp_path):
    track = ramp(1000, 100)
    domain = store_domain(tmp_path, "bass", [track], [[("train", 20, 60)]])
    segment = segments_of(domain, 50).draw(np.random.default_rng(0)) * 32768
    np.testing.assert_array_equal(segment, np.pad(track[20:60], (0, 10)))


def test_silence_is_avoided(tmp_path):
    track = np.zeros(4000, np.int16)
    track[1000:] = 3000
    segments = segments_of(store_domain(tmp_path, "bass", [track]), 100)
    rng = np.random.default_rng(0)
    assert all(segments.draw(rng).any() for _ in range(60))


def test_silent_domain_gives_silence_and_does_not_hang(tmp_path):
    silent = store_domain(tmp_path, "bass", [np.zeros(4000, np.int16)])
    segments = segments_of(silent, 100)
    item = make_item(segments, DistortionConfig(gain_db=6, noise_db=-20), (0, 0))
    assert not item.source.any()
    assert not item.target.any()


@pytest.mark.parametrize("place", [0, 100, 441, 22222, 44100])
def test_resampling_keeps_pitch_and_alignment(tmp_path, place):
    time = np.arange(2 * 44100) / 44100
    track = np.round(0.5 * 32767 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    domain = store_domain(tmp_path, "bass", [track], sample_rate=44100)
    segment = segments_of(domain, 16000, sample_rate=16000).draw(Places(place))
    assert segment.shape == (16000,)
    assert segment.dtype == np.float32
    expected = 0.5 * np.sin(2 * np.pi * 440 * (place / 44100 + np.arange(16000) / 16000))
    # Cut off at a part's end, the filter rings; before that it is exact to half a sample
    # where the part begins within the filter's margin.
    tolerance = 0.5 * 2 * np.pi * 440 / 2 / 16000 if 0 < place < 882 else 2e-3
    assert np.abs(segment - expected)[320:-320].max() < tolerance
    if place == 22222:
        assert np.abs(segment - expected).max() < tolerance


def test_resampled_segment_has_nothing_of_another_split(tmp_path):
    track = np.zeros(88200, np.int16)
    track[:1000], track[45200:] = 20000, 20000
    divided = [("validation", 0, 1000), ("train", 1000, 45200), ("validation", 45200, 88200)]
    domain = store_domain(tmp_path, "bass", [track], [divided], sample_rate=44100)
    segments = segments_of(domain, 16000, sample_rate=16000)
    places = [0, 100] * 9  # silence is drawn again
    assert not segments.draw(Places(*places)).any()


def test_preset_with_a_higher_rate_than_the_data_is_an_error_that_says_what_to_run(tmp_path):
    domain = store_domain(tmp_path, "bass", [ramp(0, 9000)], sample_rate=16000)
    with pytest.raises(DataError, match=r"bass .* 16000 Hz .* 44100; prepare it .* --rate 44100"):
        segments_of(domain, 100, sample_rate=44100)


def test_split_without_audio_is_an_error_that_says_what_to_do(tmp_path):
    domain = store_domain(tmp_path, "bass", [ramp(0, 900)])
    with pytest.raises(DataError, match=r"bass has no validation audio; add recordings"):
        segments_of(domain, 100, "validation")


@pytest.mark.parametrize("n_workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(duo, n_workers):
    batches = batches_of(duo, tiny_config())
    assert_same(load(batches, range(5), n_workers), load(batches, range(5)))


def test_what_a_worker_needs_can_be_sent_to_it_and_is_small(duo):
    """As on macOS and Windows, where it has no copy of this process's memory."""
    batches = batches_of(duo, tiny_config())
    sent = pickle.dumps((batches, Batch.share_memory, _leave_signals_to_the_loop))
    assert_same(load(pickle.loads(sent)[0], range(3)), load(batches, range(3)))
    assert len(sent) < 10_000, "files are named, and not sent"


def test_batches_do_not_depend_on_where_a_run_continues(duo):
    batches = batches_of(duo, tiny_config())
    assert_same(load(batches, range(3, 6)), load(batches, range(6))[3:])


@pytest.mark.parametrize("domains_per_step", [1, 2])
@pytest.mark.parametrize("n_processes", [2, 8])
def test_shares_of_all_processes_make_the_batch_of_one(duo, domains_per_step, n_processes):
    config = tiny_config(batch_size=16, domains_per_step=domains_per_step)
    whole = load(batches_of(duo, config), range(3))
    shares = [
        load(batches_of(duo, config, rank=rank, n_processes=n_processes), range(3))
        for rank in range(n_processes)
    ]
    joined = [
        (
            of_ranks[0][0],
            *(torch.cat(side, dim=1) for side in list(zip(*of_ranks, strict=True))[1:]),
        )
        for of_ranks in zip(*shares, strict=True)
    ]
    assert_same(joined, whole)


def test_items_differ_from_one_another_and_between_seeds(duo):
    items = [
        item
        for seed in (0, 1)
        for _, _, target, _ in load(batches_of(duo, tiny_config(seed=seed)), range(4))
        for item in target.flatten(0, 1)
    ]
    assert len({item.numpy().tobytes() for item in items}) == len(items) == 32


def test_domains_take_turns_whatever_their_sizes(tmp_path):
    domains = store_music(tmp_path, bass=30.0, flute=2.0, reed=5.0)
    alone = load(batches_of(domains, tiny_config()), range(6))
    assert [ids for ids, *_ in alone] == [("bass",), ("flute",), ("reed",)] * 2
    pairs = load(batches_of(domains, tiny_config(domains_per_step=2)), range(3))
    assert [ids for ids, *_ in pairs] == [("bass", "flute"), ("reed", "bass"), ("flute", "reed")]
    together = load(batches_of(domains, tiny_config(batch_size=6, domains_per_step=9)), range(2))
    assert [ids for ids, *_ in together] == [("bass", "flute", "reed")] * 2
    assert together[0][1].shape == (3, 2, round(0.6 * RATE))


@pytest.mark.parametrize(
    ("batch_size", "domains_per_step", "n_processes"), [(1, 2, 1), (5, 2, 1), (4, 1, 3), (4, 2, 4)]
)
def test_batch_that_cannot_be_shared_is_an_error(duo, batch_size, domains_per_step, n_processes):
    config = tiny_config(batch_size=batch_size, domains_per_step=domains_per_step, accumulate=2)
    with pytest.raises(DataError, match=f"batch_size={batch_size} cannot be shared") as error:
        batches_of(duo, config, n_processes=n_processes)
    fitting = int(str(error.value).rpartition("add --batch-size ")[2])
    assert fitting > batch_size
    batches_of(duo, config.updated("training", batch_size=fitting), n_processes=n_processes)


def test_undistorted_source_is_the_target(duo):
    item = make_item(segments_of(duo[0], 1000), UNDISTORTED, (0, 0))
    np.testing.assert_array_equal(item.source, item.target)


def test_only_the_encoders_input_is_distorted(duo):
    segments = segments_of(duo[0], 1000)
    item = make_item(segments, DistortionConfig(noise_db=-6), (0, 0))
    plain = make_item(segments, UNDISTORTED, (0, 0)).target
    np.testing.assert_array_equal(item.target, plain)
    assert item.source.shape == item.target.shape
    assert not np.array_equal(item.source, item.target)


def test_gain_changes_source_and_target_alike_and_never_clips(tmp_path):
    loud = store_domain(tmp_path, "bass", [np.array([20000, -20000] * 500, np.int16)])
    segments = segments_of(loud, 100)
    config = DistortionConfig(pitch_semitones=0, gain_db=12)
    peaks = []
    for number in range(50):
        item = make_item(segments, config, (0, number))
        np.testing.assert_array_equal(item.source, item.target)
        peaks.append(float(np.abs(item.target).max()))
    assert max(peaks) == pytest.approx(1)
    assert 20000 / 32768 * 10 ** (-12 / 20) <= min(peaks) < 0.3


def test_validation_items_are_undistorted_and_the_same_at_every_call(duo):
    segments = segments_of(duo[0], 200, "validation")
    batch = fixed_batch(segments, 3, 0)
    assert batch.shape == (3, 200)
    assert torch.equal(batch, fixed_batch(segments, 3, 0))
    assert torch.equal(batch[:2], fixed_batch(segments, 2, 0))
    assert not torch.equal(batch, fixed_batch(segments, 3, 1))
    track = np.load(duo[0].directory / "0.npy")[-RATE:].astype(np.float32) / 32768
    windows = np.lib.stride_tricks.sliding_window_view(track, 200)
    assert all((windows == item).all(axis=1).any() for item in batch.numpy())


def load_paired(directory):
    return load_domains(directory / "data", None, renditions=directory / "renditions")


def draw_pairs(segments, n_pairs, share):
    rngs = (np.random.default_rng(seed) for seed in range(n_pairs))
    items = [segments.draw_item(rng, rendition_share=share) for rng in rngs]
    return [(item.source, item.target) for item in items]


def test_a_rendition_is_as_loud_as_its_track(paired):
    listing = paired / "renditions" / "reed" / "domain.json"
    listing.write_text(listing.read_text().replace('"level_db": -20.0', '"level_db": -26.0'))
    (domain,) = load_domains(paired / "data", None, renditions=paired / "renditions")
    segments = segments_of(domain, 500)
    pairs = draw_pairs(segments, 40, 1.0)
    of_first = [
        (source[0], own[0] + np.float32(10000 / 32768))
        for source, own in pairs
        if 0 < source[0] < 0.9 and own[0] * 32768 < 2000
    ]
    assert of_first
    for source, stored in of_first:
        assert source / stored == pytest.approx(10 ** (6 / 20), rel=1e-4)


@pytest.fixture
def paired(tmp_path):
    """A domain of two tracks; `a.wav` has two renditions, higher by 1 and by 2 thousand."""
    store_domain(tmp_path / "data", "reed", [ramp(0, 4000), ramp(5000, 4000)])
    domain_file = tmp_path / "data" / "reed" / "domain.json"
    domain_file.write_text(domain_file.read_text().replace('"0.wav"', '"a.wav"'))
    store_domain(tmp_path / "renditions", "reed", [ramp(10000, 3000), ramp(20000, 4000)])
    listing = tmp_path / "renditions" / "reed" / "domain.json"
    text = listing.read_text().replace('"0.wav"', '"a/x.flac"').replace('"1.wav"', '"a/y.flac"')
    listing.write_text(text)
    return tmp_path


def test_a_rendition_is_drawn_at_the_same_place_as_its_track(paired):
    (domain,) = load_domains(paired / "data", None, renditions=paired / "renditions")
    segments = segments_of(domain, 500)
    seen = set()
    for source, own in draw_pairs(segments, 60, 1.0):
        first, place = round(source[0] * 32768), round(own[0] * 32768)
        if place >= 5000:  # the second track has no rendition
            np.testing.assert_array_equal(source, own)
        else:
            # The shorter rendition is followed by silence.
            assert first - place in (10000, 20000) or (first == 0 and place >= 3000)
        seen.add((first - place) // 10000)
    assert {0, 1, 2} <= seen


def test_renditions_are_drawn_as_often_as_configured(paired):
    (domain,) = load_domains(paired / "data", None, renditions=paired / "renditions")
    segments = segments_of(domain, 500)
    pairs = draw_pairs(segments, 200, 0.5)
    share = np.mean([not np.array_equal(source, own) for source, own in pairs])
    assert share == pytest.approx(0.25, abs=0.08)  # of half of the tracks
    first, again = (make_item(segments, replace(UNDISTORTED, take_share=0.5), (0, 7)) for _ in "ab")
    np.testing.assert_array_equal(first.source, again.source)
    np.testing.assert_array_equal(first.target, again.target)


def test_only_the_domains_own_sound_gets_other_envelopes(paired):
    (domain,) = load_domains(paired / "data", None, renditions=paired / "renditions")
    segments = segments_of(domain, 500)
    config = replace(UNDISTORTED, take_share=0.5)
    reshaped = replace(config, reshape_share=1.0)
    items = [make_item(segments, config, (0, number)) for number in range(40)]
    is_own = [np.array_equal(item.source, item.target) for item in items]
    is_same = [
        np.array_equal(make_item(segments, reshaped, (0, number)).source, item.source)
        for number, item in enumerate(items)
    ]
    assert is_same == [not own for own in is_own]
    assert 0 < sum(is_own) < 40


def test_renditions_of_no_track_are_an_error_that_says_where_they_go(paired, tmp_path):
    store_domain(tmp_path / "other", "reed", [ramp(0, 4000)])
    with pytest.raises(DataError, match=r"no rendition of a track .* into a directory a/"):
        load_domains(paired / "data", None, renditions=tmp_path / "other")


def test_renditions_of_other_domains_only_are_an_error(paired, tmp_path):
    store_domain(tmp_path / "other", "bass", [ramp(0, 4000)])
    with pytest.raises(DataError, match="renditions of bass only"):
        load_domains(paired / "data", None, renditions=tmp_path / "other")


def test_renditions_at_another_rate_are_an_error(paired, tmp_path):
    store_domain(tmp_path / "other", "reed", [ramp(0, 4000)], sample_rate=2 * RATE)
    with pytest.raises(DataError, match=f"--rate {RATE}"):
        load_domains(paired / "data", None, renditions=tmp_path / "other")


@pytest.fixture
def scored(tmp_path):
    """A domain at 8 kHz of one track of 4 s: a sine of A4, struck at 1.5 s, and its score."""
    time = np.arange(4 * 8000) / 8000
    track = 0.5 * 32767 * np.sin(2 * np.pi * 440 * time) * (time >= 1.5)
    domain = store_domain(tmp_path, "bass", [track.astype(np.int16)], sample_rate=8000)
    np.save(domain.directory / "0.notes.npy", np.array([[1.5, 4, 69, 0.5, 1]], np.float32))
    tracks = (replace(domain.tracks[0], notes="0.notes.npy"),)
    return replace(domain, tracks=tracks)


def test_the_score_of_an_item_is_that_of_its_place(scored):
    segments = segments_of(scored, 8000, sample_rate=8000)
    seen = 0
    for seed in range(30):
        item = segments.draw_item(np.random.default_rng(seed), rendition_share=0.0)
        loud = np.flatnonzero(item.target)
        if len(loud) and loud[0] > 0:
            assert item.notes[0, START] == pytest.approx(loud[0] / 8000, abs=2e-3)
            seen += 1
    assert seen > 3


@pytest.mark.parametrize("cents", [-50, 35])
def test_detuned_items_sound_at_another_pitch_with_their_score(scored, cents):
    segments = segments_of(scored, 8000, sample_rate=8000)
    speed = 2 ** (cents / 1200)
    item = next(
        item
        for seed in range(30)
        if (item := segments.draw_item(np.random.default_rng(seed), rendition_share=0, speed=speed))
        and abs(item.target[0]) + abs(item.target[1]) < 1e-3
    )
    first = int(np.argmax(np.abs(item.target) > 0.25))
    assert item.notes[0, START] == pytest.approx(first / 8000, abs=3e-3)
    assert item.notes[0, KEY] == pytest.approx(69 + cents / 100, abs=1e-3)
    tone = item.target[first + 100 :]
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 1 << 18))
    assert np.argmax(spectrum) * 8000 / (1 << 18) == pytest.approx(440 * speed, rel=2e-3)
    assert item.target.shape == (8000,)


def test_a_segment_at_the_end_of_a_part_is_whole_though_it_is_played_faster(tmp_path):
    domain = store_domain(tmp_path, "bass", [np.full(9000, 8000, np.int16)], sample_rate=8000)
    segments = segments_of(domain, 8000, sample_rate=8000)
    for seed in range(10):
        item = segments.draw_item(np.random.default_rng(seed), rendition_share=0.0, speed=1.05)
        assert np.abs(item.target[-1000:]).min() > 0.1


def test_detuning_is_drawn_for_source_and_target_alike(scored):
    segments = segments_of(scored, 8000, sample_rate=8000)
    config = replace(UNDISTORTED, detune_cents=50.0)
    keys = set()
    for number in range(20):
        item = make_item(segments, config, (0, number))
        np.testing.assert_array_equal(item.source, item.target)
        keys.add(round(float(item.notes[0, KEY]), 3))
    assert len(keys) == 20
    assert 68.5 <= min(keys) < 68.8
    assert 69.2 < max(keys) <= 69.5


def test_batches_carry_scores_where_there_are_some(scored, duo, tmp_path):
    config = tiny_config(batch_size=4, domains_per_step=2)
    bass, _ = duo
    (batch,) = [batches_of([bass, replace(scored, name="struck")], config)[0]]
    n_frames = batch.source.shape[2] // config.model.hop_length
    assert batch.score.shape == (2, 2, n_frames, 2, 88)
    assert batch.score[0].isnan().all()
    assert not batch.score[1].isnan().all()
    parts = batch.split(2)
    assert torch.equal(parts[1].score[1].nan_to_num(), batch.score[1, 1:].nan_to_num())


def test_old_domain_files_have_no_scores(duo):
    file = duo[0].directory / "domain.json"
    file.write_text(file.read_text().replace(',\n   "notes": ""', ""))
    assert "notes" not in file.read_text()
    assert load_domains(file.parents[1], ["bass"])[0].tracks[0].notes == ""
