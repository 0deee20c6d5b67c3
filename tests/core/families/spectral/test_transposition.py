"""Notes of latents on other keys: transposed, or folded into a range."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import UsageError
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.salience import LOWEST_KEY, N_KEYS
from core.families.spectral.transposition import NOTHING, OctaveFold, count_notes, transpose
from core.key_range import KeyRange


@pytest.fixture
def config(tiny_spectral):
    return tiny_spectral.model


@pytest.mark.parametrize("semitones", [-48, -1, 1, 12, 48])
def test_all_channels_of_a_key_move_and_no_others(config, semitones):
    latents = torch.rand(5, 2, config.latent_dim)
    moved = transpose(latents, config, semitones)
    n_kinds = 3 if config.pitch_latents else 2
    up, down = max(semitones, 0), max(-semitones, 0)
    for kind in range(n_kinds):
        before, after = (x[..., kind * N_KEYS : (kind + 1) * N_KEYS] for x in (latents, moved))
        kept = after[..., up : N_KEYS - down]
        assert torch.equal(kept, before[..., down : N_KEYS - up])
    assert torch.equal(moved[..., n_kinds * N_KEYS :], latents[..., n_kinds * N_KEYS :])


def test_keys_that_move_in_are_as_in_silence(config):
    encoder = SpectralEncoder(config).eval()
    with torch.no_grad():
        silent = encoder(torch.zeros(1, 10 * config.hop_length))[0, 5]
    moved = transpose(torch.rand(config.latent_dim), config, 7)
    n_kinds = 3 if config.pitch_latents else 2
    for kind in range(n_kinds):
        keys = slice(kind * N_KEYS, kind * N_KEYS + 7)
        torch.testing.assert_close(moved[keys], silent[keys], atol=0.02, rtol=0)


def test_a_fraction_moves_pitches(config):
    assert config.pitch_latents
    latents = torch.rand(4, config.latent_dim) - 0.5
    moved = transpose(latents, config, 1.25)
    pitch = slice(2 * N_KEYS + 1, 3 * N_KEYS)
    expected = latents[:, pitch.start - 1 : pitch.stop - 1] + 0.25
    torch.testing.assert_close(moved[:, pitch], expected)
    assert torch.equal(moved[:, 1:N_KEYS], latents[:, : N_KEYS - 1])


def test_what_cannot_be_is_named(config):
    latents = torch.zeros(1, config.latent_dim)
    for semitones in (49, float("nan")):
        with pytest.raises(UsageError, match="from -48 to 48"):
            transpose(latents, config, semitones)
    with pytest.raises(UsageError, match="whole semitones"):
        transpose(latents, replace(config, pitch_latents=False), 0.5)


@pytest.mark.parametrize("semitones", [-5, 7])
def test_a_note_moves_to_its_key(config, semitones):
    encoder = SpectralEncoder(config).eval()
    time = torch.arange(40 * config.hop_length) / config.sample_rate
    tone = 0.3 * torch.sin(2 * np.pi * 440 * time)
    with torch.no_grad():
        latents = encoder(tone.unsqueeze(0))[0]
    presence = transpose(latents, config, semitones)[20, :N_KEYS]
    assert int(presence.argmax()) == 69 + semitones - LOWEST_KEY


def latents_of(config, *frames: dict[int, float], others: float = 0.0) -> torch.Tensor:
    """Return latents with levels of keys by MIDI number, on the scale of 40 dB a unit."""
    latents = torch.full((len(frames), config.latent_dim), others)
    for kind, nothing in enumerate(NOTHING):
        latents[:, kind * N_KEYS : (kind + 1) * N_KEYS] = nothing
    for frame, keys in zip(latents, frames, strict=True):
        for key, level in keys.items():
            frame[key - LOWEST_KEY] = math.tanh(level)
            frame[N_KEYS + key - LOWEST_KEY] = 0.01 * key  # an onset, and a pitch, of its own
            frame[2 * N_KEYS + key - LOWEST_KEY] = 0.001 * key
    return latents


def sounding(latents: torch.Tensor) -> list[dict[int, tuple[float, ...]]]:
    """Return level, onset and pitch of the keys that sound in each frame."""
    found = []
    for frame in latents:
        kinds = frame[: 3 * N_KEYS].view(3, N_KEYS)
        keys = (kinds[0] > NOTHING[0] + 1e-3).nonzero()[:, 0].tolist()
        found.append(
            {key + LOWEST_KEY: tuple(round(float(own[key]), 4) for own in kinds) for key in keys}
        )
    return found


def as_key(key: int, level: float) -> tuple[float, ...]:
    return round(math.tanh(level), 4), round(0.01 * key, 4), round(0.001 * key, 4)


@pytest.mark.parametrize(
    ("key", "place"), [(59, 71), (48, 60), (47, 71), (21, 69), (85, 73), (96, 84), (97, 73)]
)
def test_a_note_outside_the_range_moves_to_the_nearest_octave_in_it(config, key, place):
    fold = OctaveFold(config, KeyRange(60, 84))
    folded = fold(latents_of(config, {key: 0.5}, others=0.3))
    assert sounding(folded) == [{place: as_key(key, 0.5)}]
    assert torch.equal(folded[:, 3 * N_KEYS :], torch.full_like(folded[:, 3 * N_KEYS :], 0.3))
    assert (fold.n_below, fold.n_above) == ((1, 0) if key < 60 else (0, 1))


def test_notes_in_the_range_are_untouched(config):
    fold = OctaveFold(config, KeyRange(60, 84))
    latents = latents_of(config, {60: 0.5, 84: 0.4}, {})
    assert torch.equal(fold(latents), latents)
    assert (fold.n_below, fold.n_above) == (0, 0)


@pytest.mark.parametrize(("own", "moved"), [(0.5, 0.4), (0.4, 0.5)])
def test_where_both_sound_the_louder_wins(config, own, moved):
    (found,) = sounding(
        OctaveFold(config, KeyRange(60, 84))(latents_of(config, {60: own, 48: moved}))
    )
    assert found == {60: as_key(60, own) if own > moved else as_key(48, moved)}


def test_the_louder_of_two_that_move_to_one_key_wins(config):
    fold = OctaveFold(config, KeyRange(60, 84))
    first, second = sounding(fold(latents_of(config, {48: 0.5, 36: 0.4}, {48: 0.3, 36: 0.4})))
    assert (first, second) == ({60: as_key(48, 0.5)}, {60: as_key(36, 0.4)})


def test_overtones_stay_where_they_are(config):
    """24 dB below the note, where an encoder leaves them."""
    latents = latents_of(config, {81: 0.5, 100: -0.1})
    assert torch.equal(OctaveFold(config, KeyRange(60, 84))(latents), latents)


@pytest.mark.parametrize("cuts", [[], [1], [1, 2, 3, 4], [0, 3]])
def test_a_note_that_dies_away_beside_others_stays_moved_until_it_is_faint(config, cuts):
    """However the latents are cut; 20 dB below others it would not begin."""
    loud = 0.5
    levels = (loud - 0.4, loud - 0.6, loud - 0.75, loud - 0.9, loud - 0.6)
    latents = latents_of(config, *({72: loud, 50: level} for level in levels))
    fold = OctaveFold(config, KeyRange(60, 84))
    folded = torch.cat([fold(part) for part in torch.tensor_split(latents, cuts)])
    keys = [sorted(own) for own in sounding(folded)]
    assert keys == [[62, 72]] * 3 + [[50, 72]] * 2


def test_channels_move_together(config):
    """A note that is loud on one side alone moves on both."""
    left = latents_of(config, {50: 0.5, 62: -0.3})
    right = latents_of(config, {50: -0.6, 62: 0.1})
    folded = OctaveFold(config, KeyRange(60, 84))(torch.stack([left, right], dim=1))
    assert sounding(folded[:, 0]) == [{62: as_key(50, 0.5)}]
    assert sounding(folded[:, 1]) == [{62: as_key(50, -0.6)}]


def test_silence_has_no_notes_and_tones_are_counted_by_frames(config):
    latents = latents_of(config, {}, {60: 0.5, 79: -0.2}, {60: 0.5, 72: 0.4})
    counts = count_notes(latents, config)
    assert {key: int(own) for key, own in enumerate(counts) if own} == {60: 2, 72: 1}
