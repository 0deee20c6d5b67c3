"""Held-out figures and examples of a model in training."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.data.dataset import Segments, fixed_batch
from core.errors import DataError
from core.heldout import hear

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from core.data.domain import Domain
    from core.translator import Translator

EXAMPLE_SECONDS = 3.0
GENERATION_SECONDS = 5.0  # of computing an example; a WaveNet's may end before the music does


class Validator:
    """The same validation segments of each domain at every call.

    Attributes:
        without_validation: Names of domains that have no validation audio.
        baselines: Of each other domain, figures that need no learning by name.
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

    def figures(self) -> dict[str, float]:
        """Return the family's figure per domain, also with others' latents, and the accuracy."""
        self.model.eval()
        heard = {name: hear(self.model, name, own) for name, own in self.batches.items()}
        figures = {f"validation/{name}": own.figure for name, own in heard.items()}
        for name, own in heard.items():
            if own.figure_of_others is not None:
                figures[f"other latents/{name}"] = own.figure_of_others
        # All batches are equally large: the mean over domains is that over segments.
        accuracies = [own.confusion_accuracy for own in heard.values()]
        known = [accuracy for accuracy in accuracies if accuracy is not None]
        if known and len(self.model.classified) > 1:
            figures["confusion/validation accuracy"] = sum(known) / len(known)
            figures["confusion/validation chance"] = 1 / len(self.model.classified)
        return figures

    def advice(self, figures: Mapping[str, float]) -> list[str]:
        """Return warnings of figures that are no better than what needs no learning."""
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
