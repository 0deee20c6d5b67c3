"""Held-out figures and examples of a model.

In: a translator and segments that it was not trained on. Out: the family's figure, how often
the confusion network names the domain, and examples to listen to. `core.evaluation.model` uses
the same metrics.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.data.dataset import Segments, fixed_batch
from core.errors import DataError
from core.training.optimizers import diverged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from core.data.domain import Domain
    from core.translator import Translator

EXAMPLE_SECONDS = 3.0
GENERATION_SECONDS = 5.0  # of computing an example; a WaveNet's may end before the music does
# More of them fill memory that the system clears at each use: with eight items of three seconds
# that took up to a quarter of the time.
BATCH_ITEMS = 2


@dataclass(frozen=True)
class ValidationMetrics:
    """Metrics of a model on segments of one domain.

    Attributes:
        latents: float [N, L, D].
        figure: The family's held-out figure, mean over segments; lower is better.
        figure_of_others: The same with the latents of another segment, for autoregressive
            decoders: the difference is what they take from the latents. None for others.
        confusion_accuracy: Share of segments whose domain the confusion network names; None for
            a domain that was added to a trained model, which that network does not know.
    """

    latents: Tensor
    figure: float
    figure_of_others: float | None
    confusion_accuracy: float | None


@torch.no_grad()
def validation_metrics(
    model: Translator,
    name: str,
    waveform: Tensor,
    check_stop: Callable[[], None] = lambda: None,
) -> ValidationMetrics:
    """Encode and decode segments of a domain, a few at a time.

    Args:
        model: With the domain's decoder, ready for inference.
        name: The domain.
        waveform: float32 [N, T], T a multiple of the hop length.
        check_stop: Called before each few segments; may raise.
    """
    decoder = model.decoders[name]
    is_autoregressive = decoder.n_codes > 0 and len(waveform) > 1
    latents: list[Tensor] = []
    figure, of_others, right = 0.0, 0.0, 0
    for part in torch.split(waveform, BATCH_ITEMS):
        check_stop()
        on_device = part.to(model.device)
        encoded = model.encoder(on_device)
        figure += len(part) * float(decoder.heldout_figure(encoded, on_device))
        if is_autoregressive:
            # A last segment that is alone gets those of the one before it.
            other = encoded.roll(1, 0) if len(part) > 1 else latents[-1][:1]
            of_others += len(part) * float(decoder.heldout_figure(other, on_device))
        found = model.classifier(encoded).argmax(1)
        right += int((found == model.domains.index(name)).sum())
        latents.append(encoded)
    accuracy = right / len(waveform) if name in model.classified else None
    n_items = len(waveform)
    others = of_others / n_items if is_autoregressive else None
    return ValidationMetrics(torch.cat(latents), figure / n_items, others, accuracy)


class Validator:
    """Measures a model on the same validation segments of each domain at every call.

    Attributes:
        without_validation: Names of domains that have no validation audio.
        baselines: Of each other domain, held-out figures that need no training, by name.
    """

    def __init__(
        self, model: Translator, domains: Sequence[Domain], level_db: float | None
    ) -> None:
        training = model.config.training
        self.model = model
        self.names = [domain.name for domain in domains]
        self.batches: dict[str, Tensor] = {}
        self.examples_of: dict[str, Tensor] = {}
        self.without_validation: list[str] = []
        example_length = max(1, round(EXAMPLE_SECONDS * model.latent_rate)) * model.hop_length
        for domain in domains:
            try:
                segments, longer = (
                    Segments(
                        domain,
                        "validation",
                        sample_rate=model.sample_rate,
                        length=length,
                        level_db=level_db,
                    )
                    for length in (model.config.segment_length, example_length)
                )
            except DataError:
                self.without_validation.append(domain.name)
                continue
            items = training.validation_items
            self.batches[domain.name] = fixed_batch(segments, items, training.seed)
            self.examples_of[domain.name] = fixed_batch(longer, 1, training.seed)
        self.baselines = {
            name: model.decoders[name].baselines(waveform)
            for name, waveform in self.batches.items()
        }

    def figures(self, check_stop: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Measure the model.

        Args:
            check_stop: Called before each few segments; may raise.

        Returns:
            For each domain `validation/NAME`, the family's figure, and for autoregressive
            decoders `other latents/NAME`; the classifier's accuracy beside chance.

        Raises:
            TrainingError: A figure is not finite.
        """
        self.model.eval()
        found = {
            name: validation_metrics(self.model, name, waveform, check_stop)
            for name, waveform in self.batches.items()
        }
        figures = {f"validation/{name}": own.figure for name, own in found.items()}
        for name, own in found.items():
            if own.figure_of_others is not None:
                figures[f"other latents/{name}"] = own.figure_of_others
        # All batches are equally large: the mean over domains is that over segments.
        accuracies = [own.confusion_accuracy for own in found.values()]
        known = [accuracy for accuracy in accuracies if accuracy is not None]
        if known and len(self.model.classified) > 1:
            figures["confusion/validation accuracy"] = sum(known) / len(known)
            figures["confusion/validation chance"] = 1 / len(self.model.classified)
        for name, value in figures.items():
            if not math.isfinite(value):
                raise diverged(f"{name} is {value}")
        return figures

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """Return a line for each baseline that some domains' figures do not improve on."""
        lines: dict[str, list[str]] = {}
        for domain, baselines in self.baselines.items():
            name = min(baselines, key=lambda name: baselines[name])
            if figures[f"validation/{domain}"] >= baselines[name]:
                lines.setdefault(name, []).append(domain)
        return [
            f"{', '.join(domains)}: held-out figure not below that of {name} yet; as it is, "
            "expect noise"
            for name, domains in lines.items()
        ]

    @torch.inference_mode()
    def examples(self, step: int) -> Iterator[tuple[str, Tensor]]:
        """Yield a held-out recording, its reconstruction and a translation of it.

        Domains take turns from one validation to the next.

        Yields:
            A name, and a waveform float32 [1, T].
        """
        names = list(self.examples_of)
        if not names:
            return
        turn = step // self.model.config.training.validate_steps
        source = names[turn % len(names)]
        others = [name for name in self.names if name != source]
        targets = [source, *([others[turn % len(others)]] if others else [])]
        original = self.examples_of[source][0]
        yield f"original/{source}", original.unsqueeze(0)
        latents = list(self.model.encode_blocks([original.numpy()]))
        for target in targets:
            blocks = _in_time(self.model.decode_blocks(latents, to=target))
            waveform = torch.cat([torch.from_numpy(block) for block in blocks])
            yield f"{source} to {target}", waveform.clamp(-1, 1).unsqueeze(0)


def _in_time(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield blocks until the time for an example is over, at least one."""
    began = time.monotonic()
    for block in blocks:
        yield block
        if time.monotonic() - began > GENERATION_SECONDS:
            return
