"""Which files are audio, by name: the extensions umt reads, and the search through directories.

Whether a file really is audio is decided when it is opened (`core.audio.reader`).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

# Read by libsndfile itself, commonest first: error messages list them in this order.
SNDFILE_EXTENSIONS = (
    *("wav", "flac", "ogg", "mp3", "aiff", "opus", "aif", "aifc", "au", "caf", "oga"),
    *("rf64", "snd", "voc", "w64", "wave"),
)
FFMPEG_EXTENSIONS = (
    *("m4a", "aac", "mp4", "mkv", "webm", "wma", "mka", "mov", "avi", "m4b", "3gp"),
    *("ac3", "ape", "mpc", "tta", "wv"),
)
_KNOWN_SUFFIXES = frozenset(f".{name}" for name in SNDFILE_EXTENSIONS + FFMPEG_EXTENSIONS)


def has_ffmpeg() -> bool:
    """Say whether an `ffmpeg` program is on the PATH."""
    return shutil.which("ffmpeg") is not None


def readable_formats() -> list[str]:
    """List the file extensions that can be read here and now.

    Returns:
        Extensions without the dot, the commonest first; those of containers that only ffmpeg
        opens are left out where it is not installed.
    """
    return [*SNDFILE_EXTENSIONS, *(FFMPEG_EXTENSIONS if has_ffmpeg() else ())]


def find_audio(
    paths: Iterable[Path], *, skip: Callable[[Path, OSError], None] | None = None
) -> list[Path]:
    """Expand directories into the audio files below them.

    A path that is not a directory is kept whatever its name, also when it does not exist:
    opening it gives the error. Inside directories, at any depth, only known extensions count,
    names beginning with a dot are left out, and each real directory is entered once, so that
    symbolic links may form loops.

    Args:
        paths: Files and directories, in the order the user gave them.
        skip: Called with each directory that cannot be listed, which is then left out. None
            raises an error for the first one.

    Returns:
        Files in the order of `paths`, those of one directory sorted by path.

    Raises:
        AudioError: A directory cannot be listed.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(sorted(_walk(path, skip or _refuse)))
        else:
            found.append(path)
    return found


def _refuse(directory: Path, error: OSError) -> None:
    raise AudioError(
        f"{directory}: cannot be listed ({error.strerror}); make it readable or leave it out"
    ) from error


def _walk(top: Path, skip: Callable[[Path, OSError], None]) -> Iterator[Path]:
    """Yield the audio files below a directory."""
    seen: set[Path] = set()
    directories: list[Path] = [top]
    links: list[Path] = []
    while directories or links:
        # Real directories first: their files then keep the path that does not lead through a link.
        directory = (directories or links).pop(0)
        try:
            real = directory.resolve()
            if real in seen:
                continue
            seen.add(real)
            for entry in sorted(directory.iterdir()):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    (links if entry.is_symlink() else directories).append(entry)
                # A dangling link is kept, too: it is better reported as missing than left out.
                elif entry.suffix.lower() in _KNOWN_SUFFIXES and (
                    entry.is_file() or entry.is_symlink()
                ):
                    yield entry
        except OSError as error:
            skip(directory, error)
