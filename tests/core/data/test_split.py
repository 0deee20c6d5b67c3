"""Which track, or part of one, trains, validates and tests."""

from __future__ import annotations

from itertools import pairwise

import pytest

from core.data.domain import SPLITS, Part, load_domain
from core.data.split import assign_tracks, carry_over, cut_track, normalise_shares, stable_order

from .conftest import SHARES, prep, splits, write_tone, write_tones


@pytest.mark.parametrize(
    ("n_tracks", "expected"),
    [(2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1)), (10, (8, 1, 1)), (100, (80, 10, 10))],
)
def test_equal_tracks_are_divided_by_the_ratio(n_tracks, expected):
    assigned = assign_tracks({f"{i}.wav": 1000 for i in range(n_tracks)}, [], SHARES)
    assert tuple(sum(p.split == s for p in assigned.values()) for s in SPLITS) == expected


def test_split_follows_durations_not_counts():
    new = {f"{index}.wav": 100 + 37 * index % 900 for index in range(200)}
    assigned = assign_tracks(new, [], SHARES)
    total = sum(new.values())
    for split, share in SHARES.items():
        held = sum(part.stop for part in assigned.values() if part.split == split)
        assert held / total == pytest.approx(share, abs=0.01)


def test_order_of_the_directory_does_not_matter():
    new = {f"{index}.wav": 100 + index for index in range(20)}
    shuffled = dict(sorted(new.items(), key=lambda item: item[1] * 7919 % 23))
    assert assign_tracks(new, [], SHARES) == assign_tracks(shuffled, [], SHARES)
    assert stable_order(new) != sorted(new)


def test_order_is_the_same_for_composed_and_decomposed_names():
    names = ["e\u0301.wav", *(f"{index}.wav" for index in range(9))]
    composed = ["\u00e9.wav", *names[1:]]
    assert stable_order(names).index(names[0]) == stable_order(composed).index(composed[0])


@pytest.mark.parametrize("longest", ["0.wav", "1.wav", "2.wav"])
def test_longest_track_is_the_first_to_train_on(longest):
    new = {**dict.fromkeys(["0.wav", "1.wav", "2.wav"], 10), longest: 1000}
    assert assign_tracks(new, [], SHARES)[longest].split == "train"


@pytest.mark.parametrize("split", [(0.8, 0.2, 0.0), (0.8, 0.0, 0.2), (1.0, 0.0, 0.0)])
def test_split_without_a_share_gets_nothing(split):
    shares = normalise_shares(split)
    assigned = assign_tracks({f"{i}.wav": 1000 + i for i in range(20)}, [], shares)
    unwanted = {name for name, share in zip(SPLITS, split, strict=True) if share == 0}
    assert not unwanted & {part.split for part in assigned.values()}
    assert not unwanted & {part.split for part in cut_track(10**6, 1000, shares)}


def test_shares_may_be_in_any_unit():
    assert normalise_shares((8, 1, 1)) == pytest.approx(SHARES)


def test_new_tracks_go_where_the_ratio_lacks_and_old_ones_stay(tmp_path):
    write_tones(tmp_path / "bach", 3)
    prep(tmp_path / "bach", tmp_path / "data")
    before = splits(load_domain(tmp_path / "data" / "bach"))
    write_tones(tmp_path / "bach", 20)
    prep(tmp_path / "bach", tmp_path / "data")
    domain = load_domain(tmp_path / "data" / "bach")
    assert splits(domain).items() >= before.items()
    assert [domain.n_tracks(split) for split in SPLITS] == [16, 2, 2]
    assert domain.minutes("train") == pytest.approx(16 * 2 / 60)


def test_deleted_test_track_is_replaced_by_the_next_new_one(bach):
    directory, data = bach
    before = splits(load_domain(data / "bach"))
    (directory / next(s for s, split in before.items() if split == {"test"})).unlink()
    write_tone(directory / "new.wav", hz=900)
    prep(directory, data)
    assert splits(load_domain(data / "bach"))["new.wav"] == {"test"}


def test_domain_without_training_tracks_warns(tmp_path):
    write_tones(tmp_path / "bach", 2)
    prep(tmp_path / "bach", tmp_path / "data")
    before = splits(load_domain(tmp_path / "data" / "bach"))
    (tmp_path / "bach" / next(s for s, split in before.items() if split == {"train"})).unlink()
    (warning,) = prep(tmp_path / "bach", tmp_path / "data").warnings
    assert "nothing is left to train on" in warning


@pytest.mark.parametrize("seconds", [12.5, 30, 99, 250, 3600])
@pytest.mark.parametrize("split", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.9, 0.1, 0.0)])
def test_cut_track_has_gaps_of_one_second_and_the_ratio(seconds, split):
    shares = normalise_shares(split)
    rate = 1000
    parts = cut_track(round(seconds * rate), rate, shares)
    assert parts[0].start == 0
    assert parts[-1].stop == round(seconds * rate)
    assert {b.start - a.stop for a, b in pairwise(parts)} == {rate}
    assert all(part.stop - part.start >= rate for part in parts)
    held = {s: sum(p.stop - p.start for p in parts if p.split == s) for s in shares}
    for name, share in shares.items():
        assert held[name] / sum(held.values()) == pytest.approx(share, abs=0.01)
    assert sum(held.values()) > 0.8 * seconds * rate


def test_long_track_is_cut_so_that_each_split_hears_all_of_it():
    parts = cut_track(3600 * 1000, 1000, SHARES)
    assert [part.split for part in parts] == list(SPLITS) * 8


def test_track_too_short_to_cut_trains_as_a_whole():
    assert cut_track(11_000, 1000, SHARES) == (Part("train", 0, 11_000),)


@pytest.mark.parametrize(("seconds", "why"), [(30, "cut into blocks"), (3, "too short to hold")])
def test_single_track_domain_warns_each_time(tmp_path, seconds, why):
    write_tones(tmp_path / "bach", 1, seconds=seconds)
    for _ in range(2):
        (warning,) = prep(tmp_path / "bach", tmp_path / "data").warnings
        assert why in warning
        assert warning.startswith("bach: one recording")


def test_cut_track_keeps_its_parts_when_others_come(tmp_path):
    write_tones(tmp_path / "bach", 1, seconds=30)
    prep(tmp_path / "bach", tmp_path / "data")
    (first,) = load_domain(tmp_path / "data" / "bach").tracks
    assert {part.split for part in first.parts} == set(SPLITS)
    write_tone(tmp_path / "bach" / "second.wav", seconds=30, hz=900)
    log = prep(tmp_path / "bach", tmp_path / "data")
    assert first in log.domains[0].domain.tracks
    assert log.warnings == []


def test_cut_track_with_changed_content_is_cut_in_the_same_ratio():
    parts = cut_track(60_000, 1000, normalise_shares((0.6, 0.4, 0.0)))
    changed = carry_over(parts, 90_000, 1000)
    assert {part.split for part in changed} == {"train", "validation"}
    assert changed[-1].stop == 90_000
    held = [sum(p.stop - p.start for p in changed if p.split == split) for split in SPLITS]
    assert held[0] / sum(held) == pytest.approx(0.6, abs=0.001)
