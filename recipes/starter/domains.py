"""The table of domains: which keys each has, and which source of `instruments.py` plays them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Zone:
    """The keys from `low` to `high` and what plays them.

    `program` is the General MIDI program that stands for it in scores and other fonts.
    """

    low: int
    high: int
    source: str
    program: int


@dataclass(frozen=True)
class Domain:
    """What a domain is played by, from its lowest to its highest key; `bends` where it glides."""

    zones: tuple[Zone, ...]
    bends: bool

    @property
    def low(self) -> int:
        """The lowest key."""
        return self.zones[0].low

    @property
    def high(self) -> int:
        """The highest key."""
        return self.zones[-1].high

    def zone(self, pitch: int) -> Zone:
        """Return what plays a key."""
        return next(zone for zone in self.zones if pitch <= zone.high)


# The one table of domains. The first six are the starter's of old.
DOMAINS = {
    "piano": Domain((Zone(24, 105, "salamander", 0),), bends=False),
    "harpsichord": Domain((Zone(29, 89, "harpsichord", 6),), bends=False),
    "organ": Domain((Zone(36, 96, "church-organ", 19),), bends=False),
    "strings": Domain((Zone(28, 98, "ensemble", 48),), bends=True),
    "winds": Domain(
        (
            Zone(40, 55, "bassoon", 70),
            Zone(56, 71, "clarinet", 71),
            Zone(72, 96, "flute", 73),
        ),
        bends=True,
    ),
    "guitar": Domain((Zone(40, 84, "nylon", 24),), bends=False),
    "violin": Domain((Zone(55, 98, "violin", 40),), bends=True),
    "cello": Domain((Zone(36, 74, "cello", 42),), bends=True),
    "flute": Domain((Zone(60, 98, "flute", 73),), bends=True),
    "clarinet": Domain((Zone(50, 89, "clarinet", 71),), bends=True),
    "trumpet": Domain((Zone(48, 85, "trumpet", 56),), bends=True),
    "harp": Domain((Zone(28, 101, "harp", 46),), bends=False),
    "electric-guitar": Domain((Zone(37, 86, "electric", 27),), bends=False),
    "choir": Domain((Zone(40, 84, "choir", 52),), bends=True),
    "accordion": Domain((Zone(36, 96, "accordion", 21),), bends=False),
}
NEWCOMER = "accordion"  # in no starter: recipes/adding adds it
FIRST = ("piano", "harpsichord", "organ", "strings", "winds", "guitar")
