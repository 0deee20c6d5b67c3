"""Measure the sampling of WaveNet models: `python -m benchmarks.sampling --help`.

Each row is measured in a process of its own, with fresh weights, which are as fast as
trained ones. `textbook` is the baseline in the same run; see `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.products import least_seconds
from benchmarks.textbook import TextbookLoop
from core.families.wavenet.decoder import WaveNetDecoder
from core.families.wavenet.sampling import WaveNetOptions, cpu
from core.families.wavenet.sampling.cpu import CpuEngine
from core.families.wavenet.sampling.cuda import fitting_streams
from core.presets import get_preset
from core.streaming import WINDOW_SECONDS
from core.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEADER = (
    f"{'preset':9}{'what':17}{'streams':>8}{'rounds':>7}{'samples/s':>11}{'RTF':>9}{'CPU s/s':>9}"
    f"{'first s':>9}{'MB':>7}{'of mm':>7}{'(CPU)':>7}"
)
CHAIN_SECONDS = 0.1  # of sound, of what is too slow for more
ALBUM_SONGS = 8  # each a sixth as long as the song of the other rows


@dataclass
class Row:
    """What was measured.

    Attributes:
        preset: The networks' sizes.
        what: Engine and mode, or a part of the whole.
        streams: How many advance together; 0 where that is no question.
        sample_rate: Of the result, Hz.
        sound_seconds: Length of the result.
        work_seconds: Time that it took by the clock.
        cpu_seconds: Processor time that it took, over all threads.
        first_sound_seconds: Time until the first samples could be played.
        rounds: How many times all streams of the CPU engine advanced by a frame.
        peak_mb: Most memory of the process, 10^6 bytes.
        share: Multiply-adds a second, of all that were executed, against what `torch.mm`
            reaches on the same matrices; None where it was not measured.
        cpu_share: The same by processor time, which other programs disturb less.
    """

    preset: str
    what: str
    streams: int
    sample_rate: int
    sound_seconds: float
    work_seconds: float
    cpu_seconds: float
    first_sound_seconds: float | None = None
    rounds: int = 0
    peak_mb: float = 0.0
    share: float | None = None
    cpu_share: float | None = None

    @property
    def samples_per_second(self) -> float:
        """Samples of the result for each second by the clock."""
        return self.sound_seconds * self.sample_rate / self.work_seconds

    @property
    def real_time_factor(self) -> float:
        """Compute seconds per second of sound; lower is better."""
        return self.work_seconds / self.sound_seconds


class Clock:
    """Seconds since it was made: by the clock, and of processor time."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Return both."""
        return time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def textbook(preset: str, seconds: float) -> Row:
    """Measure the textbook loop, on a tenth of a second at most."""
    model = get_preset(preset).model
    loop = TextbookLoop(WaveNetDecoder(model))
    frame = torch.randn(model.latent_dim)
    loop.generate(frame, 10)
    count = round(min(seconds, CHAIN_SECONDS) * model.sample_rate)
    clock = Clock()
    loop.generate(frame, count)
    return Row(preset, "textbook", 1, model.sample_rate, count / model.sample_rate, *clock.read())


def chain(preset: str, seconds: float, *, engine: str) -> Row:
    """Measure one unbroken chain, on a tenth of a second at most."""
    options = WaveNetOptions(engine=engine, exact=True)
    return _decode(preset, min(seconds, CHAIN_SECONDS), f"{engine}, exact", options)


def chunks(preset: str, seconds: float) -> Row:
    """Measure the CPU engine on a whole song: warm-ups, joins and idle streams included."""
    row = _decode(preset, seconds, "cpu", WaveNetOptions(engine="cpu"))
    engine = CpuEngine(WaveNetDecoder(get_preset(preset).model), temperature=1.0)
    row.streams = engine.n_streams
    least, least_cpu = least_seconds(preset, engine, seconds)
    row.share, row.cpu_share = least / row.work_seconds, least_cpu / row.cpu_seconds
    return row


def album(preset: str, seconds: float, *, is_shared: bool, device: str = "cpu") -> Row:
    """Measure the decoder on short songs, which share batches or come one after the other."""
    model = Translator.create(get_preset(preset), ["a"]).eval().to(device)
    shape = round(seconds / 6 * model.latent_rate), model.latent_dim
    song = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    at_once = ALBUM_SONGS if is_shared else 1
    clock, n_samples = Clock(), 0
    for _ in range(ALBUM_SONGS // at_once):
        for waveform in model.decode_all([[song]] * at_once, to="a"):
            n_samples += _play(waveform, clock)[0]
    sound = n_samples / model.sample_rate
    what = f"{ALBUM_SONGS} songs {'shared' if is_shared else 'apart'}"
    if device != "cpu":
        what = f"{device}, {ALBUM_SONGS} songs"
    return Row(preset, what, 0, model.sample_rate, sound, *clock.read())


def gpu(preset: str, seconds: float) -> Row:
    """Measure the CUDA engine on a whole song, warm-ups and idle streams included."""
    row = _decode(preset, seconds, "cuda", WaveNetOptions(engine="cuda"), device="cuda")
    row.streams = fitting_streams(WaveNetDecoder(get_preset(preset).model))
    return row


def _decode(
    preset: str, seconds: float, what: str, options: WaveNetOptions, *, device: str = "cpu"
) -> Row:
    model = get_preset(preset).model
    decoder = WaveNetDecoder(model).to(device)
    latents = torch.randn(round(seconds * model.sample_rate / model.hop_length), model.latent_dim)
    blocks = iter(latents.to(device).split(100))
    clock = Clock()
    played = decoder.generate(blocks, window=100, seed=0, options=options)
    n_samples, first = _play(played, clock)
    sound = n_samples / model.sample_rate
    return Row(preset, what, 1, model.sample_rate, sound, *clock.read(), first)


def translation(preset: str, seconds: float, *, device: str = "cpu") -> Row:
    """Measure encoding and decoding a song that is there from the beginning."""
    model = Translator.create(get_preset(preset), ["a"]).eval().to(device)
    clock = Clock()
    latents = model.encode_blocks([_song(seconds, model.sample_rate)])
    n_samples, first = _play(model.decode_blocks(latents, to="a"), clock)
    sound = n_samples / model.sample_rate
    what = "translate" if device == "cpu" else f"{device}, translate"
    return Row(preset, what, 0, model.sample_rate, sound, *clock.read(), first)


def encoding(preset: str, seconds: float) -> Row:
    """Measure the encoder, on four of its windows at most."""
    model = Translator.create(get_preset(preset), ["a"]).eval()
    seconds = min(seconds, 2 * WINDOW_SECONDS)
    song = _song(seconds, model.sample_rate)
    list(model.encode_blocks([song[: model.sample_rate]]))
    clock = Clock()
    list(model.encode_blocks([song]))
    return Row(preset, "encode", 0, model.sample_rate, seconds, *clock.read())


def _song(seconds: float, sample_rate: int) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(round(seconds * sample_rate))
    return (0.1 * noise).astype(np.float32)


def _play(blocks: Iterator[object], clock: Clock) -> tuple[int, float]:
    """Take all blocks; return the samples in them and after how many seconds the first came."""
    n_samples, first = 0, 0.0
    for block in blocks:
        first = first or clock.read()[0]
        n_samples += len(block)  # type: ignore[arg-type]
    return n_samples, first


@contextmanager
def counted_samples() -> Iterator[list[int]]:
    """Give a list to which is added by how many samples CPU engines advance meanwhile."""
    parts: list[int] = []
    advance = CpuEngine.advance

    def counted(engine: CpuEngine, frames: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        parts.append(uniforms.shape[1])
        return advance(engine, frames, uniforms)

    with patch.object(CpuEngine, "advance", counted):
        yield parts


def machine() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        described = ""
    name = re.search(r"^model name\s*: (.*)$", described, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def _measured(
    case: Callable[..., Row], preset: str, seconds: float, *, n_threads: int, streams: int
) -> Row:
    torch.set_num_threads(n_threads)
    torch.manual_seed(0)
    cpu.STREAMS_PER_WORKER = streams
    with counted_samples() as parts:
        row = case(preset, seconds)
    row.rounds = sum(parts) // get_preset(preset).model.hop_length
    row.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return row


CASES: dict[str, Callable[[str, float], Row]] = {
    "textbook": textbook,
    "reference": partial(chain, engine="reference"),
    "exact": partial(chain, engine="cpu"),
    "chunks": chunks,
    "encode": encoding,
    "translate": translation,
    "apart": partial(album, is_shared=False),
    "shared": partial(album, is_shared=True),
}
if torch.cuda.is_available():
    CASES["cuda"] = gpu
    CASES["cuda-album"] = partial(album, is_shared=True, device="cuda")
    CASES["cuda-translate"] = partial(translation, device="cuda")


def main() -> None:
    """Measure what the command line asks for; a table on stdout, JSON where --json says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", default="small,paper")
    parser.add_argument("--cases", default=",".join(CASES), help="of " + ", ".join(CASES))
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the song")
    most = str(cpu.STREAMS_PER_WORKER)
    parser.add_argument("--streams", default=most, help="at most, of a worker; or several: 8,32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    print(f"{machine()}, torch {torch.__version__}, {args.threads} threads")
    print(HEADER)
    rows = []
    lists = (args.presets, args.streams, args.cases)
    for preset, streams, name in product(*(text.split(",") for text in lists)):
        own = {"n_threads": args.threads, "streams": int(streams)}
        # One process a case, so that memory is its own.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            row = pool.submit(_measured, CASES[name], preset, args.seconds, **own).result()
        rows.append(row)
        print(_line(row), flush=True)
    if args.json:
        facts = {"version": 1, "machine": machine(), "threads": args.threads}
        figures = [
            asdict(row)
            | {"samples_per_second": row.samples_per_second, "rtf": row.real_time_factor}
            for row in rows
        ]
        args.json.write_text(json.dumps(facts | {"rows": figures}, indent=2) + "\n")


def _line(row: Row) -> str:
    first = "" if row.first_sound_seconds is None else f"{row.first_sound_seconds:.2f}"
    shares = ["" if x is None else f"{100 * x:.0f} %" for x in (row.share, row.cpu_share)]
    return (
        f"{row.preset:9}{row.what:17}{row.streams or '':>8}{row.rounds or '':>7}"
        f"{row.samples_per_second:>11.0f}{row.real_time_factor:>9.2f}"
        f"{row.cpu_seconds / row.sound_seconds:>9.2f}{first:>9}{row.peak_mb:>7.0f}"
        f"{shares[0]:>7}{shares[1]:>7}"
    )


if __name__ == "__main__":
    main()
