"""The domain confusion network: size, losses, and the sign of the encoder's term."""

from __future__ import annotations

import ast
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.config import ConfusionConfig
from core.confusion import DomainClassifier, classifier_loss, confusion_loss
from core.errors import UsageError
from core.families import get_family
from core.presets import get_preset

CORE = Path(__file__).parents[2] / "core"


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_classifier_for_six_domains_has_27306_parameters():
    paper = get_preset("paper")
    assert n_parameters(DomainClassifier(paper.model.latent_dim, 6, paper.confusion)) == 27_306


def test_classifier_averages_logits_over_time_and_sees_frames_alone(generator):
    classifier = DomainClassifier(8, 3, ConfusionConfig())
    latents = torch.randn(2, 5, 8)
    frames = torch.stack([classifier(latents[:, i : i + 1]) for i in range(5)])
    torch.testing.assert_close(classifier(latents), frames.mean(0))
    torch.testing.assert_close(classifier(latents.flip(1)), classifier(latents))


@pytest.mark.parametrize("kernel_size", [3, 15])
def test_a_longer_kernel_sees_the_order_of_frames_and_keeps_their_number(generator, kernel_size):
    classifier = DomainClassifier(8, 3, ConfusionConfig(kernel_size=kernel_size))
    latents = torch.randn(2, 40, 8)
    assert classifier(latents).shape == (2, 3)
    assert not torch.allclose(classifier(latents.flip(1)), classifier(latents), atol=1e-4)


def test_an_even_kernel_is_refused_by_name():
    with pytest.raises(UsageError, match=r"\[confusion\] kernel_size = 4: expected an odd number"):
        ConfusionConfig(kernel_size=4)


def test_classifier_is_not_linear_in_latents(generator):
    classifier = DomainClassifier(8, 3, ConfusionConfig())
    a, b = torch.randn(2, 1, 1, 8)
    middle = (classifier(a) + classifier(b)) / 2
    assert not torch.allclose(classifier((a + b) / 2), middle, atol=1e-5)


def test_classifier_loss_is_cross_entropy_in_nats():
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    expected = (-math.log(3 / 4) + math.log(2)) / 2
    assert classifier_loss(logits, torch.tensor([0, 1])).item() == pytest.approx(expected)


@pytest.fixture
def encoder_gradients(generator, any_family):
    """Give the encoder's gradient, all parameters as one vector, from any loss on logits."""
    encoder = get_family(any_family.model.family).encoder(any_family.model).eval()
    classifier = DomainClassifier(any_family.model.latent_dim, 4, any_family.confusion)
    waveform = torch.rand(6, 4 * any_family.model.hop_length) - 0.5
    ids = torch.tensor([0, 1, 2, 3, 0, 1])

    def gradients(loss):
        encoder.zero_grad()
        loss(classifier(encoder(waveform)), ids).backward()
        return torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])

    return gradients


def test_negated_term_reaches_the_encoder_with_the_opposite_sign(encoder_gradients):
    config = ConfusionConfig(weight=0.25, objective="negated")
    defeats = encoder_gradients(lambda logits, ids: confusion_loss(logits, ids, config))
    helps = encoder_gradients(classifier_loss)
    assert helps.norm() > 1e-6
    torch.testing.assert_close(defeats, -0.25 * helps)


@pytest.mark.parametrize("objective", ["negated", "uniform"])
def test_a_step_down_the_term_confuses_a_good_classifier(objective):
    latents = torch.eye(3).unsqueeze(1).requires_grad_()  # a classifier reads them off
    ids = torch.arange(3)
    logits = 4 * latents.mean(1)
    confusion_loss(logits, ids, ConfusionConfig(objective=objective)).backward()
    moved = latents - 10 * latents.grad
    assert classifier_loss(4 * moved.mean(1), ids) > classifier_loss(logits, ids)


@pytest.mark.parametrize("objective", ["negated", "uniform"])
def test_term_is_proportional_to_its_weight(generator, objective):
    logits, ids = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    once = ConfusionConfig(weight=0.5, objective=objective)
    twice = replace(once, weight=1.0)
    torch.testing.assert_close(
        confusion_loss(logits, ids, twice), 2 * confusion_loss(logits, ids, once)
    )
    assert confusion_loss(logits, ids, replace(once, weight=0.0)) == 0


def test_uniform_term_is_least_where_the_classifier_is_undecided(generator):
    config = ConfusionConfig(weight=1.0, objective="uniform")
    ids = torch.tensor([0])
    undecided = torch.zeros(1, 6, requires_grad=True)
    least = confusion_loss(undecided, ids, config)
    least.backward()
    assert least.item() == pytest.approx(math.log(6))
    torch.testing.assert_close(undecided.grad, torch.zeros(1, 6))
    for scale in (0.1, 1.0, 10.0):
        assert confusion_loss(scale * torch.randn(1, 6), ids, config) > least


def test_uniform_term_cannot_be_won_by_a_confident_wrong_answer():
    ids, wrong = torch.tensor([0]), torch.tensor([[0.0, 20.0, 0.0]])
    undecided = torch.zeros(1, 3)
    uniform, negated = (ConfusionConfig(objective=name) for name in ("uniform", "negated"))
    assert confusion_loss(wrong, ids, uniform) > confusion_loss(undecided, ids, uniform)
    assert confusion_loss(wrong, ids, negated) < confusion_loss(undecided, ids, negated)


def test_no_other_module_reads_the_terms_weight_or_objective():
    """The sign is known in one place: whoever reads these two computes a term of their own."""
    readers = set()
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and (
                node.attr == "objective"
                or (node.attr == "weight" and ast.unparse(node.value).endswith("confusion"))
            ):
                readers.add(path.relative_to(CORE).as_posix())
    assert readers == {"confusion.py"}
