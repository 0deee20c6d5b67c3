"""Yardsticks of models and what latents know: on codes and latents whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from core.metrics import tones
from core.metrics.latents import note_test, probe_accuracy
from core.metrics.linear_prediction import ORDER, autoregressive_bits, cross_entropy_bits, fit

Q = 256


def random_codes(seed: int, n_classes: int = Q, shape: tuple[int, int] = (4, 4000)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(n_classes, shape, generator=generator)


def wave(seed: int) -> torch.Tensor:
    """Return four tones, the same for every seed but for their phases."""
    phases = np.random.default_rng(seed).uniform(0, 6, 4)
    time = np.arange(4000)
    rows = [
        np.sin(2 * np.pi * f * time + phase) * 80 + 128
        for f, phase in zip((0.013, 0.029, 0.041, 0.067), phases, strict=True)
    ]
    return torch.from_numpy(np.round(rows)).long()


def test_noise_costs_what_it_must():
    # Sixteen equally likely codes in the middle: four bits, plus what the table does not know.
    training, heldout = (random_codes(seed, 16) + 120 for seed in (0, 1))
    assert 4 <= autoregressive_bits(training, heldout, Q) < 4.3


def test_what_can_be_predicted_costs_little():
    assert autoregressive_bits(wave(0), wave(1), Q) < 2.5


def test_constant_codes_cost_next_to_nothing():
    silence = torch.full((2, 2000), 128)
    assert autoregressive_bits(silence, silence, Q) < 0.1


def test_codes_never_seen_in_training_are_possible():
    bits = autoregressive_bits(torch.full((1, 500), 128), random_codes(0), Q)
    assert math.isfinite(bits)
    assert bits > 6


def test_probabilities_of_all_codes_sum_to_one():
    coder = fit(wave(0), Q)
    past = wave(2)[:1, : ORDER + 20]
    total = 0.0
    for code in range(Q):
        last = torch.cat([past, torch.tensor([[code]])], dim=1)
        # The mean over the row, times its length, less the same without the last code.
        whole = cross_entropy_bits(coder, last) * (last.shape[1] - ORDER - 16)
        before = cross_entropy_bits(coder, past) * (past.shape[1] - ORDER - 16)
        total += 2 ** -(whole - before)
    assert total == pytest.approx(1, abs=1e-6)


def test_too_few_codes_have_no_figure():
    assert autoregressive_bits(wave(0)[:, :48], wave(1), Q) is None


def latents(shift: float, seed: int, *, is_faster: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((40, 20, 6), generator=generator)
    return noise + shift if not is_faster else noise.cumsum(1) / 3 + shift


def test_a_probe_finds_domains_that_differ():
    found = probe_accuracy([latents(0, 0), latents(2, 1)], [latents(0, 2), latents(2, 3)])
    assert found == 1


def test_a_probe_hears_how_latents_move():
    training = [latents(0, 0), latents(0, 1, is_faster=True)]
    heldout = [latents(0, 2), latents(0, 3, is_faster=True)]
    assert probe_accuracy(training, heldout) > 0.95


def test_a_probe_of_equal_domains_guesses():
    found = probe_accuracy([latents(0, s) for s in (0, 1)], [latents(0, s) for s in (2, 3)])
    assert found == pytest.approx(0.5, abs=0.15)


def test_shuffled_labels_leave_nothing_to_find(generator):
    mixed = torch.cat([latents(0, 0), latents(2, 1)])[torch.randperm(80, generator=generator)]
    heldout = torch.cat([latents(0, 2), latents(2, 3)])[torch.randperm(80, generator=generator)]
    found = probe_accuracy(mixed.split(40), heldout.split(40))
    assert found == pytest.approx(0.5, abs=0.2)


def test_a_single_domain_has_no_probe():
    assert probe_accuracy([latents(0, 0)], [latents(0, 1)]) is None


def test_latents_of_notes_alone_pass_the_papers_test():
    notes = torch.randn((1, 8, 5), generator=torch.Generator().manual_seed(0))
    found = note_test(notes.expand(4, 8, 5))
    assert found.same_note == pytest.approx(0, abs=1e-6)
    assert found.auc == 1
    swapped = note_test(notes.expand(4, 8, 5).transpose(0, 1))
    assert swapped.auc == 0


def test_latents_that_are_all_alike_tell_nothing():
    assert note_test(torch.ones(3, 4, 5)) is None
    assert note_test(torch.randn(1, 4, 5)) is None


@pytest.mark.parametrize("name", tones.INSTRUMENTS)
def test_a_tone_has_its_pitch(name):
    rate = 16000
    sound = tones.play(name, 69, 1.0, rate)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    peaks = np.flatnonzero(spectrum > 0.05 * spectrum.max()) * rate / len(sound)
    nearest = np.round(peaks / 440) * 440
    assert np.abs(peaks - nearest).max() < 45  # vibrato and decay widen the partials
    assert np.abs(sound).max() <= tones.PEAK + 1e-6
