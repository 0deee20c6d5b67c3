from __future__ import annotations

import pytest
import torch

from core.metrics.latents import note_test, probe_accuracy


def latents(shift: float, seed: int, *, is_faster: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((40, 20, 6), generator=generator)
    return noise + shift if not is_faster else noise.cumsum(1) / 3 + shift


def test_a_probe_finds_domains_that_differ():
    found = probe_accuracy([latents(0, 0), latents(2, 1)], [latents(0, 2), latents(2, 3)])
    assert found == 1


def test_a_probe_detects_how_latents_move():
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


def test_latents_that_are_all_alike_have_no_figure():
    assert note_test(torch.ones(3, 4, 5)) is None
    assert note_test(torch.randn(1, 4, 5)) is None
