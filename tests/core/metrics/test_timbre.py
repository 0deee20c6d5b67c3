from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from core.errors import DataError, ModelError
from core.evaluation.sound import Sound, target_figures
from core.metrics import timbre
from core.metrics.timbre_features import N_FEATURES, features, window_spectra
from core.metrics.timbre_training import train_classifier
from tests.sounds import RATE, melody, noise, organ, piano

NAMES = ["target_probability", "source_probability", "frechet_distance", "kernel_distance"]
INSTRUMENTS = {"organ": organ, "piano": piano}


def recordings(seeds, seconds=20.0, **colour):
    return {
        name: [play(melody(seed, seconds), **colour) for seed in seeds]
        for name, play in INSTRUMENTS.items()
    }


def as_prepared(track):
    """Return a track as `umt prep` stores it."""
    return np.round(32_767 * track).astype(np.int16)


@pytest.fixture(scope="module")
def prepared():
    tracks = recordings(range(2), 18.0)
    return {name: [as_prepared(track) for track in tracks[name]] for name in tracks}


@pytest.fixture(scope="module")
def classifier(prepared):
    return train_classifier(prepared, RATE, seed=0)


@pytest.fixture(scope="module")
def held_out():
    return {name: tracks[0] for name, tracks in recordings([7], 12.0, brightness=1.6).items()}


def judge(classifier, waveform, target, source=None):
    return target_figures(Sound(waveform, RATE, classifier), target, source)


def probabilities_of(classifier, waveform, sample_rate=RATE):
    return Sound(waveform, sample_rate, classifier).probabilities


@pytest.mark.parametrize("domain", INSTRUMENTS)
def test_held_out_pieces_with_another_tone_colour_are_recognised(classifier, held_out, domain):
    probabilities = probabilities_of(classifier, held_out[domain])
    assert list(probabilities) == ["organ", "piano"]
    assert sum(probabilities.values()) == pytest.approx(1)
    assert probabilities[domain] > 0.8


def test_the_target_is_nearer_than_the_source(classifier, held_out):
    hit, miss = (
        judge(classifier, held_out[domain], "piano", "organ") for domain in ("piano", "organ")
    )
    assert list(hit) == NAMES
    assert hit["target_probability"] > 0.8
    assert miss["target_probability"] < 0.2
    assert hit["source_probability"] == pytest.approx(1 - hit["target_probability"], abs=1e-5)
    assert hit["frechet_distance"] < miss["frechet_distance"]
    assert hit["kernel_distance"] < miss["kernel_distance"]


def test_without_a_source_of_its_own_there_is_no_source_probability(classifier, held_out):
    figures = judge(classifier, held_out["piano"], "piano")
    assert list(figures) == [NAMES[0], *NAMES[2:]]
    assert judge(classifier, held_out["piano"], "piano", "piano") == figures


def test_probabilities_do_not_depend_on_level_or_pauses(classifier, held_out):
    expected = probabilities_of(classifier, held_out["piano"])
    quiet = probabilities_of(classifier, 0.01 * held_out["piano"])
    paused = probabilities_of(classifier, np.pad(held_out["piano"], (0, 10 * RATE)))
    assert quiet == pytest.approx(expected, abs=1e-3)
    assert paused == pytest.approx(expected, abs=0.1)


def test_a_higher_sample_rate_changes_little(classifier):
    double = organ(melody(7, 12.0), 2 * RATE)
    assert probabilities_of(classifier, double, 2 * RATE)["organ"] > 0.8


def test_silence_and_the_shortest_clips_have_no_figures(classifier):
    for waveform in (np.zeros(5 * RATE, np.float32), noise(0.2), noise(0.0001)):
        assert probabilities_of(classifier, waveform) == {}
        figures = judge(classifier, waveform, "piano", "organ")
        assert figures == dict.fromkeys(NAMES)


def test_one_second_is_judged_but_too_short_for_a_distance(classifier, held_out):
    second = held_out["organ"][RATE : 2 * RATE]
    figures = judge(classifier, second, "organ", "piano")
    assert figures["target_probability"] > 0.5
    assert figures["frechet_distance"] is figures["kernel_distance"] is None


def test_noise_gets_finite_figures(classifier):
    figures = judge(classifier, noise(12), "piano", "organ")
    assert np.isfinite(list(figures.values())).all()


def test_saving_and_loading_keep_every_figure(classifier, held_out, tmp_path):
    path = tmp_path / "timbre.safetensors"
    classifier.save(path)
    loaded = timbre.TimbreClassifier.load(path)
    assert (loaded.domains, loaded.training) == (classifier.domains, classifier.training)
    first, again = (judge(own, held_out["organ"], "piano") for own in (classifier, loaded))
    assert first == again
    for domain in INSTRUMENTS:
        assert loaded.references[domain].quality == classifier.references[domain].quality
        assert loaded.references[domain].rolloff_hz == classifier.references[domain].rolloff_hz


def test_references_hold_the_distribution_of_every_quality_figure(classifier):
    for domain in INSTRUMENTS:
        reference = classifier.references[domain]
        for low, middle, high in reference.quality.values():
            assert low <= middle <= high
        assert reference.quality["out_of_band_share"][1] < 0.05
        assert reference.quality["harmonic_share"][1] > 0.8
        assert 500 < reference.rolloff_hz < RATE / 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"", "cannot be read"),
        (b"RIFF....WAVEfmt ", "cannot be read"),
        ({"format": 1, "features": 99}, "not a timbre classifier of this version"),
        ({}, "not a timbre classifier of this version"),
        ({"format": 1, "features": 1, "domains": ["a"], "references": {}}, "damaged"),
    ],
)
def test_other_files_are_refused_by_name(content, reason, tmp_path):
    path = tmp_path / "other.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save_file({"a": torch.zeros(1)}, path, metadata={"umt_timbre": json.dumps(content)})
    with pytest.raises(ModelError, match=f"other.safetensors: .*{reason}"):
        timbre.TimbreClassifier.load(path)


def test_training_depends_on_data_and_seed_alone(classifier, prepared):
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = train_classifier(dict(reversed(prepared.items())), RATE, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights, others = classifier.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize(
    ("tracks", "reason"),
    [
        ({"piano": [noise(40)]}, "needs two, not 1"),
        ({"a": [], "b": [noise(40)]}, "domain a: 0 s of sound"),
        ({"a": [noise(9), noise(9)], "b": [noise(40)]}, "domain a: 16 s of sound"),
        ({"a": [np.zeros(40 * RATE, np.int16)], "b": [noise(40)]}, "domain a: 0 s of sound"),
    ],
)
def test_too_little_training_data_is_refused(tracks, reason):
    with pytest.raises(DataError, match=reason):
        train_classifier(tracks, RATE)


def test_every_window_has_finite_features_of_one_size():
    for waveform in (noise(4), piano(melody(0, 5.0)), np.full(3 * RATE, 0.1, np.float32)):
        values = features(window_spectra(waveform))
        assert values.shape[1] == N_FEATURES
        assert values.isfinite().all()


def test_windows_are_one_hop_apart_and_skip_silence():
    sound = np.concatenate([noise(4), np.zeros(6 * RATE, np.float32), noise(4)])
    assert len(window_spectra(sound)) == 4
    assert len(window_spectra(noise(9), hop_seconds=1)) == 8
    assert len(window_spectra(noise(1))) == 1


def test_distances_of_known_gaussians():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(4_000, 16, generator=generator) * 0.1
    reference = timbre.DomainReference(
        samples.mean(dim=0), samples.T.cov(), samples[:256], 4_000.0, {}
    )
    shifted = torch.randn(4_000, 16, generator=generator) * 0.2 + 0.3
    # Equal axes: sum over 16 of (difference of means)^2 + (difference of deviations)^2.
    expected = 16 * (0.3**2 + 0.1**2)
    assert timbre.frechet_distance(shifted, reference) == pytest.approx(expected, rel=0.02)
    assert timbre.frechet_distance(samples, reference) == pytest.approx(0, abs=1e-3)
    near, far = (timbre.kernel_distance(x[:500], reference) for x in (samples[999:], shifted))
    assert near == pytest.approx(0, abs=0.01)
    assert far > 0.5
