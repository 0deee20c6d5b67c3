"""The starter's music: recorded notes that are mistuned and late, played in tune and in time."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE = 44_100
MODULES = (
    "sound",
    "sampler",
    "scores",
    "performing",
    "domains",
    "instruments",
    "programs",
    "beside",
    "plan",
)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The recipe's modules, which import one another by bare names."""
    for library in ("mido", "scipy", "soxr"):
        pytest.importorskip(library, reason="pip install -r recipes/starter/requirements.txt")
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "starter"))
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


def tone(key: float, *, late: float = 0.0, seconds: float = 2.0, fall: float = 0.0) -> np.ndarray:
    """Eight partials of a key, after some silence; `fall` is in dB a second."""
    at = np.arange(round(seconds * RATE)) / RATE
    hertz = 440 * 2 ** ((key - 69) / 12)
    sound = sum(np.sin(2 * np.pi * k * hertz * at + k) / k for k in range(1, 9))
    sound = sound * 10 ** (-fall * at / 20) * np.minimum(1, at / 0.004)
    return np.concatenate([np.zeros(round(late * RATE)), 0.1 * np.asarray(sound)])


def made_bank(recipe: Any, folder: Path, touch: Any, recordings: list[Any]) -> Any:
    sampler = recipe("sampler")
    sampler.make_bank(recordings, folder, sustained=touch.sustained, even=False)
    return sampler.load_bank(folder, touch)


def held(recipe: Any) -> Any:
    return recipe("sampler").Touch(range_db=20, soft_db=12, release_seconds=0.1, sustained=True)


@pytest.mark.parametrize("cents", [-38.0, 0.0, 21.0, 90.0])
@pytest.mark.parametrize("key", [38, 60, 88])
def test_pitch_of_a_recording_is_measured_within_a_cent(
    recipe: Any, key: int, cents: float
) -> None:
    found = recipe("sampler").measure_cents(tone(key + cents / 100, late=0.1), key)
    assert found == pytest.approx(cents, abs=1)


def test_recording_of_another_note_is_left_out(recipe: Any, tmp_path: Path) -> None:
    recordings = [(100, 60, tone(60)), (100, 64, tone(66.5))]
    bank = made_bank(recipe, tmp_path, held(recipe), recordings)
    assert [round(note.key) for note in bank.notes] == [60]


@pytest.mark.parametrize("pitch", [58, 60, 63])
def test_mistuned_and_late_note_is_played_in_tune_and_in_time(
    recipe: Any, tmp_path: Path, pitch: int
) -> None:
    sampler, sound = recipe("sampler"), recipe("sound")
    bank = made_bank(recipe, tmp_path, held(recipe), [(100, 60, tone(60.31, late=0.2))])
    event = sound.Event(0.5, 1.0, pitch, 90, 0)
    played = sampler.play([event], lambda _event: bank, 2 * RATE)
    assert sampler.measure_cents(played, pitch) == pytest.approx(0, abs=1)
    assert sampler.onset(played) / RATE == pytest.approx(0.5, abs=0.003)


def test_held_note_lasts_longer_than_its_recording_and_then_ends(
    recipe: Any, tmp_path: Path
) -> None:
    sampler, sound = recipe("sampler"), recipe("sound")
    bank = made_bank(recipe, tmp_path, held(recipe), [(100, 60, tone(60, seconds=1.5))])
    played = sampler.play([sound.Event(0.0, 6.0, 60, 100, 0)], lambda _event: bank, 7 * RATE)
    levels = sampler.envelope_db(played, 0.05)
    steady = levels[RATE // 2 : 6 * RATE - RATE // 10]
    assert steady.max() - steady.min() < 1.5
    assert levels[round(6.2 * RATE)] < steady.mean() - 60


def test_hum_below_a_note_is_cut(recipe: Any, tmp_path: Path) -> None:
    sampler = recipe("sampler")
    humming = tone(72) + tone(24, seconds=2.0) * 0.01
    shares = []
    for cut_below in (0.0, 0.65):
        folder = tmp_path / str(cut_below)
        sampler.make_bank(
            [(100, 72, humming)], folder, sustained=True, even=False, cut_below=cut_below
        )
        bank = sampler.load_bank(folder, held(recipe))
        event = recipe("sound").Event(0.0, 1.0, 72, 110, 0)
        spectrum = np.abs(np.fft.rfft(sampler.play([event], lambda _, own=bank: own, RATE)))
        shares.append(spectrum[20:200].max() / spectrum.max())
    assert shares[1] < 0.05 * shares[0]


def test_plucked_note_dies_away_with_its_recording(recipe: Any, tmp_path: Path) -> None:
    sampler, sound = recipe("sampler"), recipe("sound")
    touch = sampler.Touch(range_db=20, soft_db=12, release_seconds=0.1, sustained=False)
    bank = made_bank(recipe, tmp_path, touch, [(100, 60, tone(60, fall=20))])
    played = sampler.play([sound.Event(0.0, 6.0, 60, 100, 0)], lambda _event: bank, 7 * RATE)
    levels = sampler.envelope_db(played, 0.05)
    assert levels[RATE // 2] - levels[RATE * 3 // 2] == pytest.approx(20, abs=1)
    assert levels[3 * RATE] < -100


def test_soft_note_is_quieter_and_duller(recipe: Any, tmp_path: Path) -> None:
    sampler, sound = recipe("sampler"), recipe("sound")
    bank = made_bank(recipe, tmp_path, held(recipe), [(100, 60, tone(60))])
    shares, levels = [], []
    for velocity in (30, 110):
        event = sound.Event(0.0, 1.0, 60, velocity, 0)
        played = sampler.play([event], lambda _event: bank, RATE)
        spectrum = np.abs(np.fft.rfft(played * np.hanning(RATE)))
        shares.append(spectrum[1500:].sum() / spectrum.sum())  # one bin a hertz
        levels.append(float(np.log10(np.mean(played**2))))
    assert levels[0] < levels[1] - 1.2
    assert shares[0] < 0.6 * shares[1]


def test_nearest_layer_plays_at_the_level_between_layers(recipe: Any, tmp_path: Path) -> None:
    sampler = recipe("sampler")
    touch = sampler.Touch(range_db=0, soft_db=0, release_seconds=0.1, sustained=True)
    recordings = [(40, 60, 0.1 * tone(60)), (100, 60, tone(60))]
    bank = made_bank(recipe, tmp_path, touch, recordings)
    soft, loud = bank.level_db(60, 40), bank.level_db(60, 100)
    assert loud - soft == pytest.approx(20, abs=0.1)
    assert bank.level_db(60, 70) == pytest.approx((soft + loud) / 2, abs=0.1)
    assert bank.choose(60, 60).velocity == 40


def test_bend_is_played_and_written_alike(recipe: Any, tmp_path: Path) -> None:
    sampler, sound = recipe("sampler"), recipe("sound")
    bank = made_bank(recipe, tmp_path, held(recipe), [(100, 60, tone(60))])
    bend = ((0.0, 0.0), (0.5, 0.0), (1.0, 700.0))
    event = sound.Event(0.0, 2.0, 60, 100, 3, bend)
    played = sampler.play([event], lambda _event: bank, 2 * RATE)
    assert sampler.measure_cents(played[: RATE // 2], 60) == pytest.approx(0, abs=2)
    assert sampler.measure_cents(played[RATE:], 67) == pytest.approx(0, abs=2)
    wheel = {}
    now = 0
    for message in sound.midi_file([event], {3: 48}).tracks[0]:
        now += message.time
        if message.type == "pitchwheel":
            wheel[now] = message.pitch * 100 * sound.BEND_RANGE / 8192
    assert wheel[0] == 0
    assert wheel[750] == pytest.approx(350, abs=1)
    assert wheel[1000] == pytest.approx(700, abs=1)


def test_bent_notes_have_a_channel_whose_wheel_moves_nothing_else(recipe: Any) -> None:
    sound, performing = recipe("sound"), recipe("performing")
    events = tuple(
        sound.Event(0.7 * index, 0.69, 60 + index % 5, 80, part)
        for index in range(40)
        for part in (0, 1)
    )
    bent, _ = performing.glide(events, np.random.default_rng(2))
    moving = [event for event in bent if event.bend]
    assert moving
    for event in moving:
        end = event.start_seconds + event.length_seconds + performing.REST_SECONDS
        others = [
            other
            for other in bent
            if other is not event
            and other.channel == event.channel
            and event.start_seconds <= other.start_seconds < end
        ]
        assert not others
    assert [event.pitch for event in bent] == [event.pitch for event in events]


def test_held_back_instruments_are_in_no_table(recipe: Any) -> None:
    instruments = recipe("instruments")
    packages = {
        package
        for source in instruments.SOURCES.values()
        for package in (source.packages or {}).values()
    }
    for name in ("saxophone", "harmonium", "xylophone", "french-horn"):
        assert not any(name in package for package in packages)
    held_back = [font.name for font in instruments.FONTS if font.weight == 0]
    assert held_back == ["freepats"]
    assert not {source.font for source in instruments.SOURCES.values()} & set(held_back)


def test_each_key_of_a_domain_has_one_instrument(recipe: Any) -> None:
    for name, domain in recipe("instruments").DOMAINS.items():
        keys = [key for zone in domain.zones for key in range(zone.low, zone.high + 1)]
        assert keys == list(range(domain.low, domain.high + 1)), name


def test_is_note_refuses_other_pitches_and_noise(recipe: Any) -> None:
    programs = recipe("programs")
    assert programs.is_note(tone(60), 60)
    assert not programs.is_note(tone(72), 60)
    assert not programs.is_note(tone(61), 60)
    assert not programs.is_note(np.random.default_rng(0).normal(0, 0.1, RATE), 60)


@pytest.mark.parametrize("kind", ["noise", "speech"])
def test_sound_beside_the_music_follows_from_its_seed(recipe: Any, kind: str) -> None:
    beside = recipe("beside")
    first, again, other = (
        beside.make(beside.Beside(kind, -6.0, seed), 2 * RATE, 100.0, {}) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.sqrt(np.mean(first**2)) > 0
