"""Read what only ffmpeg opens, through the `ffmpeg` program when it is on the PATH.

In: a file. Out: float32 (T, C) blocks at the native rate, parsed from the WAV that ffmpeg writes
to its stdout. A module of its own: it is the only part that starts another program.

ffmpeg opens far more than audio. A playlist of a hundred bytes would make it read other files,
or never end, so it gets a list of the containers that it may open and only the file that was named.
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import tempfile
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from core.audio.file_readers import NotRecognisedError, read_in_blocks
from core.audio.joined import copied, mp4_parts
from core.audio.wav import OtherEncodingError, WavReader
from core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core.audio.file_readers import Blocks

_logger = logging.getLogger(__name__)

# ffmpeg's names of containers that hold sound and refer to no other file.
_CONTAINERS = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "eac3"),
    *("flac", "flv", "iff", "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "ogg"),
    *("rm", "tak", "truehd", "tta", "voc", "w64", "wav", "webm", "wv", "xwma"),
)
_BLOCK_SECONDS = 1
_STALL_SECONDS = 30.0  # without a byte of sound from a file on a disk: it will not come
_LARGEST_ALLOCATION = 1 << 29  # bytes, of which a damaged file would ask for any number
_TOLERATED_SECONDS = 0.5  # by which containers are out
_LOG_BYTES = 1 << 20
_LOG_LINE = re.compile(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )?\[(error|fatal|info|warning)\] *(.*)$")
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")


class FfmpegReader:
    """The first audio stream of a file, at its native rate; see `FileReader`."""

    def __init__(self, path: Path, label: str) -> None:
        self._path = path
        self._label = label
        self.is_live = False
        self.n_samples: int | None = None  # containers tell a duration, but not to the sample
        with path.open("rb") as stream:
            self._parts = mp4_parts(stream)
        with self._run(path) as (process, log):
            wav = _open_output(process, log)
            self.sample_rate = wav.format.sample_rate
            self.n_channels = wav.format.n_channels
            self.tags = wav.tags  # ffmpeg passes on those of the container

    def read(self, start: int) -> tuple[int, Blocks]:  # noqa: ARG002 - seeking is not exact
        """Return 0 and the blocks."""
        return 0, self._blocks()

    def _blocks(self) -> Blocks:
        if len(self._parts) == 1:
            yield from self._decode(self._path)
            return
        with self._path.open("rb") as stream:
            for part in self._parts:
                with copied(stream, [part]) as copy:
                    yield from self._decode(type(self._path)(copy.name))

    def _decode(self, path: Path) -> Blocks:
        n_samples = 0
        with self._run(path) as (process, log):
            wav = _open_output(process, log)
            if (wav.format.sample_rate, wav.format.n_channels) != (
                self.sample_rate,
                self.n_channels,
            ):
                raise AudioError("joins recordings of several rates or channels; convert each")
            with closing(read_in_blocks(wav, _BLOCK_SECONDS)) as blocks:
                for block in self._watched(blocks):
                    n_samples += len(block)
                    yield block
            reason = _reason(log)
            if process.wait() != 0:
                raise AudioError(f"cannot be decoded ({reason}); get a whole copy")
            self._report(log, reason, n_samples / self.sample_rate)

    def _watched(self, blocks: Blocks) -> Blocks:
        try:
            yield from blocks
        except TimeoutError as error:
            raise AudioError(
                f"ffmpeg decodes nothing more ({error}); convert it to wav by itself"
            ) from error

    def _report(self, log: IO[bytes], reason: str, seconds: float) -> None:
        """Log what ffmpeg left out: damaged packets, and what the container announced."""
        lines = _lines(log)
        errors = [text for level, text in lines if level == "error"]
        text = "\n".join(text for _, text in lines)
        announced = _DURATION.search(text)
        n_streams = len(set(re.findall(r"Stream #0:\d+.*?: (?:Audio|Video|Subtitle)", text)))
        if errors:
            _logger.warning("%s: ffmpeg left out what is damaged (%s)", self._label, reason)
        elif announced and n_streams == 2:  # one in, one out: a film may be longer than its sound
            hours, minutes, rest = announced.groups()
            total = 3600 * int(hours) + 60 * int(minutes) + float(rest)
            if total - seconds > _TOLERATED_SECONDS:
                _logger.warning(
                    "%s: announces %.1f s, of which %.1f s are there", self._label, total, seconds
                )

    @contextmanager
    def _run(self, path: Path) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        """Start ffmpeg with WAV on its stdout; stop it on leaving."""
        program = shutil.which("ffmpeg")
        if program is None:
            raise NotRecognisedError("ffmpeg is not installed")
        command = [program, "-nostdin", "-hide_banner", "-nostats", "-v", "level+info"]
        command += ["-max_alloc", str(_LARGEST_ALLOCATION)]
        command += ["-format_whitelist", ",".join(_CONTAINERS), "-protocol_whitelist", "file"]
        command += ["-i", f"file:{path}", "-map", "0:a:0"]
        command += ["-f", "wav", "-c:a", "pcm_f32le", "pipe:1"]
        with (
            tempfile.TemporaryFile() as log,
            subprocess.Popen(  # noqa: S603 - no shell, and the path cannot be an option
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            ) as process,
        ):
            try:
                yield process, log
            finally:
                process.kill()


def _open_output(process: subprocess.Popen[bytes], log: IO[bytes]) -> WavReader:
    """Read the header of ffmpeg's output; there is none when it failed."""
    assert process.stdout is not None
    try:
        return WavReader(
            cast("BinaryIO", process.stdout),
            label="ffmpeg's output",
            timeout_seconds=_STALL_SECONDS,
        )
    except OtherEncodingError as error:
        process.wait()
        raise NotRecognisedError(_reason(log)) from error
    except TimeoutError as error:
        raise NotRecognisedError(f"ffmpeg finds no sound: {error}") from error


def _lines(log: IO[bytes]) -> list[tuple[str, str]]:
    """Return level and text of each line of ffmpeg's log."""
    log.seek(0)
    lines = log.read(_LOG_BYTES).decode("utf-8", "replace").splitlines()
    return [(match[1], match[2]) for line in lines if (match := _LOG_LINE.match(line))]


def _reason(log: IO[bytes]) -> str:
    """Return why ffmpeg failed, in its own words where these are understood without it."""
    reasons: list[str] = []
    for level, text in _lines(log):
        if level not in ("error", "fatal"):
            continue
        if "matches no streams" in text:
            return "there is no sound in it"
        if "not on whitelist" in text:
            return "a playlist, or another kind of file that is not audio"
        reason = re.sub(r"^file:.*?: (?=[A-Z])", "", text.strip()).rstrip(".")
        if reason and reason not in reasons:
            reasons.append(reason)
    return "; ".join(reasons[:2]) or "no sound in it"
