"""The pages of this repository, and what stands in them: links, paths, commands, Python."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "benchmarks/README.md",
        ROOT / "core/pretrained/starter.md",
        ROOT / "examples/README.md",
        *(ROOT / "recipes").rglob("*.md"),
    }
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
ROOMS = "core|umtcli|tests|docs|examples|recipes|benchmarks|completions"


@dataclass(frozen=True)
class Call:
    """One program's part of a command line, without pipes, redirections and comments.

    Attributes:
        program: `umt`, or the path of a script of this repository.
        arguments: What follows it.
    """

    program: str
    arguments: tuple[str, ...]


def text_of(name: str) -> str:
    """Return a page by its path from the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(name: str, language: str) -> list[str]:
    """Return a page's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(name), flags=re.DOTALL | re.MULTILINE)


def prose_of(name: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)


def shell_lines(name: str) -> list[str]:
    """Return the command lines of a page's shell blocks."""
    joined = "".join(code_blocks(name, "sh")).replace("\\\n", " ")
    lines = [shlex.join(shlex.split(line, comments=True)) for line in joined.splitlines()]
    kept = [line for line, parts in zip(joined.splitlines(), lines, strict=True) if parts]
    return [line.strip() for line in kept]


def calls_in(line: str) -> list[Call]:
    """Return the calls of umt and of this repository's scripts in a command line."""
    # Operators stand apart only where no quotes protect them.
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&>;")
    lexer.whitespace_split = True
    words = list(lexer)
    parts: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("|&>;"):
            parts.append([])
        else:
            parts[-1].append(word)
    found = []
    for part in parts:
        for i, word in enumerate(part):
            if re.fullmatch(r"(.*/)?(umt|umtcli)", word):
                found.append(Call("umt", tuple(part[i + 1 :])))
                break
            if word == "-m" and part[i + 1].startswith("benchmarks."):
                found.append(Call(f"{part[i + 1].replace('.', '/')}.py", tuple(part[i + 2 :])))
                break
            if word.startswith(("recipes/", "docs/")) and word.endswith(".py"):
                found.append(Call(word, tuple(part[i + 1 :])))
                break
    return found


def anchors_of(name: str) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(name), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links_of(name: str) -> list[str]:
    """Return the targets of a page's links and pictures that are not on the web."""
    prose = prose_of(name)
    inline = re.findall(r"\]\(([^)\s]+)\)", prose)
    named = re.findall(r"^\[[^\]]+\]: (\S+)$", prose, flags=re.MULTILINE)
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', prose)
    return [link for link in inline + named + pictures if "://" not in link]
