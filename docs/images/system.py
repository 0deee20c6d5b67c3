"""Draw the system for the README: system-light.svg and system-dark.svg beside this script."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 960, 400
SANS = "-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"


@dataclass(frozen=True)
class Palette:
    """Colours that stand out from GitHub's light or dark page."""

    ink: str
    faint: str
    box: str
    accent: str
    accent_box: str
    warm: str


PALETTES = {
    "light": Palette("#1f2328", "#6e7781", "#f3f5f8", "#0a63c9", "#ddeeff", "#b4470f"),
    "dark": Palette("#e6edf3", "#9aa4af", "#1b222b", "#6cb2ff", "#12304f", "#ffa36b"),
}


class Drawing:
    """The elements of one picture, in the order in which they are painted."""

    def __init__(self, palette: Palette) -> None:
        self.palette = palette
        self.elements: list[str] = []

    def text(
        self, x: float, y: float, words: str, *, size: int = 14, fill: str = "", **kwargs: str
    ) -> None:
        """Write one line, centred unless `anchor` names another place for x."""
        anchor = kwargs.get("anchor", "middle")
        weight = kwargs.get("weight", "400")
        family = kwargs.get("family", SANS)
        self.elements.append(
            f'<text x="{x:g}" y="{y:g}" font-family="{family}" font-size="{size}" '
            f'font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="{fill or self.palette.ink}">{words}</text>'
        )

    def box(
        self, x: float, y: float, width: float, height: float, *, fill: str, stroke: str, dash: bool
    ) -> None:
        """Draw a rounded rectangle from its left upper corner."""
        dashes = ' stroke-dasharray="5 4"' if dash else ""
        self.elements.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" '
            f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"{dashes}/>'
        )

    def arrow(self, path: str, *, stroke: str, width: float = 1.5, dash: bool = False) -> None:
        """Draw a path with a head at its end."""
        dashes = ' stroke-dasharray="5 4"' if dash else ""
        head = "accent" if stroke == self.palette.accent else "plain"
        head = "warm" if stroke == self.palette.warm else head
        self.elements.append(
            f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="{width:g}"'
            f'{dashes} marker-end="url(#{head})"/>'
        )

    def waveform(self, x: float, y: float, heights: list[float], stroke: str) -> None:
        """Draw bars around the line y, as players do."""
        bars = "".join(
            f"M{x + 5 * i:g} {y - height:.1f}V{y + height:.1f}" for i, height in enumerate(heights)
        )
        self.elements.append(
            f'<path d="{bars}" stroke="{stroke}" stroke-width="2.6" stroke-linecap="round"/>'
        )

    def svg(self) -> str:
        """Return the whole file."""
        heads = "".join(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            f'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
            f'<path d="M0 0L8 4L0 8Z" fill="{colour}"/></marker>'
            for name, colour in (
                ("plain", self.palette.faint),
                ("accent", self.palette.accent),
                ("warm", self.palette.warm),
            )
        )
        body = "\n".join(self.elements)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img">\n'
            "<title>One encoder, latents, one decoder for each instrument</title>\n"
            f"<defs>{heads}</defs>\n{body}\n</svg>\n"
        )


def bowed(n: int) -> list[float]:
    """Return bar heights of notes that swell and stay."""
    return [9 + 19 * math.sin(math.pi * ((i % 8) + 0.6) / 8.4) for i in range(n)]


def struck(n: int) -> list[float]:
    """Return bar heights of notes that begin at once and die away."""
    return [6 + 26 * math.exp(-0.45 * (i % 8)) for i in range(n)]


def draw(palette: Palette) -> Drawing:
    """Draw the flow of a translation from left to right, and its commands below."""
    it = Drawing(palette)
    middle = 172
    # The source.
    it.waveform(26, middle, bowed(22), palette.warm)
    it.text(79, middle + 62, "song.wav", family=MONO)
    it.text(79, middle + 81, "a string quartet", size=12, fill=palette.faint)
    it.arrow(f"M144 {middle}H184", stroke=palette.accent, width=2.5)
    # The encoder.
    it.box(192, middle - 42, 136, 84, fill=palette.box, stroke=palette.ink, dash=False)
    it.text(260, middle - 2, "encoder", size=17, weight="600")
    it.text(260, middle + 19, "one for all", size=12, fill=palette.faint)
    it.arrow(f"M330 {middle}H370", stroke=palette.accent, width=2.5)
    # The latents: a piano roll, for what is left in them is the music.
    it.box(378, middle - 42, 146, 84, fill=palette.box, stroke=palette.faint, dash=False)
    notes = random.Random(7)  # noqa: S311
    for step in range(8):
        for row in sorted(notes.sample(range(9), 3)):
            length = notes.choice((11, 14, 30))
            x = 386 + 16.5 * step
            length = min(length, 516 - x)
            it.elements.append(
                f'<rect x="{x:g}" y="{middle - 35 + 8 * row:g}" width="{length:g}" height="5" '
                f'rx="1.5" fill="{palette.accent}" opacity="{notes.choice((0.45, 0.7, 1))}"/>'
            )
    it.text(451, middle + 62, "latents.npy", family=MONO)
    it.text(451, middle + 81, "the music, a NumPy array", size=12, fill=palette.faint)
    # The confusion network.
    it.box(344, 22, 214, 54, fill="none", stroke=palette.faint, dash=True)
    it.text(451, 45, "domain confusion network", size=14)
    it.text(451, 64, "which instrument was it? (training)", size=12, fill=palette.faint)
    it.arrow(f"M451 {middle - 44}V80", stroke=palette.faint, dash=True)
    it.arrow(f"M342 49H260V{middle - 46}", stroke=palette.faint, dash=True)
    it.text(252, 84, "the encoder", size=12, fill=palette.faint, anchor="end")
    it.text(252, 100, "learns to defeat it", size=12, fill=palette.faint, anchor="end")
    # The decoders.
    rows = [("piano", True), ("organ", False), ("strings", False), ("your banjo", False)]
    for i, (name, chosen) in enumerate(rows):
        y = 74 + 52 * i
        is_own = name == rows[-1][0]
        it.box(
            602,
            y,
            136,
            40,
            fill=palette.accent_box if chosen else palette.box,
            stroke=palette.accent if chosen else palette.faint,
            dash=is_own,
        )
        it.text(670, y + 25, name, size=15, weight="600" if chosen else "400")
        bend = f"M526 {middle}C566 {middle} 558 {y + 20} 594 {y + 20}"
        colour = palette.accent if chosen else palette.faint
        it.arrow(bend, stroke=colour, width=2.5 if chosen else 1.2)
    it.text(670, 54, "one decoder for each instrument", size=12, fill=palette.faint)
    # The translation.
    it.arrow("M740 94H790", stroke=palette.accent, width=2.5)
    it.waveform(804, 94, struck(24), palette.accent)
    it.text(862, 156, "song.piano.wav", family=MONO)
    it.text(862, 175, "the same music on a piano", size=12, fill=palette.faint)
    # The commands.
    for left, right, y, words in (
        (20, 526, 312, "umt encode song.wav"),
        (546, 940, 312, "umt decode --to piano &gt; song.piano.wav"),
        (20, 940, 368, "umt translate song.wav --to piano"),
    ):
        rule = f"M{left} {y - 30}v8H{right}v-8"
        it.elements.append(
            f'<path d="{rule}" fill="none" stroke="{palette.faint}" stroke-width="1.2"/>'
        )
        it.text((left + right) / 2, y, words, family=MONO, size=15)
    it.text(536, 312, "|", family=MONO, size=17, weight="700", fill=palette.warm)
    it.text(480, 391, "the same samples either way", size=12, fill=palette.faint)
    return it


if __name__ == "__main__":
    for name, palette in PALETTES.items():
        path = Path(__file__).with_name(f"system-{name}.svg")
        path.write_text(draw(palette).svg(), encoding="utf-8")
