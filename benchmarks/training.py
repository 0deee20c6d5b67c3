"""The training step against a textbook one and against the machine, in the same run.

    python -m benchmarks.training [--preset small] [--batch-size 4] [--steps 5] [--compiled]

The textbook step does the same mathematics as it is written down: the encoder runs once for
the classifier's phase and again for the other; a WaveNet's latents are repeated to the sample
rate before each layer's 1x1 convolution; Adam goes through the parameters one after the other;
and batches are made between updates. With `--compiled`, `umt`'s own update of networks that
went through `torch.compile` takes part too. The losses of all are shown first. Their steps take
turns, so that whatever else the machine does slows all. Then `umt` trains alone, with its own
workers, to see how long it waits for data; and what an update asks for is put beside what this
machine does at best: a large matrix product, and a copy in memory. The data is noise.

On a GPU (`--device cuda`) `umt` works on matrix products that are compiled, see
`core.families.wavenet.channels_last`; `eager` are the same products uncompiled, `convolutions` the
networks as they are elsewhere, which `--compiled` compiles. ACCELERATE_MIXED_PRECISION=bf16 is
for all of them, and for the large product.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.data import DataLoader

from benchmarks.roofline import copy_rate, demands, product_rate
from core.confusion import classifier_loss, confusion_loss
from core.data.dataset import Batch, Batches, Segments
from core.data.domain import Domain, Part, Track
from core.data.loader import load_batches
from core.families.wavenet.layers import GatedLayer
from core.presets import get_preset
from core.training.logging import Meter
from core.training.step import Updater
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable

    Update = Callable[[Batch, int], dict[str, float]]

WHAT_LAYERS = "core.families.wavenet.channels_last"


def write_noise(directory: Path, name: str, sample_rate: int) -> Domain:
    """Store half a minute of noise as a prepared domain."""
    samples = np.random.default_rng(0).integers(-3000, 3000, 30 * sample_rate).astype(np.int16)
    np.save(directory / f"{name}.npy", samples)
    part = (Part("train", 0, len(samples)),)
    track = Track(f"{name}.npy", name, name, len(samples), 0, len(samples), -20.0, part)
    return Domain(name, sample_rate, (track,), directory)


class TextbookLayer(GatedLayer):
    """A gated layer whose condition is computed for every sample."""

    def forward(self, x: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Advance one layer; see `GatedLayer.forward`."""
        repeated = latents.repeat_interleave(x.shape[2] // latents.shape[2], dim=2)
        both = self.dilated(F.pad(x, (self.dilation, 0))) + self.condition(repeated)
        gate, filtered = both.chunk(2, dim=1)
        y = gate.sigmoid() * filtered.tanh()
        return x + self.residual(y), self.skip(y)


class Textbook:
    """The same update as `Updater`'s, phase by phase, without noise in common."""

    def __init__(self, model: Translator) -> None:
        self.model = model
        for module in model.modules():
            if isinstance(module, GatedLayer):
                module.__class__ = TextbookLayer
        training = model.config.training
        rate, betas = training.learning_rate, training.betas
        both = [*model.encoder.parameters(), *model.decoders.parameters()]
        options: dict[str, Any] = {"lr": rate, "betas": betas, "foreach": False}
        self.optimizer = torch.optim.AdamW(both, **options)
        self.classifier_optimizer = torch.optim.AdamW(model.classifier.parameters(), **options)

    def update(self, batch: Batch) -> dict[str, float]:
        """Do one update; return the losses."""
        model, device = self.model, self.model.device
        model.train()
        batch = batch.to(device)
        source = batch.source.flatten(0, 1)
        ids = torch.tensor([model.domains.index(name) for name in batch.domains], device=device)
        ids = ids.repeat_interleave(batch.source.shape[1])
        with torch.no_grad():
            latents = model.encoder(source)
        self.classifier_optimizer.zero_grad()
        classifier_loss(model.classifier(latents), ids).backward()
        self.classifier_optimizer.step()
        latents = model.encoder(source)
        groups = zip(batch.domains, latents.chunk(len(batch.target)), batch.target, strict=True)
        losses = {
            name: model.decoders[name].reconstruction_loss(own, wanted)
            for name, own, wanted in groups
        }
        total = torch.stack(list(losses.values())).mean()
        total = total + confusion_loss(model.classifier(latents), ids, model.config.confusion)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return {f"loss/{name}": float(loss.detach()) for name, loss in losses.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--profile", action="store_true", help="also show where the time goes")
    options = parser.parse_args()
    config = get_preset(options.preset)
    config = config.updated(
        "training", batch_size=options.batch_size, clip_norm=0.0, clip_value=0.0
    )
    rate = config.model.sample_rate
    length = config.segment_length
    with tempfile.TemporaryDirectory() as folder:
        domains = [write_noise(Path(folder), name, rate) for name in ("one", "two")]
        segments = [Segments(d, "train", sample_rate=rate, length=length) for d in domains]
        batches = Batches(segments, config, rank=0, n_processes=1)
        accelerator = Accelerator(cpu=options.device == "cpu")
        model = Translator.create(config, ["one", "two"]).to(accelerator.device)
        textbook = Textbook(copy.deepcopy(model))
        # Its batches are made while it waits for them.
        others: dict[str, Update] = {
            "textbook": convolving(lambda _, step: textbook.update(batches[step]), accelerator)
        }
        if options.device == "cuda":
            own = Updater(copy.deepcopy(model), accelerator).update
            others["eager"] = patched(own, "_compiled", lambda function: function)
            own = Updater(copy.deepcopy(model), accelerator).update
            others["convolutions"] = patched(own, "is_wanted", lambda _: False)
        if options.compiled:
            own = Updater(compiled(copy.deepcopy(model)), accelerator).update
            others["compiled"] = patched(own, "is_wanted", lambda _: False)
        updater = Updater(model, accelerator)
        seconds = compare(updater.update, others, batches, options.steps)
        wait(updater, batches, options.steps)
        limits(updater, batches[0], seconds)
        if options.profile:
            profile(updater, batches)


def patched(update: Update, name: str, value: Callable[..., Any]) -> Update:
    """Return an update during which a function of `channels_last` is another one."""

    def work(batch: Batch, step: int) -> dict[str, float]:
        with patch(f"{WHAT_LAYERS}.{name}", value):
            return update(batch, step)

    return work


def convolving(update: Update, accelerator: Accelerator) -> Update:
    """Return an update with convolutions, in the precision that others have."""

    def work(batch: Batch, step: int) -> dict[str, float]:
        with accelerator.autocast():
            return update(batch, step)

    return patched(work, "is_wanted", lambda _: False)


def compiled(model: Translator) -> Translator:
    """Have the networks compiled when they are first used; decoders share what that gives."""
    for network in (model.encoder, *(model.decoders[name] for name in model.domains)):
        network.compile()
    return model


def compare(ours: Update, others: dict[str, Update], batches: Batches, n_steps: int) -> float:
    """Time all, step about, and print what was found; return our seconds an update."""
    updates = {"umt": ours, **others}
    # Before the time that counts, each decoder has had its turn.
    loader = iter(DataLoader(batches, sampler=range(n_steps + 2), batch_size=None, num_workers=1))
    for step in range(2):
        batch = next(loader)
        for name, update in updates.items():
            began = time.perf_counter()
            figures = update(batch, step)
            losses = ", ".join(f"{key} {figures[key]:.4f}" for key in figures if "loss/" in key)
            print(f"{name}, update {step + 1}: {time.perf_counter() - began:.1f} s, {losses}")
    spent = dict.fromkeys(updates, 0.0)
    for step in range(2, n_steps + 2):
        batch = next(loader)
        for name, update in updates.items():
            began = time.perf_counter()
            update(batch, step)
            spent[name] += time.perf_counter() - began
    n_items = n_steps * batch.items.numel()
    for name, seconds in spent.items():
        print(f"{name}: {n_items / seconds:.2f} items/s, {seconds / spent['umt']:.2f} times umt's")
    return spent["umt"] / n_steps


def wait(updater: Updater, batches: Batches, n_steps: int) -> None:
    """Train alone, and print the share of the time spent waiting for data."""
    on_gpu = updater.accelerator.device.type == "cuda"
    meter = Meter()
    with load_batches(batches, range(n_steps + 1), on_gpu=on_gpu) as made:
        for step, batch in enumerate(meter.timed(made)):
            if step == 0:
                meter.start(0)  # the first one is always waited for, once a run
            updater.update(batch, step)
    speed = meter.take(n_steps + 1, steps=n_steps + 1, batch_size=batches[0].items.numel())
    print(f"waiting for data: {speed['waiting_share']:.1%}")


def profile(updater: Updater, batches: Batches) -> None:
    """Print the operations that take most of two updates."""
    with torch.profiler.profile() as profiled:
        for step in range(2):
            updater.update(batches[step], step)
    by = "self_cpu_time_total"
    if updater.accelerator.device.type == "cuda":
        by = "self_device_time_total"
    averages = profiled.key_averages()
    print(averages.table(sort_by=by, row_limit=18, max_name_column_width=50))


def limits(updater: Updater, batch: Batch, seconds: float) -> None:
    """Print what an update asks for beside what the machine does at best."""
    # Compiled products would not be counted.
    counted = patched(updater.update, "_compiled", lambda function: function)
    flops, n_bytes = demands(lambda: counted(batch, 0))
    device = updater.accelerator.device
    is_half = updater.accelerator.mixed_precision == "bf16"
    dtype = torch.bfloat16 if is_half else torch.float32
    products, copies = product_rate(device, dtype), copy_rate(device)
    print(f"{flops / seconds / 1e9:.1f} GFLOP/s, {flops / seconds / products:.1%} of a product's")
    print(
        f"an update of {seconds:.2f} s: its products alone at {products / 1e9:.0f} GFLOP/s "
        f"{flops / products:.2f} s, its {n_bytes / 1e9:.1f} GB alone at {copies / 1e9:.1f} GB/s "
        f"{n_bytes / copies:.2f} s"
    )


if __name__ == "__main__":
    main()
