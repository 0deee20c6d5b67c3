"""Measure the seams between chunks: `python -m benchmarks.seams MODEL SONG.wav ... --to DOMAIN`.

What a seam would sound like is a click (a jump from one sample to the next) or a change of
spectrum (flux). Both are measured in the frames in which chunks are joined and in all the
others of the same translation; a seam that nobody hears does not stand out from those.

Warm-up and length of the chunks can be others than the product's, to choose them by what
they cost: the share of the frames computed that end up in a song.
"""

from __future__ import annotations

import argparse
from itertools import takewhile
from pathlib import Path

import soundfile
import torch

from benchmarks.products import n_rounds
from core.families.wavenet.sampling import WaveNetOptions, chunks
from core.translator import Translator

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


def frames_with_joins(n_frames: int) -> torch.Tensor:
    """Return which frames of a song have a join, bool [n_frames]: of each chunk the last."""
    ends = (chunk.end for chunk in chunks.plan())
    joined = torch.zeros(n_frames, dtype=torch.bool)
    for end in takewhile(lambda end: end < n_frames, ends):
        joined[end - 1] = True
    return joined


def main() -> None:
    """Translate, and print both measures at joins and elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("songs", type=Path, nargs="+")
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
    for seconds in SONG_SECONDS:
        n_frames = seconds * model.latent_rate
        share = n_frames / (N_STREAMS * n_rounds(N_STREAMS, n_frames))
        print(f"{share:.0%} of the frames computed for {seconds} s end up in them")
    options = WaveNetOptions(temperature=args.temperature)
    measured: dict[str, list[torch.Tensor]] = {"flux, dB": [], "jump": []}
    is_join = []
    for song in args.songs:
        audio, rate = soundfile.read(song, dtype="float32", always_2d=True)
        latents = model.encode(audio[: round(args.seconds * rate)].mean(1), rate)
        waveform = torch.from_numpy(model.decode(latents, to=args.to, options=options))
        n_frames = len(waveform) // model.hop_length
        measured["flux, dB"].append(flux_of_frames(waveform, model.hop_length)[:n_frames])
        measured["jump"].append(jumps_of_frames(waveform, model.hop_length))
        is_join.append(frames_with_joins(n_frames))
    joined = torch.cat(is_join)
    print(f"{int(joined.sum())} joins in {len(joined)} frames; median, 95th percentile, largest")
    for name, parts in measured.items():
        values = torch.cat(parts)
        for place, chosen in (("at joins", joined), ("elsewhere", ~joined)):
            figures = values[chosen].quantile(torch.tensor([0.5, 0.95, 1.0])).tolist()
            print(f"{name:10}{place:11}" + "".join(f"{figure:9.4f}" for figure in figures))


if __name__ == "__main__":
    main()
