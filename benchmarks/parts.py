"""What an update of a spectral preset consists of, part by part.

    python -m benchmarks.parts [--preset fast]

Each part is run by itself, forwards and backwards where training goes backwards, on one thread.
Its processor time (the median of some tries) is printed beside that of the whole update. The
data is noise, which takes as long as music.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator

from benchmarks.training import write_noise
from core.confusion import classifier_loss, confusion_loss
from core.data.dataset import Batch, Batches, Segments
from core.families.spectral.decoder import MODULATION_SHARE, SpectralDecoder
from core.families.spectral.encoder import SpectralEncoder
from core.families.spectral.losses import multi_resolution_loss
from core.presets import get_preset
from core.training.step import Updater
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 7


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="fast")
    config = get_preset(parser.parse_args().preset)
    rate = config.model.sample_rate
    names = ("one", "two", "three")
    with tempfile.TemporaryDirectory() as folder:
        domains = [write_noise(Path(folder), name, rate) for name in names]
        segments = [
            Segments(domain, "train", sample_rate=rate, length=config.segment_length)
            for domain in domains
        ]
        batch = Batches(segments, config, rank=0, n_processes=1)[0]
    model = Translator.create(config, names)
    updater = Updater(model, Accelerator(cpu=True))
    torch.set_num_threads(1)
    whole = milliseconds(lambda: updater.update(batch, 0))
    seconds = batch.source.numel() / rate
    for name, part in parts(model, batch).items():
        print(f"{name:45} {part:7.0f} ms {part / whole:6.0%}")
    print(f"{f'the whole update, {seconds:.0f} s of audio':45} {whole:7.0f} ms")


def parts(model: Translator, batch: Batch) -> dict[str, float]:
    """Return the milliseconds that each part of an update takes."""
    model.train()
    encoder, decoder = model.encoder, model.decoders[batch.domains[0]]
    assert isinstance(encoder, SpectralEncoder)
    assert isinstance(decoder, SpectralDecoder)
    source, target = batch.source.flatten(0, 1), batch.target[0]
    groups = len(batch.domains)  # decoders of equal cost, of which one is measured
    spectrograms = milliseconds(
        lambda: (
            encoder.grid(source),
            encoder.sharp_grid(source),
            encoder.features(*encoder.spectra(source)),
        )
    )
    latents = encoder(source).detach().requires_grad_()
    values = decoder.predict(latents[: len(target)]).detach().requires_grad_()
    output = decoder.render_steady(values).detach().requires_grad_()
    sample_rate, weight = decoder.config.sample_rate, decoder.config.attack_weight

    def confusion_losses() -> torch.Tensor:
        ids = torch.arange(groups).repeat_interleave(len(target))
        loss = classifier_loss(model.classifier(latents.detach()), ids)
        return loss + confusion_loss(model.classifier(latents), ids, model.config.confusion)

    return {
        "spectrograms of the encoder's input": spectrograms,
        "encoder's networks": milliseconds(lambda: encoder(source).sum().backward()) - spectrograms,
        "confusion network, both phases": milliseconds(lambda: confusion_losses().backward()),
        "decoders' networks": groups
        * milliseconds(lambda: decoder.predict(latents[: len(target)]).sum().backward()),
        "from their values to a waveform": groups
        * milliseconds(lambda: decoder.render_steady(values).sum().backward()),
        "distance from the recording": groups
        * milliseconds(
            lambda: multi_resolution_loss(
                output, target, sample_rate, attack_weight=weight
            ).backward()
        ),
        "pitches of the recording": groups * milliseconds(lambda: decoder.key_pitch(target)),
        "vibrato and shimmer, measured": MODULATION_SHARE
        * groups
        * milliseconds(lambda: decoder.modulation_loss(values, target)),
    }


def milliseconds(work: Callable[[], object]) -> float:
    """Return the processor time that something takes, the median of some tries."""
    work()
    spent = []
    for _ in range(TRIES):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return 1000 * median(spent)


if __name__ == "__main__":
    main()
