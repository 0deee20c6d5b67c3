"""One update: what each phase moves, what it leaves alone, and how it is dropped."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from core.data.dataset import Batches
from core.errors import DataError, TrainingError
from core.training.optimizers import learning_rate
from core.training.step import Updater

from .conftest import make_trainer, spectral_config, store_music, tiny_config


@pytest.fixture
def trio(tmp_path):
    return store_music(tmp_path / "data", bass=4.0, flute=4.0, reed=4.0)


def config_with(weight=0.5, objective="negated", **training):
    changed = tiny_config(**training).updated("confusion", weight=weight, objective=objective)
    return changed.updated("training", clip_value=0.0)


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def is_unchanged(module, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def gradients(module):
    # A decoder's last residual convolution is the paper's and feeds nothing.
    found = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert len(found) >= len(list(module.parameters())) - 2
    return torch.cat([gradient.flatten() for gradient in found])


@pytest.mark.parametrize("domains_per_step", [1, 2])
@pytest.mark.parametrize("objective", ["negated", "uniform"])
def test_update_is_the_two_phases_of_the_paper(trio, tmp_path, objective, domains_per_step):
    """Compare with a textbook step: the classifier first, then the rest against it."""
    config = config_with(objective=objective, domains_per_step=domains_per_step)
    trained = make_trainer(config, trio, tmp_path)
    batch = trained.batches[1]
    model = copy.deepcopy(trained.model)
    trained.updater.update(batch, 1)

    names = batch.domains
    ids = [model.domains.index(name) for name in names]
    ids = torch.tensor(ids).repeat_interleave(4 // domains_per_step)
    latents = model.encoder(batch.source.flatten(0, 1))
    optimizer = torch.optim.AdamW(model.classifier.parameters(), lr=3e-3, weight_decay=0)
    F.cross_entropy(model.classifier(latents.detach()), ids).backward()
    optimizer.step()
    for name, tensor in model.classifier.state_dict().items():
        torch.testing.assert_close(trained.model.classifier.state_dict()[name], tensor)

    logits = model.classifier(latents)
    log_probabilities = logits.log_softmax(1)
    of_domain = log_probabilities[torch.arange(4), ids].mean()
    term = of_domain if objective == "negated" else -log_probabilities.mean()
    losses = [
        model.decoders[name].reconstruction_loss(own, target)
        for name, own, target in zip(
            names, latents.chunk(domains_per_step), batch.target, strict=True
        )
    ]
    (sum(losses) / domains_per_step + 0.5 * term).backward()
    parts = [(trained.model.encoder, model.encoder)]
    parts += [(trained.model.decoders[name], model.decoders[name]) for name in names]
    for moved, textbook in parts:
        torch.testing.assert_close(gradients(moved), gradients(textbook), rtol=1e-4, atol=1e-7)


def test_gradient_that_is_not_finite_moves_nothing(trio, tmp_path):
    trained = make_trainer(config_with(), trio, tmp_path)
    trained.updater.update(trained.batches[0], 0)
    before = weights(trained.model.encoder), weights(trained.model.decoders)
    last = list(trained.model.encoder.parameters())[-1]
    last.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="gradients are not finite"):
        trained.updater.update(trained.batches[1], 1)
    assert is_unchanged(trained.model.encoder, before[0])
    assert is_unchanged(trained.model.decoders, before[1])


def test_encoder_is_passed_back_through_once(trio, tmp_path):
    """The classifier's phase sends no gradient into the encoder."""
    trained = make_trainer(config_with(), trio, tmp_path)
    passes = []
    trained.model.encoder.register_forward_hook(
        lambda module, inputs, latents: latents.register_hook(passes.append) and None
    )
    trained.updater.update(trained.batches[0], 0)
    assert len(passes) == 1


@pytest.mark.parametrize("accumulate", [1, 2])
def test_classifier_learns_from_latents_without_gradient(trio, tmp_path, accumulate):
    trained = make_trainer(config_with(accumulate=accumulate), trio, tmp_path)
    heard = []
    trained.model.classifier.register_forward_pre_hook(
        lambda module, inputs: heard.append(inputs[0].requires_grad)
    )
    trained.updater.update(trained.batches[0], 0)
    assert heard == [False, *[True] * accumulate]  # its own phase, then the encoder's


def test_classifier_is_not_moved_by_the_encoders_phase(trio, tmp_path):
    trained = make_trainer(config_with(weight=100.0), trio, tmp_path)
    step = trained.updater.classifier_optimizer.step
    after_its_own_step = {}

    def remember():
        step()
        after_its_own_step.update(weights(trained.model.classifier))

    trained.updater.classifier_optimizer.step = remember
    trained.updater.update(trained.batches[0], 0)
    assert is_unchanged(trained.model.classifier, after_its_own_step)
    assert all(parameter.requires_grad for parameter in trained.model.classifier.parameters())


def _teach(classifier, latents, ids):
    """Let a classifier learn something that the encoder can then take from it."""
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(classifier(latents), ids).backward()
        optimizer.step()


@pytest.mark.parametrize("objective", ["negated", "uniform"])
def test_encoder_moves_so_that_the_classifier_does_worse(trio, tmp_path, objective):
    """With a weight that drowns the reconstruction: the sign that reaches the encoder."""
    config = config_with(weight=1000.0, objective=objective, domains_per_step=3, batch_size=12)
    trained = make_trainer(config.updated("training", learning_rate=3e-4), trio, tmp_path)
    batch = trained.batches[0]
    ids = torch.arange(3).repeat_interleave(4)
    source = batch.source.flatten(0, 1)
    encoder = copy.deepcopy(trained.model.encoder)
    _teach(trained.model.classifier, encoder(source).detach(), ids)
    trained.updater.update(batch, 0)

    def quality(logits):
        if objective == "negated":
            return -F.cross_entropy(logits, ids)
        return F.log_softmax(logits, 1).mean().neg()  # far from undecided

    classifier = trained.model.classifier
    assert quality(classifier(trained.model.encoder(source))) < quality(classifier(encoder(source)))


def test_only_the_decoders_of_the_batch_change(trio, tmp_path):
    """Also once Adam remembers earlier turns of the others, and with weight decay."""
    config = config_with(weight_decay=0.1)
    trained = make_trainer(config, trio, tmp_path)
    decoders = trained.model.decoders
    for step in range(8):
        before = {name: weights(decoders[name]) for name in decoders}
        state_before = copy.deepcopy(trained.updater.optimizer.state_dict()["state"])
        batch = trained.batches[step]
        trained.updater.update(batch, step)
        (name,) = batch.domains
        changed = [name for name in decoders if not is_unchanged(decoders[name], before[name])]
        assert changed == [name]
        if step > 2:
            state = trained.updater.optimizer.state_dict()["state"]
            moved = [k for k in state if state[k]["step"] != state_before[k]["step"]]
            n_encoder = len(list(trained.model.encoder.parameters()))
            n_decoder = len(list(decoders["bass"].parameters())) - 2  # see `gradients`
            assert len(moved) == n_encoder + n_decoder


@pytest.mark.parametrize("domains_per_step", [1, 2])
def test_processes_share_the_gradients_of_what_the_update_moves_and_no_others(
    trio, tmp_path, domains_per_step
):
    """The classifier's in its phase; then the encoder's and those of the batch's decoders."""
    trained = make_trainer(config_with(domains_per_step=domains_per_step), trio, tmp_path)
    model, shared = trained.model, []

    def reduce(flat, how):
        assert how == "mean"
        shared.append(flat.clone())
        return flat

    of_two = SimpleNamespace(
        device=torch.device("cpu"), num_processes=2, reduce=reduce, autocast=nullcontext
    )
    updater = Updater(model, of_two)
    for step in range(4):  # each decoder has had a turn before
        shared.clear()
        batch = trained.batches[step]
        updater.update(batch, step)
        decoders = (gradients(model.decoders[name]) for name in sorted(batch.domains))
        expected = (gradients(model.classifier), (gradients(model.encoder), *decoders))
        torch.testing.assert_close(shared[0], expected[0], rtol=0, atol=0)
        torch.testing.assert_close(shared[1], torch.cat(expected[1]), rtol=0, atol=0)
        assert len(shared) == 2


def test_two_domains_in_a_step_change_their_two_decoders(trio, tmp_path):
    trained = make_trainer(config_with(domains_per_step=2), trio, tmp_path)
    decoders = trained.model.decoders
    before = {name: weights(decoders[name]) for name in decoders}
    losses = trained.updater.update(trained.batches[1], 1)  # reed and bass
    changed = [name for name in decoders if not is_unchanged(decoders[name], before[name])]
    assert changed == ["bass", "reed"]
    assert {"loss/bass", "loss/reed", "confusion/loss"} <= losses.keys()
    assert "loss/flute" not in losses


def test_items_go_to_the_decoder_of_their_domain_in_whatever_order_domains_come(tmp_path, trio):
    """`train` is given domains by programs too, which need not sort them."""
    trained = make_trainer(config_with(), trio[::-1], tmp_path)
    names = [segments.domain.name for segments in trained.batches.segments]
    assert names == list(trained.model.domains) == ["bass", "flute", "reed"]


def test_accuracy_is_the_share_of_items_recognised(trio, tmp_path):
    trained = make_trainer(config_with(domains_per_step=3, batch_size=12), trio, tmp_path)
    batch = trained.batches[0]
    with torch.no_grad():
        output = trained.model.classifier.output
        output.weight.zero_()
        output.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))  # always says flute
    losses = trained.updater.update(batch, 0)
    assert losses["confusion/accuracy"] == pytest.approx(1 / 3)
    assert losses["confusion/chance"] == pytest.approx(1 / 3)
    wanted = -(torch.tensor([0.0, 1.0, 0.0]).log_softmax(0)).mean()
    assert losses["confusion/loss"] == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize(
    ("limit", "measure"),
    [({"clip_value": 1e-4}, lambda g: g.abs().max()), ({"clip_norm": 1e-3}, lambda g: g.norm())],
)
def test_gradients_are_limited(trio, tmp_path, limit, measure):
    config = config_with().updated("training", **limit)
    trained = make_trainer(config, trio, tmp_path)
    trained.updater.update(trained.batches[0], 0)
    found = [p.grad.flatten() for p in trained.model.parameters() if p.grad is not None]
    in_encoders_phase = torch.cat(
        [
            p.grad.flatten()
            for p in trained.updater.optimizer.param_groups[0]["params"]
            if p.grad is not None
        ]
    )
    assert len(found) > 3
    (bound,) = limit.values()
    assert measure(in_encoders_phase) == pytest.approx(bound, rel=0.01)


def test_both_optimizers_follow_the_schedule(trio, tmp_path):
    config = config_with(schedule="linear", steps=100)
    trained = make_trainer(config, trio, tmp_path)
    for step in (0, 1, 25):
        trained.updater.update(trained.batches[step], step)
        rate = learning_rate(config.training, step)
        for optimizer in (trained.updater.optimizer, trained.updater.classifier_optimizer):
            assert [group["lr"] for group in optimizer.param_groups] == [rate]


def test_noise_and_losses_do_not_depend_on_how_a_batch_is_shared(tmp_path):
    """Of the family that draws noise: two processes' losses average to those of one."""
    domains = store_music(tmp_path / "data", 44100, bass=2.0, reed=2.0)
    config = spectral_config(batch_size=4)
    trained = make_trainer(config, domains, tmp_path)

    def losses(rank, n_processes):
        batches = Batches(trained.batches.segments, config, rank=rank, n_processes=n_processes)
        updater = Updater(copy.deepcopy(trained.model), trained.accelerator)
        return updater.update(batches[3], 3)

    whole, halves = losses(0, 1), [losses(rank, 2) for rank in range(2)]
    for name in ("loss/bass", "loss/reed"):
        assert halves[0][name] != pytest.approx(halves[1][name], rel=1e-3)
        mean = (halves[0][name] + halves[1][name]) / 2
        assert mean == pytest.approx(whole[name], rel=1e-5)


def test_parts_add_up_to_the_whole_batch(tmp_path):
    """Of both phases, with noise, for two domains a step."""
    domains = store_music(tmp_path / "data", 44100, bass=2.0, reed=2.0)
    config = spectral_config(batch_size=8).updated("training", clip_norm=0.0)
    whole = make_trainer(config, domains, tmp_path)
    models, figures = [], []
    for accumulate in (1, 2, 4):
        changed = config.updated("training", accumulate=accumulate)
        model = copy.deepcopy(whole.model)
        model.config = changed
        figures.append(Updater(model, whole.accelerator).update(whole.batches[1], 1))
        models.append(model)
    for model, found in zip(models[1:], figures[1:], strict=True):
        assert found == pytest.approx(figures[0], rel=1e-4)
        for own, other in zip(model.parameters(), models[0].parameters(), strict=True):
            if own.grad is not None:
                scale = float(other.grad.abs().max())
                torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=1e-4 * scale)


def test_parts_that_do_not_divide_the_items_are_an_error(trio, tmp_path):
    with pytest.raises(DataError, match="accumulate=3 does not divide the 4 items of a domain"):
        make_trainer(config_with(accumulate=3), trio, tmp_path)


@pytest.mark.parametrize("family", ["wavenet", "spectral"])
def test_update_in_bfloat16_is_near_to_that_in_float32(tmp_path, family):
    rate = 44100 if family == "spectral" else 2000
    domains = store_music(tmp_path / "data", rate, bass=3.0, reed=3.0)
    config = spectral_config(batch_size=4) if family == "spectral" else config_with()
    exact = make_trainer(config, domains, tmp_path)
    rough = Updater(copy.deepcopy(exact.model), exact.accelerator)
    with torch.autocast("cpu", torch.bfloat16):
        figures = rough.update(exact.batches[0], 0)
    assert figures == pytest.approx(
        exact.updater.update(exact.batches[0], 0), rel=0.1
    )  # its noise too
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in rough.model.parameters())


class Stop(Exception):
    """Stands in for the loop's own exception."""


@pytest.mark.parametrize("n_checks", range(1, 9))
def test_dropped_update_leaves_weights_and_optimizers_as_they_were(trio, tmp_path, n_checks):
    """Wherever it is dropped, the updates that follow are those of a run that never began it."""
    config = config_with(accumulate=4)
    dropped, undisturbed = (make_trainer(config, trio, tmp_path) for _ in range(2))
    checks = iter(range(1, n_checks))

    def stop_in_time():
        if next(checks, None) is None:
            raise Stop

    for trainer in (dropped, undisturbed):
        trainer.updater.update(trainer.batches[0], 0)
    with pytest.raises(Stop):
        dropped.updater.update(dropped.batches[1], 1, stop_in_time)
    assert is_unchanged(dropped.model, undisturbed.model.state_dict())
    losses = [trainer.updater.update(trainer.batches[1], 1) for trainer in (dropped, undisturbed)]
    assert losses[0] == losses[1]
    assert is_unchanged(dropped.model, undisturbed.model.state_dict())


def test_first_update_can_be_dropped_too(trio, tmp_path):
    trainer = make_trainer(config_with(accumulate=2), trio, tmp_path)
    before = weights(trainer.model)
    checks = iter([None, None, None])  # past the classifier's phase

    def stop_in_time():
        if next(checks, Stop) is Stop:
            raise Stop

    with pytest.raises(Stop):
        trainer.updater.update(trainer.batches[0], 0, stop_in_time)
    assert is_unchanged(trainer.model, before)
    assert trainer.updater.classifier_optimizer.state_dict()["state"] == {}


def test_update_of_one_part_is_never_dropped(trio, tmp_path):
    trainer = make_trainer(config_with(), trio, tmp_path)

    def stop():
        raise Stop

    assert trainer.updater.update(trainer.batches[0], 0, stop)


def with_scores(batch):
    """Return the batch as though nothing sounded in its first item, and nothing were known else."""
    score = torch.full_like(batch.score, float("nan"))
    score[:, 0] = 0
    return replace(batch, score=score)


def scored_config(weight=0.1, **training):
    changes = {"score_weight": weight, "pretrained_salience": False}
    return spectral_config(**training).updated("model", **changes)


@pytest.fixture
def tones(tmp_path):
    """Two domains at the spectral family's own rate."""
    return store_music(tmp_path / "tones", sample_rate=44100, bass=3.0, reed=3.0)


def test_the_encoder_alone_learns_from_scores(tones, tmp_path):
    moved = {}
    for weight in (0.0, 1.0):
        trained = make_trainer(scored_config(weight), tones, tmp_path / str(weight))
        losses = trained.updater.update(with_scores(trained.batches[0]), 0)
        assert ("score/loss" in losses) == bool(weight)
        gradient = [p.grad.clone() for p in trained.model.decoders.parameters()]
        moved[weight] = gradient, trained.model.encoder.salience.output.weight.grad.clone()
    # Clipping scales all gradients of an update alike.
    decoder = [torch.cat([g.flatten() for g in moved[weight][0]]) for weight in moved]
    similarity = F.cosine_similarity(decoder[0], decoder[1], dim=0)
    assert similarity == pytest.approx(1, abs=1e-4)
    assert F.cosine_similarity(moved[0.0][1].flatten(), moved[1.0][1].flatten(), dim=0) < 0.99


def test_scores_that_are_not_known_change_nothing(tones, tmp_path):
    ends = []
    for weight in (0.0, 1.0):
        trained = make_trainer(scored_config(weight), tones, tmp_path / str(weight))
        trained.updater.update(trained.batches[0], 0)  # these domains have no scores
        ends.append(weights(trained.model.encoder))
    assert is_unchanged(trained.model.encoder, ends[0])


def test_an_accumulated_update_has_the_score_loss_of_a_whole_one(tones, tmp_path):
    losses = []
    for accumulate in (1, 2):
        config = scored_config(batch_size=4, accumulate=accumulate)
        trained = make_trainer(config, tones, tmp_path / str(accumulate))
        losses.append(trained.updater.update(with_scores(trained.batches[0]), 0)["score/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # latent noise is drawn anew


def test_a_pretrained_salience_stays_as_it_is_while_the_encoder_learns(tones, tmp_path):
    trained = make_trainer(spectral_config(), tones, tmp_path)
    encoder = trained.model.encoder
    before = weights(encoder)
    trained.updater.update(trained.batches[0], 0)
    moved = {name for name, own in encoder.named_parameters() if not torch.equal(own, before[name])}
    assert moved
    assert not any(name.startswith("salience.") for name in moved)


def test_a_frozen_encoder_learns_no_scores(tones, tmp_path):
    trained = make_trainer(scored_config(1.0), tones, tmp_path)
    trained.model.encoder.requires_grad_(requires_grad=False)
    updater = Updater(trained.model, trained.accelerator)
    assert not updater.has_scores
    assert "score/loss" not in updater.update(with_scores(trained.batches[0]), 0)
