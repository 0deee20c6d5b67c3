from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from metrics_sounds import RATE, melody, noise, organ, piano
from safetensors.torch import save_file

from core.errors import AudioError, DataError, ModelError, UsageError
from core.metrics import timbre
from core.metrics.timbre_features import N_FEATURES, features, window_spectra

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
    return timbre.train_classifier(prepared, RATE, seed=0)


@pytest.fixture(scope="module")
def held_out():
    return {name: tracks[0] for name, tracks in recordings([7], 12.0, brightness=1.6).items()}


@pytest.mark.parametrize("domain", INSTRUMENTS)
def test_held_out_pieces_with_another_tone_colour_are_recognised(classifier, held_out, domain):
    probabilities = classifier.probabilities(held_out[domain], RATE)
    assert list(probabilities) == ["organ", "piano"]
    assert sum(probabilities.values()) == pytest.approx(1)
    assert probabilities[domain] > 0.8


def test_the_target_is_nearer_than_the_source(classifier, held_out):
    hit, miss = (
        timbre.evaluate(classifier, held_out[domain], RATE, target="piano", source="organ")
        for domain in ("piano", "organ")
    )
    assert list(hit) == NAMES
    assert hit["target_probability"] > 0.8
    assert miss["target_probability"] < 0.2
    assert hit["source_probability"] == pytest.approx(1 - hit["target_probability"], abs=1e-5)
    assert hit["frechet_distance"] < miss["frechet_distance"]
    assert hit["kernel_distance"] < miss["kernel_distance"]


def test_without_a_source_there_is_no_source_probability(classifier, held_out):
    figures = timbre.evaluate(classifier, held_out["piano"], RATE, target="piano")
    assert list(figures) == [NAMES[0], *NAMES[2:]]


def test_probabilities_do_not_depend_on_level_or_pauses(classifier, held_out):
    expected = classifier.probabilities(held_out["piano"], RATE)
    quiet = classifier.probabilities(0.01 * held_out["piano"], RATE)
    paused = classifier.probabilities(np.pad(held_out["piano"], (0, 10 * RATE)), RATE)
    assert quiet == pytest.approx(expected, abs=1e-3)
    assert paused == pytest.approx(expected, abs=0.1)


def test_a_higher_sample_rate_changes_little(classifier):
    double = organ(melody(7, 12.0), 2 * RATE)
    assert classifier.probabilities(double, 2 * RATE)["organ"] > 0.8


def test_silence_and_the_shortest_clips_have_no_figures(classifier):
    for waveform in (np.zeros(5 * RATE, np.float32), noise(0.2), noise(0.0001)):
        assert classifier.probabilities(waveform, RATE) is None
        figures = timbre.evaluate(classifier, waveform, RATE, target="piano", source="organ")
        assert figures == dict.fromkeys(NAMES)


def test_one_second_is_judged_but_too_short_for_a_distance(classifier, held_out):
    second = held_out["organ"][RATE : 2 * RATE]
    figures = timbre.evaluate(classifier, second, RATE, target="organ", source="piano")
    assert figures["target_probability"] > 0.5
    assert figures["frechet_distance"] is figures["kernel_distance"] is None


def test_noise_gets_finite_figures(classifier):
    figures = timbre.evaluate(classifier, noise(12), RATE, target="piano", source="organ")
    assert np.isfinite(list(figures.values())).all()


def test_an_unknown_domain_is_refused_with_the_known_ones(classifier, held_out):
    with pytest.raises(UsageError, match="'harp'; it knows organ, piano"):
        timbre.evaluate(classifier, held_out["piano"], RATE, target="harp")
    with pytest.raises(UsageError, match="'harp'"):
        timbre.evaluate(classifier, held_out["piano"], RATE, target="piano", source="harp")


def test_bad_waveforms_are_refused(classifier):
    with pytest.raises(AudioError, match="output: no samples"):
        timbre.evaluate(classifier, np.zeros(0, np.float32), RATE, target="piano")


def test_saving_and_loading_keep_every_figure(classifier, held_out, tmp_path):
    path = tmp_path / "timbre.safetensors"
    classifier.save(path)
    loaded = timbre.TimbreClassifier.load(path)
    assert (loaded.domains, loaded.training) == (classifier.domains, classifier.training)
    for judge in (classifier, loaded):
        judge.figures = timbre.evaluate(judge, held_out["organ"], RATE, target="piano")
    assert loaded.figures == classifier.figures
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
    again = timbre.train_classifier(dict(reversed(prepared.items())), RATE, seed=0)
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
        timbre.train_classifier(tracks, RATE)


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
