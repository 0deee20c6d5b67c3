"""How far `umt translate --live` is behind its input, measured through real pipes.

A note is written to the program's stdin as it would come from a sound card, a piece at a time and
never early; what comes out is timed as it is read. Of each sample of the output, the delay is the
time from when the sample of the same number was written to when this one was read.

    python -m benchmarks.live --to piano --channels 2
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import threading
import time

import numpy as np

from core.audio.wav_writer import WavWriter

RATE = 44_100
PIECE = 0.01  # seconds that a sound card hands over at a time
SKIPPED = 3.0  # seconds at the start that are not counted: the model is being loaded


def music(seconds: float, n_channels: int) -> np.ndarray:
    """Return notes of half a second, of eight harmonics each, int16 [T, C]."""
    t = np.arange(round(seconds * RATE)) / RATE
    keys = np.array([60, 64, 67, 72, 71, 67, 62, 55])[(t / 0.5).astype(int) % 8]
    phase = np.cumsum(440 * 2 ** ((keys - 69) / 12)) / RATE
    own = sum(np.sin(2 * np.pi * h * phase) / h for h in range(1, 9)) * np.exp(-4 * (t % 0.5))
    sides = [own * (1 - 0.5 * side) for side in range(n_channels)]
    return np.rint(6000 * np.stack(sides, axis=1)).astype("<i2")


def main() -> None:
    """Measure, and print one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--to", default="piano")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--channels", type=int, default=1, choices=(1, 2))
    options = parser.parse_args()
    delays, busy = measure(options.model, options.to, options.seconds, options.channels)
    median, late, worst = (1000 * x for x in np.quantile(delays, (0.5, 0.99, 1)))
    print("behind, ms: median   99 %  worst   processor")
    print(f"            {median:6.0f} {late:6.0f} {worst:6.0f}   {busy:.0%} of a core")


def measure(model: str, to: str, seconds: float, n_channels: int) -> tuple[np.ndarray, float]:
    """Return the delay of each piece that was read, in seconds, and the processor's share."""
    samples = music(seconds, n_channels)
    command = [sys.executable, "-m", "umtcli", "translate", "--to", to, "-m", model]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*command, "--live", "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdin is not None
    assert process.stdout is not None
    written: list[tuple[int, float]] = []  # samples in all, and when
    feeder = threading.Thread(target=feed, args=(process.stdin, samples, written))
    feeder.start()
    read: list[tuple[int, float]] = []
    n_bytes, header = 0, None
    while piece := process.stdout.read(1 << 16):
        now = time.monotonic()
        if header is None:
            header = piece.index(b"data") + 8
        n_bytes += len(piece)
        read.append(((n_bytes - header) // (2 * n_channels), now))
    feeder.join()
    process.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    counts, times = (np.array(column) for column in zip(*written, strict=True))
    delays = []
    before = 0
    for n_samples, now in read:
        # The first sample of a piece has waited longest.
        if SKIPPED * RATE < before < len(samples) - RATE:
            delays.append(now - times[np.searchsorted(counts, before, side="right")])
        before = n_samples
    return np.array(delays), (usage.ru_utime + usage.ru_stime) / seconds


def feed(stream: object, samples: np.ndarray, written: list[tuple[int, float]]) -> None:
    """Write samples at their own speed."""
    from core.audio.tags import NO_TAGS

    writer = WavWriter(
        stream,  # type: ignore[arg-type]
        sample_rate=RATE,
        n_channels=samples.shape[1],
        n_samples=None,
        tags=NO_TAGS,
        software="benchmark",
        can_seek=False,
    )
    began = time.monotonic()
    step = round(PIECE * RATE)
    for start in range(0, len(samples), step):
        time.sleep(max(0.0, began + (start + step) / RATE - time.monotonic()))
        writer.write(samples[start : start + step])
        written.append((min(start + step, len(samples)), time.monotonic()))
    stream.close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
