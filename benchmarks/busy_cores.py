"""Measure translation beside busy processes: `python -m benchmarks.busy_cores`.

OpenMP's threads spin while they wait for one another, which costs little on idle cores and much
on busy ones: the thread that is waited for gets no core. How long they spin is chosen before
torch is loaded (`umtcli.__main__`). Each choice is measured in a process of its own, alone and
beside as many busy processes as there are cores, in alternation with the library's default; the
fastest of several rounds counts, since other programs only ever make it slower. Where the system
allows it, the process that is measured alone has real-time priority, so that they do not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from umtcli.threads import SPIN_VARIABLES, spin_less

if TYPE_CHECKING:
    from collections.abc import Iterator

SONG = Path(__file__).parents[1] / "examples" / "song.wav"
BUSY = "while True: pass"


def choices(counts: list[int]) -> dict[str, dict[str, str]]:
    """Return environment variables by the name of what they choose."""
    chosen: dict[str, str] = {}
    spin_less(chosen)
    named = {"default": {}, "umt": chosen, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}
    return named | {f"spin {count}": {"GOMP_SPINCOUNT": str(count)} for count in counts}


@contextmanager
def busy_processes(n_processes: int) -> Iterator[None]:
    """Keep cores busy meanwhile."""
    command = [sys.executable, "-c", BUSY]
    busy = [subprocess.Popen(command) for _ in range(n_processes)]  # noqa: S603 - our own
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def seconds_of(variables: dict[str, str], seconds: float, repeats: int, *, is_alone: bool) -> float:
    """Return how long a process with these variables takes to translate, at best."""
    others = {name: value for name, value in os.environ.items() if name not in SPIN_VARIABLES}
    done = subprocess.run(  # noqa: S603 - our own
        [
            *(sys.executable, "-m", "benchmarks.busy_cores", "--seconds", str(seconds)),
            *("--repeats", str(repeats), "--work", "alone" if is_alone else "busy"),
        ],
        env=others | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def work(seconds: float, repeats: int, *, is_alone: bool) -> float:
    """Translate the beginning of the example; return the shortest time in seconds."""
    from core.audio.reader import read_audio
    from core.translator import Translator

    model = Translator.load("starter", domains=["piano"])
    waveform = read_audio(SONG, model.sample_rate)[: round(seconds * model.sample_rate)]
    model.translate(waveform, model.sample_rate, to="piano")  # warms up, and starts the threads
    if is_alone:
        with suppress(PermissionError):
            for thread in Path("/proc/self/task").iterdir():
                os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(50))
    times = []
    for _ in range(repeats):
        time.sleep(0.1)  # for the others
        start = time.perf_counter()
        model.translate(waveform, model.sample_rate, to="piano")
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print seconds alone and beside busy processes, and their ratios to the default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of sound")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=4, help="in a round")
    parser.add_argument("--spin", type=int, nargs="*", default=[], help="other counts to try")
    parser.add_argument("--work", choices=("alone", "busy"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(work(args.seconds, args.repeats, is_alone=args.work == "alone"))
        return
    n_cores = len(os.sched_getaffinity(0))
    found: dict[str, list[float]] = {}
    for n_busy in (0, n_cores):
        for _ in range(args.rounds):
            for name, variables in choices(args.spin).items():
                with busy_processes(n_busy):
                    took = seconds_of(variables, args.seconds, args.repeats, is_alone=not n_busy)
                best = found.setdefault(name, [float("inf"), float("inf")])
                index = int(n_busy > 0)
                best[index] = min(best[index], took)
    print(f"{args.seconds:g} s of sound on {n_cores} cores; load {os.getloadavg()[0]:.1f}")
    print(f"{'':12} {'alone':>8} {'busy':>8} {'busy/alone':>11} {'alone/default':>14}")
    for name, (alone, busy) in found.items():
        ratio = alone / found["default"][0]
        print(f"{name:12} {alone:7.3f}s {busy:7.3f}s {busy / alone:11.2f} {ratio:14.2f}")


if __name__ == "__main__":
    main()
