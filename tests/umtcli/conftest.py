"""A small model of each family, short audio, and a runner that stands in for a shell."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pytest
import soundfile
import typer

from core.presets import get_preset
from umtcli.app import main
from umtcli.console import Environment, StreamKind

from .browser import Browser, open_browser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.config import Config

ROOT = Path(__file__).resolve().parents[2]
DOMAINS = ("organ", "piano")
SPECTRAL = get_preset("fast").updated(
    "model",
    encoder_channels=8,
    decoder_channels=8,
    encoder_hidden=8,
    decoder_hidden=8,
    encoder_layers=1,
    decoder_layers=1,
)
# Short frames: sampling takes a millisecond a sample, and tests need several chunks of frames.
WAVENET = get_preset("tiny").updated(
    "model",
    hop_length=160,
    encoder_channels=4,
    encoder_layers=2,
    latent_dim=5,
    decoder_layers=2,
    residual_channels=4,
    skip_channels=4,
)
RATE = SPECTRAL.model.sample_rate
HOP = SPECTRAL.model.hop_length
WIDTH = SPECTRAL.model.latent_dim
TUNE_RATE = 22050


@dataclass(frozen=True)
class Ran:
    """How a run of the program ended."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("umt: error: ")]


class Pipe(io.BytesIO):
    """Bytes in memory that cannot be rewound, like those of a pipe."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError("a pipe cannot seek")

    def tell(self) -> int:
        raise OSError("a pipe cannot tell")


@pytest.fixture(scope="session")
def spectral_model(tmp_path_factory) -> Path:
    """A feed-forward model, which decodes fast."""
    return _save_model(tmp_path_factory.mktemp("models") / "spectral.safetensors", SPECTRAL)


@pytest.fixture(scope="session")
def wavenet_model(tmp_path_factory) -> Path:
    """An autoregressive model at 16 kHz."""
    return _save_model(tmp_path_factory.mktemp("models") / "wavenet.safetensors", WAVENET)


def _save_model(path: Path, config: Config) -> Path:
    from core.translator import Translator

    Translator.create(config, DOMAINS, seed=1).save(path)
    return path


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models gain nothing from threads, and lose much on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _commands_built_once() -> Iterator[None]:
    """Typer builds the commands from their signatures in each run, a fifth of a short one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch, spectral_model) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UMT_MODEL", str(spectral_model))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def song(tmp_path) -> Path:
    """`song.wav`: 1.2 s of 44.1 kHz stereo."""
    return write_song(tmp_path / "song.wav", 1.2)


def write_song(path: Path, seconds: float, *, sample_rate: int = 44100, level: float = 0.3) -> Path:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    left = level * np.sin(2 * np.pi * 440 * time)
    soundfile.write(path, np.stack([left, 0.9 * left], axis=1), sample_rate)
    return path


@pytest.fixture
def umt() -> Callable[..., Ran]:
    """Run the program in this process, with streams of the kinds asked for.

    stdin is bytes, or a file that is read; what goes to a file given as stdout is not returned.
    """

    def run(
        *args: object,
        stdin: bytes | BinaryIO | None = None,
        stdout: BinaryIO | None = None,
        stdout_kind: StreamKind = "terminal",
        stdin_kind: StreamKind | None = None,
        stderr_is_terminal: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> Ran:
        stdout = stdout or Pipe()
        stderr = io.StringIO()
        env = Environment(
            stdin=Pipe(stdin or b"") if stdin is None or isinstance(stdin, bytes) else stdin,
            stdout=stdout,
            stderr=stderr,
            stdin_kind=stdin_kind or ("terminal" if stdin is None else "data"),
            stdout_kind=stdout_kind,
            stderr_is_terminal=stderr_is_terminal,
        )
        if clock is not None:
            env.clock = clock
        # `--help` and `--version` are printed by Typer, which knows only sys.stdout.
        text = io.TextIOWrapper(stdout, encoding="utf-8", write_through=True)
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(stderr):
            code = main([str(arg) for arg in args], env)
            text.flush()
        text.detach()
        made = stdout.getvalue() if isinstance(stdout, Pipe) else b""
        return Ran(code, made, stderr.getvalue())

    return run


@pytest.fixture
def completions(umt, monkeypatch) -> Callable[[str], list[str]]:
    """Return what TAB offers at the end of a line, as bash is told."""

    def offered(line: str) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("_UMT_COMPLETE", "complete_bash")
            patch.setenv("COMP_WORDS", line)
            patch.setenv("COMP_CWORD", str(line.count(" ")))
            return umt().stdout.decode().split()

    return offered


def umt_command(*args: object) -> list[str]:
    """Return the command line that runs the program as a process of its own."""
    return [sys.executable, "-m", "umtcli", *map(str, args)]


@pytest.fixture
def umt_process() -> Callable[..., Ran]:
    """Run the program as a process, its stdout and stderr pipes."""

    def run(*args: object, **options: Any) -> Ran:
        done = subprocess.run(
            umt_command(*args), capture_output=True, timeout=120, check=False, **options
        )
        return Ran(done.returncode, done.stdout, done.stderr.decode())

    return run


@pytest.fixture
def umt_on_path(tmp_path, monkeypatch) -> None:
    """Put an `umt` on the PATH, as an installation would."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "umt"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m umtcli "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def leaves(value: object) -> list[object]:
    """Return everything in a JSON value that is neither an object nor a list."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def read_wav(data: bytes) -> np.ndarray:
    """Return the samples of a whole WAV, int16 (T,), known length or not."""
    samples, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    return samples


def leftovers(folder: Path) -> list[str]:
    """Return the temporary files of results below a folder."""
    return [path.name for path in folder.rglob(".umt-*")]


@pytest.fixture(scope="session")
def downloads(tmp_path_factory) -> Path:
    """Where the browser saves files."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(downloads) -> Iterator[Browser]:
    """One window for all tests."""
    with open_browser(downloads) as window:
        yield window


def write_tune(path: Path, *, seconds: float = 4.0, hertz: float = 262.0, decay: float = 2.0):
    """Write half-second tones with harmonics."""
    t = np.arange(TUNE_RATE // 2) / TUNE_RATE
    steps = [0, 4, 7, 12, 9, 5, 2, 7]
    tones = [
        sum(np.sin(2 * np.pi * hertz * 2 ** (s / 12) * k * t) / k for k in range(1, 5))
        * np.exp(-decay * t)
        for s in (steps * int(seconds))[: int(2 * seconds)]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (0.15 * np.concatenate(tones)).astype(np.float32), TUNE_RATE)
    return path


@pytest.fixture
def paired_music(tmp_path) -> Path:
    """Two pieces, two domains, two renderings."""
    for piece, hertz in (("one", 262), ("two", 311)):
        for domain, decay in (("organ", 0), ("piano", 4)):
            for rendering, offset in (("loud", 0), ("soft", 0.5)):
                path = tmp_path / "pairs" / piece / f"{domain}--{rendering}.wav"
                write_tune(path, seconds=2, hertz=hertz, decay=decay + offset)
    return tmp_path / "pairs"
