"""Draws and loss of a trained WaveNet, by engine and in half precision.

    python -m benchmarks.precision MODEL SONG.wav ...

The network is fed places of music, and draws one code for each sample of it, with the same
random numbers every time. Compared with its teacher-forced logits are the reference engine,
the CPU engine, and the CPU engine's mathematics with the layers' numbers rounded where an
engine in half precision would round them. What agrees is the code drawn; the loss is the
cross entropy of the music's own codes, and ± its standard error over the places.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.audio.levels import matching_gain_db, measure_level_db
from core.audio.reader import read_audio
from core.families.wavenet.mulaw import MuLaw
from core.families.wavenet.sampling.batch import StreamBatch
from core.families.wavenet.sampling.engine import choose
from core.families.wavenet.sampling.reference import ReferenceEngine
from core.families.wavenet.sampling.weights import prepare_weights
from core.translator import Translator

if TYPE_CHECKING:
    from core.families.wavenet.decoder import WaveNetDecoder
    from core.families.wavenet.sampling.weights import Weights

FRAMES = 2  # of music at a place
PARTS = ("weights", "inputs", "outputs", "products", "gates")
ROUNDED = (
    (torch.float16, ("weights",)),
    (torch.float16, ("inputs",)),
    (torch.float16, ("weights", "inputs", "outputs")),
    (torch.float16, PARTS),
    (torch.bfloat16, ("weights",)),
    (torch.bfloat16, PARTS),
)


def places(model: Translator, songs: list[Path], each: int) -> tuple[Tensor, Tensor]:
    """Return latents, float [N, FRAMES, D], and codes, int64 [N, T], evenly from all songs."""
    latents, codes = [], []
    for song in songs:
        waveform = read_audio(song, model.sample_rate)
        level_db = measure_level_db([waveform], model.sample_rate)
        waveform *= np.float32(10 ** (matching_gain_db(level_db, model.level_db) / 20))
        encoded = torch.from_numpy(np.concatenate(list(model.encode_blocks([waveform]))))
        for frame in np.linspace(0, len(encoded) - FRAMES - 1, each).astype(int):
            latents.append(encoded[frame : frame + FRAMES])
            start = frame * model.hop_length
            heard = torch.from_numpy(waveform[start : start + FRAMES * model.hop_length])
            codes.append(MuLaw("round").encode(heard))
    return torch.stack(latents), torch.stack(codes)


def reference_draws(
    network: WaveNetDecoder, latents: Tensor, codes: Tensor, uniforms: Tensor
) -> Tensor:
    """Return what the reference engine draws from the history of these codes, int64 [N, T]."""
    engine = ReferenceEngine(network, temperature=1.0, n_streams=len(codes))
    drawn = []
    for index in range(codes.shape[1]):
        frame = latents[:, index // network.hop_length]
        drawn.append(engine.advance(frame, uniforms[:, index : index + 1]))
        for stream, code in zip(engine.streams, codes[:, index], strict=True):
            stream.history[1] = code
    return torch.cat(drawn, dim=1)


@torch.inference_mode()
def batch_draws(
    network: WaveNetDecoder, latents: Tensor, codes: Tensor, uniforms: Tensor
) -> Tensor:
    """Return the same from a batch of the CPU engine."""
    batch = StreamBatch(
        prepare_weights(network),
        temperature=1.0,
        n_streams=len(codes),
        hop_length=network.hop_length,
        stopping=torch.tensor(False),
    )
    drawn = []
    for index in range(codes.shape[1]):
        frame = latents[:, index // network.hop_length]
        # One sample is less than an engine may be asked for; gates begun ahead stay in the batch.
        drawn.append(batch.advance(frame, uniforms[:, index : index + 1]))
        batch.history[1] = codes[:, index]
    return torch.cat(drawn, dim=1)


def rounded_logits(
    weights: Weights, latents: Tensor, codes: Tensor, dtype: torch.dtype, parts: tuple[str, ...]
) -> Tensor:
    """Return the logits of all samples, float [N, T, Q], with these parts of layers rounded."""

    def keep(part: str, values: Tensor) -> Tensor:
        return values.to(dtype).float() if part in parts else values

    n_places, n_samples = codes.shape
    history = F.pad(codes[:, :-1], (2, 0), value=weights.silence)
    rows = weights.newest[history[:, 1:]] + weights.second[history[:, :-1]]
    added = latents @ weights.condition + weights.condition_bias
    added = added.repeat_interleave(n_samples // latents.shape[1], dim=1)
    *conditions, mix_condition = added.split(weights.condition_widths, dim=2)
    for layer, condition in zip(weights.layers, conditions, strict=True):
        channels = len(layer.offset)
        x = keep("inputs", rows[..., :channels])
        before = keep("inputs", -layer.offset).expand(n_places, layer.dilation, channels)
        past = torch.cat([before, x], dim=1)[:, :n_samples]
        gates = keep("products", past @ keep("weights", layer.past)) + condition
        gates = keep("gates", gates)
        gates = gates + keep("products", x @ keep("weights", layer.present))
        gates = keep("gates", keep("gates", gates).sigmoid())
        gate, filtered = gates.chunk(2, dim=2)
        output = keep("outputs", gate - 2 * gate * filtered)
        rows = rows + keep("products", output @ keep("weights", layer.outgoing))
    mixed = rows[..., channels:].relu() @ weights.mix + mix_condition
    return mixed.relu() @ weights.output + weights.output_bias


def bits(logits: Tensor, codes: Tensor) -> Tensor:
    """Return the loss of each place, bits a sample, float [N]."""
    return F.cross_entropy(logits.transpose(1, 2), codes, reduction="none").mean(1) / math.log(2)


@torch.inference_mode()
def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("songs", type=Path, nargs="+")
    parser.add_argument("--to", help="domain of the decoder; the model's first by default")
    parser.add_argument("--places", type=int, default=16, help="of music, in all")
    args = parser.parse_args()
    model = Translator.load(args.model, domains=None if args.to is None else [args.to])
    network = cast("WaveNetDecoder", model.decoders[args.to or model.domains[0]])
    latents, codes = places(model, args.songs, max(1, args.places // len(args.songs)))
    uniforms = torch.rand(codes.shape, dtype=torch.float64, generator=torch.manual_seed(0))
    plain = network(codes, latents).transpose(1, 2)
    expected, loss = choose(plain, uniforms, 1.0), bits(plain, codes)
    print(f"{codes.numel()} samples of {len(codes)} places, {loss.mean():.3f} bits a sample")
    for name, engine in (("reference", reference_draws), ("CPU", batch_draws)):
        n_agreeing = int((engine(network, latents, codes, uniforms) == expected).sum())
        print(f"{name} engine: {n_agreeing} draws agree")
    weights = prepare_weights(network)
    print(f"{'layers rounded':50}{'agree':>7}{'bits lost':>10}")
    for dtype, parts in ROUNDED:
        logits = rounded_logits(weights, latents, codes, dtype, parts)
        agreeing = (choose(logits, uniforms, 1.0) == expected).float().mean()
        lost = bits(logits, codes) - loss
        error = lost.std() / len(lost) ** 0.5
        what = f"{str(dtype).removeprefix('torch.')} {', '.join(parts)}"
        print(f"{what:50}{agreeing:7.1%}{lost.mean():10.5f} ± {error:.5f}")


if __name__ == "__main__":
    main()
