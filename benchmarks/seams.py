"""Measure the seams between chunks: `python -m benchmarks.seams MODEL AUDIO --to DOMAIN`.

What a seam would sound like is a click (a jump from one sample to the next) or a change of
spectrum (flux). Both are measured in the frames in which chunks are joined and in all the
others of the same translation; a seam that nobody hears does not stand out from those.

Warm-up and length of the chunks can be others than the product's, to choose them by what
they cost: the share of the frames computed that end up in a song.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.products import n_rounds
from core.families.wavenet.sampling import WaveNetOptions, chunks
from core.model import Translator

N_FFT, STEP = 512, 80  # samples
N_STREAMS = 128  # of two workers
SONG_SECONDS = (60, 180, 3600)


def flux_of_frames(waveform: torch.Tensor, hop_length: int) -> torch.Tensor:
    """Return the largest spectral flux of each frame, dB averaged over the bins, float [L]."""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(waveform, N_FFT, STEP, window=window, return_complex=True).abs()
    level = 20 * (spectrum + 1e-3).log10()
    rise = level.diff(dim=1).clamp(min=0).mean(0)
    return rise.unfold(0, hop_length // STEP, hop_length // STEP).max(1).values


def jumps_of_frames(waveform: torch.Tensor, hop_length: int) -> torch.Tensor:
    """Return the largest difference of neighbouring samples in each frame, float [L]."""
    jumps = waveform.diff(prepend=waveform[:1]).abs()
    return jumps.view(-1, hop_length).max(1).values


def main() -> None:
    """Translate, and print both measures at joins and elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--to", required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--warmup", type=int, help="frames of a chunk before its own")
    parser.add_argument("--longest", type=int, help="frames of the longest chunks")
    args = parser.parse_args()
    chunks.WARMUP_FRAMES = args.warmup or chunks.WARMUP_FRAMES
    if args.longest:
        chunks.LONGEST_FRAMES = chunks.LONGEST_LATER_FRAMES = args.longest
    model = Translator.load(args.model, domains=[args.to])
    audio, rate = soundfile.read(args.audio, dtype="float32", always_2d=True)
    latents = model.encode(audio[: round(args.seconds * rate)].mean(1), rate)
    options = WaveNetOptions(temperature=args.temperature)
    waveform = torch.from_numpy(model.decode(latents, to=args.to, options=options))

    for seconds in SONG_SECONDS:
        n_frames = seconds * model.latent_rate
        share = n_frames / (N_STREAMS * n_rounds(N_STREAMS, n_frames))
        print(f"{share:.0%} of the frames computed for {seconds} s end up in them")
    # Chunks are joined in the last frame of each but the last.
    planned = zip(chunks.plan(), range(len(latents)), strict=False)
    ends = np.array([chunk.end - 1 for chunk, _ in planned])
    joined = torch.zeros(len(latents), dtype=torch.bool)
    joined[ends[ends < len(latents) - 1]] = True
    print(f"{int(joined.sum())} joins in {len(latents)} frames; median, 95th percentile, largest")
    for name, measure in (("flux, dB", flux_of_frames), ("jump", jumps_of_frames)):
        values = measure(waveform, model.hop_length)[: len(latents)]
        for place, chosen in (("at joins", joined), ("elsewhere", ~joined)):
            few = torch.tensor([0.5, 0.95, 1.0])
            figures = values[chosen[: len(values)]].quantile(few).tolist()
            print(f"{name:10}{place:11}" + "".join(f"{figure:9.4f}" for figure in figures))


if __name__ == "__main__":
    main()
